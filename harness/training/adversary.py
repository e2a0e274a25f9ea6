"""Adversarial training: the perturbation of the images, and whether the defence is robust."""

from __future__ import annotations

import numpy as np

from harness.attacks.ball import Ball
from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD, climb
from harness.attacks.sweep import sweep
from harness.maths.objectives import Divergence, LogOdds
from harness.maths.query import correct_count
from harness.protocol import FloatArray, IntArray, Model
from harness.spec.training import AdversarySpec

PROBED = 1000
"""Validation images that are attacked after each epoch."""
PROBE = PGD(steps=10, losses=("cross-entropy",))
"""Decides which epoch is kept, so what it does is part of every recipe."""


class Adversary:
    """Perturbs training images, as a spec says."""

    def __init__(self, spec: AdversarySpec) -> None:
        self.spec = spec
        self.epsilon = spec.epsilon
        self.trades_beta = spec.trades_beta

    def perturb(
        self,
        model: Model,
        x: FloatArray,
        y: IntArray,
        progress: float,
        random: np.random.Generator,
    ) -> FloatArray:
        """Images in the ball around a batch (n, *shape) with a high loss.

        Args:
            model: The model in training, in inference mode.
            x: Images within the model's bounds.
            y: Labels, (n,).
            progress: How much of the training is over, in [0, 1); epsilon grows at its beginning.
            random: Draws the starting points.
        """
        ramp = self.spec.ramp
        epsilon = self.epsilon * min(1.0, progress / ramp if ramp else 1.0)
        images = model.asarray(x)
        wanted = _softmax(model.numpy(model.logits(images))) if self.trades_beta else y
        ball = Ball(model, images, epsilon)
        begin = random.uniform(-1, 1, x.shape).astype(np.float32)
        perturbed = climb(
            ball,
            model.asarray(wanted),
            Divergence() if self.trades_beta else LogOdds(),
            ball.project(images + epsilon * model.asarray(begin)),
            epsilon * self.spec.rel_stepsize,
            self.spec.steps,
        )
        return model.numpy(perturbed)


def probe(model: Model, x: FloatArray, y: IntArray, epsilon: float) -> dict[str, float]:
    """Accuracy of the first images under FGSM and under PGD.

    A defence can learn to withstand FGSM alone; then the two lie far apart (``Epoch.collapsed``).

    Raises:
        MeasurementError: The model's logits are not finite.
    """
    images, labels = x[:PROBED], y[:PROBED]
    found = {}
    for attack in (FGSM(), PROBE):
        (result,) = sweep(model, attack, images, labels, [epsilon])
        right = correct_count(result.predictions, labels)
        found[f"{attack.name}_accuracy"] = right / len(labels)
    return found


def _softmax(logits: FloatArray) -> FloatArray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
