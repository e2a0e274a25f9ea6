"""The one training loop; a backend supplies only the step."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.data.dataset import Part, one_hot
from harness.errors import HarnessError, MeasurementError
from harness.maths.channels import channel_axis_of
from harness.maths.objectives import CrossEntropy
from harness.maths.query import logits_of
from harness.progress import progress_bar
from harness.protocol import (
    Batch,
    FloatArray,
    IntArray,
    Model,
    Network,
    Step,
    Trainer,
    Weights,
)
from harness.results.records import Epoch
from harness.spec.training import TrainingSpec
from harness.training.adversary import Adversary, probe
from harness.training.augmentation import augment
from harness.training.certifying import Certifying
from harness.training.checkpoint import Checkpoint, fits

LOG = logging.getLogger(__name__)
AVERAGE_EVERY = 16
"""Steps between two updates of the averaged weights."""


class TrainingError(HarnessError):
    """A training that diverged; it gives no model."""


@dataclass(frozen=True)
class Trained:
    """What a training leaves: the weights of its best epoch, and its history."""

    weights: Weights
    best_epoch: int
    history: tuple[Epoch, ...]


def train(
    trainer: Trainer,
    training: Part,
    validation: Part,
    recipe: TrainingSpec,
    *,
    seed: int,
    title: str,
    on_epoch: Callable[[Epoch], None] | None = None,
    checkpoint: Path | None = None,
) -> Trained:
    """Train until the recipe's epochs are over, or no better epoch has come for a while.

    The best epoch is the one of highest validation accuracy, and of lowest validation loss among
    equals; in adversarial training the accuracy under PGD is added, in certified training the
    certified accuracy at the epsilon of its end. Its weights are returned. Every backend sees the
    same images, distorted in the same way, in the same order.

    Args:
        trainer: A backend's trainer, with initial weights.
        training: Images and labels to learn from.
        validation: Images and labels to stop by.
        recipe: How to train.
        seed: Seed of the order of the images, and of their distortions.
        title: What the progress bar says.
        on_epoch: Called after each epoch; what it raises ends the training.
        checkpoint: A file that each epoch is saved to. If it is there, training goes on from it,
            and ends as if it had never been interrupted.

    Raises:
        TrainingError: The loss became NaN or infinite.
    """
    loop = _Loop(trainer, training, validation, recipe, seed, title)
    if checkpoint is not None:
        loop.resume(checkpoint)
    with progress_bar(title, recipe.epochs, done=len(loop.history)) as advance:
        while not loop.finished():
            epoch = loop.epoch()
            LOG.debug(
                "%s: epoch %d, loss %.4f, validation %.2f %%",
                title, epoch.epoch, epoch.loss, 100 * epoch.validation_accuracy,
            )  # fmt: skip
            advance(f"loss {epoch.loss:.4f}, validation {epoch.validation_accuracy:.2%}")
            if on_epoch is not None:
                on_epoch(epoch)
            if checkpoint is not None:
                loop.save(checkpoint)
    return Trained(loop.best_weights, loop.best_epoch, tuple(loop.history))


def learning_rates(recipe: TrainingSpec, steps: int) -> Callable[[int], float]:
    """The learning rate of each step (from 0), with ``steps`` steps an epoch.

    ``cosine`` falls from the recipe's rate to zero along half a cosine (Loshchilov & Hutter 2017,
    eq. 5, without restarts); ``one-cycle`` first rises to it, in a fifth of the time (Smith 2018).
    """
    total = recipe.epochs * steps
    rising = total / 5 if recipe.schedule == "one-cycle" else 0.0

    def rate(step: int) -> float:
        if recipe.schedule == "constant":
            return recipe.learning_rate
        if step < rising:
            return recipe.learning_rate * (step + 1) / (rising + 1)
        left = (step - rising) / (total - rising)
        return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * left))

    return rate


@dataclass
class _Loop:
    """A training under way."""

    trainer: Trainer
    training: Part
    validation: Part
    recipe: TrainingSpec
    seed: int
    title: str
    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = 0
    best_weights: Weights = field(default_factory=dict)
    averaged: dict[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, size = len(self.training), self.recipe.batch_size
        # One image left over joins the batch before it: alone it cannot be batch-normalised.
        left_over = count > 1 and count % size == 1
        self.steps = math.ceil(count / size) - left_over
        self.rate = learning_rates(self.recipe, self.steps)
        self.classes = logits_of(self.trainer.model, self.training.x[:1]).shape[1]
        self.adversary = Adversary(self.recipe.adversary) if self.recipe.adversary else None
        self.certifying = Certifying(self.recipe.certified) if self.recipe.certified else None

    def finished(self) -> bool:
        """Whether the epochs are over, or the patience."""
        done = len(self.history)
        return done >= self.recipe.epochs or (
            done > 0 and done - self.best_epoch >= self.recipe.patience
        )

    def epoch(self) -> Epoch:
        """Train for one epoch, judge it, and keep its weights if it is the best so far."""
        started = time.perf_counter()
        number = len(self.history) + 1
        first = (number - 1) * self.steps
        loss, accuracy = self._pass(number, first)
        weights = self.averaged or self.trainer.weights()
        judged = self._judge(weights, number)
        epoch = Epoch(
            epoch=number,
            loss=loss,
            accuracy=accuracy,
            learning_rate=self.rate(first),
            seconds=time.perf_counter() - started,
            **judged,
        )
        if not self.history or _merit(epoch) > _merit(self.history[self.best_epoch - 1]):
            self.best_epoch, self.best_weights = number, dict(weights)
        self.history.append(epoch)
        return epoch

    def save(self, path: Path) -> None:
        """Write down all that is needed to go on."""
        Checkpoint(
            tuple(self.history), self.best_epoch, self.best_weights, self.averaged,
            self.trainer.state(),
        ).write(path)  # fmt: skip

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one of such a training; any other is removed."""
        found = Checkpoint.read(path)
        if found is None or not self._restored(found):
            path.unlink(missing_ok=True)
            return
        self.history, self.best_epoch = list(found.history), found.best_epoch
        self.best_weights, self.averaged = found.best_weights, found.averaged

    def _restored(self, found: Checkpoint) -> bool:
        """Whether a checkpoint is of such a training; the trainer then goes on from it."""
        shapes = {name: value.shape for name, value in self.trainer.weights().items()}
        wanted = shapes if self.recipe.averaging else {}
        if len(found.history) > self.recipe.epochs or not fits(found.best_weights, shapes):
            return False
        if not fits(found.averaged, wanted):
            return False
        try:
            self.trainer.restore(found.trainer)
        except ValueError:
            return False
        return True

    def _pass(self, number: int, first: int) -> tuple[float, float]:
        """Mean loss and accuracy over all training images, taken as they come by."""
        loss_sum, correct = 0.0, 0
        for index, (x, y) in enumerate(self._batches(number)):
            step = first + index
            loss, hits = self._step(x, y, step)
            if not math.isfinite(loss):
                raise TrainingError(
                    f"{self.title}: the loss became {loss} in epoch {number}; {self._remedy()}"
                )
            loss_sum += loss * len(y)
            correct += hits
            if self.recipe.averaging and step % AVERAGE_EVERY == 0:
                self._average(step // AVERAGE_EVERY)
        return loss_sum / len(self.training), correct / len(self.training)

    def _batches(self, number: int) -> Iterator[tuple[FloatArray, IntArray]]:
        """The epoch's batches: each training image once, in a new order, distorted anew."""
        random = np.random.default_rng([self.seed, number])
        order = random.permutation(len(self.training))
        axis = channel_axis_of(self.trainer.model, self.training.x.shape[1:])
        size = self.recipe.batch_size
        for chosen in np.split(order, range(size, self.steps * size, size)):
            x = self.training.x[chosen]
            yield augment(self.recipe.augmentation, x, random, axis), self.training.y[chosen]

    def _step(self, x: FloatArray, y: IntArray, step: int) -> Step:
        targets = one_hot(y, self.classes)
        if self.recipe.label_smoothing:
            share = self.recipe.label_smoothing
            targets = targets * np.float32(1 - share) + np.float32(share / self.classes)
        progress = step / (self.recipe.epochs * self.steps)
        if self.adversary is not None:
            random = np.random.default_rng([self.seed, step, 1])
            batch = self.adversary.batch(self.trainer.model, x, y, targets, progress, random)
        elif self.certifying is not None:
            batch = self.certifying.batch(x, targets, progress)
        else:
            batch = Batch(x, targets)
        return self.trainer.step(batch, self.rate(step))

    def _average(self, updates: int) -> None:
        """Move the averaged weights towards the present ones, quickly at first."""
        weights = self.trainer.weights()
        if not self.averaged:
            self.averaged = weights
            return
        decay = min(self.recipe.averaging**AVERAGE_EVERY, (1 + updates) / (10 + updates))
        self.averaged = {
            name: value + np.float32(1 - decay) * (weights[name] - value)
            for name, value in self.averaged.items()
        }

    def _judge(self, weights: Weights, number: int) -> dict[str, float]:
        """Loss and accuracy on the validation images, and what a defence is trained for."""
        model = self.trainer.inference(weights)
        x, y = self.validation.x, self.validation.y
        try:
            loss, accuracy = _evaluate(model, x, y)
            judged = {"validation_loss": loss, "validation_accuracy": accuracy}
            if self.adversary is not None:
                judged |= probe(model, x, y, self.adversary.epsilon)
            if self.certifying is not None:
                network = Network(self.trainer.architecture, weights)
                judged |= self.certifying.certified(network, model, x, y)
        except MeasurementError as error:
            raise TrainingError(
                f"{self.title}: in validation after epoch {number}: {error}; {self._remedy()}"
            ) from error
        return judged

    def _remedy(self) -> str:
        return f"lower the learning_rate ({self.recipe.learning_rate:g}) in the spec"


def _evaluate(model: Model, x: FloatArray, y: IntArray) -> tuple[float, float]:
    """Mean cross-entropy in nats, and accuracy, in inference mode."""
    logits = logits_of(model, x)
    true = np.arange(logits.shape[1]) == y[:, None]
    loss = CrossEntropy().value(np, logits, true)
    return float(loss.mean()), float((logits.argmax(axis=1) == y).mean())


def _merit(epoch: Epoch) -> tuple[float, float]:
    defence = epoch.pgd_accuracy or epoch.certified_accuracy or 0.0
    return (epoch.validation_accuracy + defence, -epoch.validation_loss)
