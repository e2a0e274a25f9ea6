"""Images made against another model: a small one, trained on the tested model's predictions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from harness import registry
from harness.attacks.ball import Ball
from harness.attacks.own import Own
from harness.attacks.pgd import climb
from harness.data.dataset import one_hot
from harness.maths.objectives import LogOdds
from harness.networks.initial import initial_weights
from harness.protocol import (
    UNIT,
    Array,
    Batch,
    Bounds,
    FloatArray,
    IntArray,
    Model,
    Network,
    Optimizer,
    fully_connected,
)

HIDDEN = (64,)
TRAINED = 500
"""Optimizer steps of a surrogate's training."""
BATCH, LEARNING_RATE = 64, 3e-3
STEPS, REACH = 20, 2.5
"""Gradient steps against the surrogate, and their summed length in epsilons."""


def substitute_for(predicted: IntArray, x: FloatArray, bounds: Bounds, classes: int) -> Model:
    """A NumPy network trained on a model's predictions (Papernot et al. 2017, substitute models).

    Args:
        predicted: The labels that the model predicts, (n,).
        x: For these images, (n, *shape).
        bounds: Their pixel range; the network takes pixels in [0, 1].
        classes: Number of classes.
    """
    architecture = fully_connected(tuple(x.shape[1:]), HIDDEN, classes)
    network = Network(architecture, initial_weights(architecture, 0))
    trainer = registry.builder("numpy").trainer(network, UNIT, Optimizer(), seed=0)
    images, targets = _to_unit(x, bounds), one_hot(predicted, classes)
    random = np.random.default_rng(0)
    for _ in range(TRAINED):
        rows = random.integers(len(x), size=BATCH)
        trainer.step(Batch(images[rows], targets[rows]), LEARNING_RATE)
    return trainer.model


@dataclass(frozen=True)
class Transfer(Own):
    """Adversarial images of a surrogate, transferred: the model's own gradient is not used.

    Attributes:
        surrogate: A network that takes pixels in [0, 1].
    """

    surrogate: Model
    name: ClassVar[str] = "transfer"
    norm: ClassVar[Literal["linf"]] = "linf"
    requires: ClassVar[frozenset[str]] = frozenset()

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        clean, labels, bounds = model.numpy(x), model.numpy(y), model.bounds
        width = bounds[1] - bounds[0]
        here = self.surrogate.asarray(_to_unit(clean, bounds))
        for epsilon in epsilons:
            ball = Ball(self.surrogate, here, float(epsilon) / width)
            size = ball.epsilon * REACH / STEPS
            moved = climb(ball, self.surrogate.asarray(labels), LogOdds(), here, size, STEPS)
            change = (self.surrogate.numpy(moved) - self.surrogate.numpy(here)) * width
            given = np.clip(clean + np.clip(change, -epsilon, epsilon), *bounds)
            yield model.asarray(given.astype(clean.dtype))


def _to_unit(x: FloatArray, bounds: Bounds) -> FloatArray:
    return np.asarray((x - bounds[0]) / (bounds[1] - bounds[0]), dtype=np.float32)
