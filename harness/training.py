"""The one training loop; a backend supplies only the step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.data.dataset import Part
from harness.errors import HarnessError
from harness.measure import MeasurementError, logits_of
from harness.objectives import CrossEntropy
from harness.progress import progress_bar
from harness.protocol import Architecture, FloatArray, IntArray, Model, Trainer, Weights
from harness.records import Epoch
from harness.spec import TrainingSpec


class TrainingError(HarnessError):
    """A training that diverged; no model comes of it."""


@dataclass(frozen=True)
class Trained:
    """What a training leaves: the weights of its best epoch, and its history."""

    weights: Weights
    best_epoch: int
    history: tuple[Epoch, ...]


def initial_weights(architecture: Architecture, seed: int) -> dict[str, FloatArray]:
    """He-normal weights (He et al. 2015, eq. 10) and zero biases, the same for every backend."""
    random = np.random.default_rng(seed)
    weights: dict[str, FloatArray] = {}
    for name, shape in architecture.weight_shapes().items():
        if name.endswith("bias"):
            weights[name] = np.zeros(shape, dtype=np.float32)
        else:
            spread = math.sqrt(2.0 / shape[1])
            weights[name] = (random.standard_normal(shape) * spread).astype(np.float32)
    return weights


def train(
    trainer: Trainer,
    training: Part,
    validation: Part,
    recipe: TrainingSpec,
    *,
    seed: int,
    title: str,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train until the recipe's epochs are over, or validation accuracy has stopped rising.

    The best epoch is the one of highest validation accuracy, and of lowest validation loss among
    equals; its weights are returned. Every backend sees the same batches in the same order.

    Args:
        trainer: A backend's trainer, with initial weights.
        training: Images and labels to learn from.
        validation: Images and labels to stop by.
        recipe: Epochs, batch size, learning rate and its schedule, patience.
        seed: Seed of the order of the images.
        title: What the progress bar says.
        on_epoch: Called after each epoch; what it raises ends the training.

    Raises:
        TrainingError: The loss became NaN or infinite.
    """
    history: list[Epoch] = []
    best, best_weights = None, {}
    rate = learning_rates(recipe, steps=math.ceil(len(training.y) / recipe.batch_size))
    with progress_bar(title, recipe.epochs) as advance:
        for number in range(1, recipe.epochs + 1):
            epoch = _epoch(trainer, training, validation, recipe, rate, seed, number, title)
            history.append(epoch)
            advance(f"loss {epoch.loss:.4f}, validation {epoch.validation_accuracy:.2%}")
            if on_epoch is not None:
                on_epoch(epoch)
            if best is None or _merit(epoch) > _merit(best):
                best, best_weights = epoch, trainer.model.weights()
            elif number - best.epoch >= recipe.patience:
                break
    return Trained(best_weights, best.epoch if best else 0, tuple(history))


def learning_rates(recipe: TrainingSpec, steps: int) -> Callable[[int], float]:
    """The learning rate of each step (from 0), with ``steps`` steps an epoch.

    ``cosine`` falls from the recipe's rate to zero along half a cosine (Loshchilov & Hutter 2017,
    eq. 5, without restarts).
    """
    if recipe.schedule == "constant":
        return lambda step: recipe.learning_rate
    total = recipe.epochs * steps
    return lambda step: recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))


def _epoch(
    trainer: Trainer,
    training: Part,
    validation: Part,
    recipe: TrainingSpec,
    rate: Callable[[int], float],
    seed: int,
    number: int,
    title: str,
) -> Epoch:
    started = time.perf_counter()
    count = len(training.y)
    order = np.random.default_rng([seed, number]).permutation(count)
    first = (number - 1) * math.ceil(count / recipe.batch_size)
    loss_sum, correct = 0.0, 0
    for index, start in enumerate(range(0, count, recipe.batch_size)):
        chosen = order[start : start + recipe.batch_size]
        loss, hits = trainer.step(training.x[chosen], training.y[chosen], rate(first + index))
        if not math.isfinite(loss):
            raise TrainingError(
                f"{title}: the loss became {loss} in epoch {number}; lower the learning_rate "
                f"({recipe.learning_rate:g}) in the spec"
            )
        loss_sum += loss * len(chosen)
        correct += hits
    try:
        validation_loss, validation_accuracy = _evaluate(trainer.model, validation.x, validation.y)
    except MeasurementError as error:
        raise TrainingError(
            f"{title}: in validation after epoch {number}: {error}; lower the learning_rate "
            f"({recipe.learning_rate:g}) in the spec"
        ) from error
    return Epoch(
        epoch=number,
        loss=loss_sum / count,
        accuracy=correct / count,
        validation_loss=validation_loss,
        validation_accuracy=validation_accuracy,
        learning_rate=rate(first),
        seconds=time.perf_counter() - started,
    )


def _evaluate(model: Model, x: FloatArray, y: IntArray) -> tuple[float, float]:
    """Mean cross-entropy in nats, and accuracy, in inference mode."""
    logits = logits_of(model, x)
    true = np.arange(logits.shape[1]) == y[:, None]
    loss = CrossEntropy().value(np, logits, true)
    return float(loss.mean()), float((logits.argmax(axis=1) == y).mean())


def _merit(epoch: Epoch) -> tuple[float, float]:
    return (epoch.validation_accuracy, -epoch.validation_loss)
