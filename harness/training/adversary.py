"""Adversarial training: the perturbation of the images, and whether the defence is robust."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from harness.attacks.ball import Ball
from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD, climb
from harness.attacks.sweep import sweep
from harness.maths.objectives import Divergence, LogOdds
from harness.maths.query import correct_count
from harness.protocol import Batch, FloatArray, IntArray, Model
from harness.spec.training import AdversarySpec

PROBED = 1000
"""Validation images that are attacked after each epoch."""
PROBE = PGD(steps=10, losses=("cross-entropy",))
"""Decides which epoch is kept, so what it does is part of every recipe."""


class Adversary:
    """Perturbs training images, as a spec says, and says by which loss is learnt from them."""

    def __init__(self, spec: AdversarySpec) -> None:
        self.spec = spec
        self.epsilon = spec.epsilon

    def batch(
        self,
        model: Model,
        x: FloatArray,
        y: IntArray,
        targets: FloatArray,
        progress: float,
        random: np.random.Generator,
    ) -> Batch:
        """What a step learns from, of images (n, *shape) with labels (n,) and targets (n, k).

        The other arguments are those of ``perturb``.
        """
        spec = self.spec
        perturbed = self.perturb(model, x, y, progress, random)
        batch = Batch(perturbed, targets, weight_gamma=spec.weight_gamma or 0.0)
        if spec.trades_beta is not None:
            batch = replace(batch, x=x, perturbed=perturbed, trades_beta=spec.trades_beta)
        if spec.mart_lambda is not None:
            batch = replace(batch, x=x, perturbed=perturbed, mart_lambda=spec.mart_lambda)
        if spec.align_lambda is not None:
            noise = np.float32(self._radius(progress)) * _uniform(random, x.shape)
            noisy = np.clip(x + noise, *model.bounds)
            batch = replace(batch, aligned=x, noisy=noisy, align_lambda=spec.align_lambda)
        return batch

    def perturb(
        self,
        model: Model,
        x: FloatArray,
        y: IntArray,
        progress: float,
        random: np.random.Generator,
    ) -> FloatArray:
        """Images in the ball around a batch (n, *shape) with a high loss.

        That is the divergence from the model's own predictions in TRADES, and else the
        cross-entropy, in MART, too.

        Args:
            model: The model in training, in inference mode.
            x: Images within the model's bounds.
            y: Labels, (n,).
            progress: How much of the training is over, in [0, 1); epsilon grows at its beginning.
            random: Draws the starting points.
        """
        spec, epsilon = self.spec, self._radius(progress)
        images = model.asarray(x)
        wanted = _softmax(model.numpy(model.logits(images))) if spec.trades_beta else y
        ball = Ball(model, images, epsilon)
        start = images
        if spec.start != "clean":
            start = ball.project(images + epsilon * model.asarray(_uniform(random, x.shape)))
        perturbed = climb(
            ball,
            model.asarray(wanted),
            Divergence() if spec.trades_beta else LogOdds(),
            start,
            epsilon * spec.rel_stepsize,
            spec.steps,
        )
        return model.numpy(perturbed)

    def _radius(self, progress: float) -> float:
        ramp = self.spec.ramp
        return self.epsilon * min(1.0, progress / ramp if ramp else 1.0)


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


def _uniform(random: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    """Numbers in [-1, 1), float32."""
    return random.uniform(-1, 1, shape).astype(np.float32)


def _softmax(logits: FloatArray) -> FloatArray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))
