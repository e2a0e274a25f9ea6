"""The images an attack may return, and which images of a batch still stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.norms import NORMS
from harness.protocol import Array, BoolArray, FloatArray, IntArray, Model, NormName

ROUNDING = 1e-5
"""An image has fallen if another logit leads by more than this share of the largest logit; in
another batch rounding may take away less than that."""


@dataclass(frozen=True)
class Ball:
    """All images within a distance of clean ones, and within the box.

    Attributes:
        model: The classifier under attack; its bounds are the box.
        x: Clean images, (n, *shape) within the box.
        epsilon: Radius in pixel units, or one per image in a shape that broadcasts.
        norm: Name of the norm.
    """

    model: Model
    x: Array
    epsilon: Array | float
    norm: NormName = "linf"

    def project(self, images: Array) -> Array:
        """The images moved into the ball and the box.

        Clipping brings no image further from a clean one, because that lies within the box.
        """
        xp, (low, high) = self.model.xp, self.model.bounds
        change = NORMS[self.norm].within(xp, images - self.x, self.epsilon)
        return xp.clip(self.x + change, low, high)

    def step(self, images: Array, gradient: Array, size: Array | float) -> Array:
        """The images after a step of that length along their steepest direction, projected."""
        return self.project(images + size * NORMS[self.norm].steepest(self.model.xp, gradient))

    def take(self, rows: Array) -> Ball:
        """The ball of some of the images."""
        take = self.model.xp.take
        epsilon = self.epsilon
        if not isinstance(epsilon, float):
            epsilon = take(epsilon, rows, axis=0)
        return Ball(self.model, take(self.x, rows, axis=0), epsilon, self.norm)


class Standing:
    """Which images of a batch are still classified rightly, and the best attack on each so far.

    An image that has fallen stays fallen, and is attacked no more: its adversarial image lies in
    every larger ball too. What was found lies on the host, so that each image travels once.

    Args:
        model: The classifier under attack.
        x: Clean images, (n, *shape).
        y: Their true labels, (n,) int64.
    """

    def __init__(self, model: Model, x: Array, y: Array) -> None:
        self.model = model
        self.labels: IntArray = model.numpy(y)
        self.images: FloatArray = np.array(model.numpy(x))
        self.logits: FloatArray = np.array(model.numpy(model.logits(x)))
        self.stands: BoolArray = ~beaten(self.logits, self.labels)

    def rows(self) -> IntArray:
        """Positions of the images that stand, (m,)."""
        return np.flatnonzero(self.stands)

    def offer(
        self,
        rows: IntArray,
        images: Array,
        logits: Array,
        targets: IntArray | None = None,
        *,
        keep: bool = False,
    ) -> BoolArray:
        """Take candidates for the images in ``rows``, and tell which of these fall, (m,).

        An image that fell before keeps what it fell by, however long it stays in the batch.

        Args:
            rows: Positions in the batch, (m,).
            images: Candidates within the ball, (m, *shape).
            logits: What the model says of them, (m, k).
            targets: The classes they must be taken for, (m,); any false one if None.
            keep: Whether candidates that do not fall replace what was there before.
        """
        fallen = beaten(self.model.numpy(logits), self.labels[rows], targets)
        chosen = np.flatnonzero(self.stands[rows] & (fallen | keep))
        if len(chosen):
            picked = self.model.xp.take(images, self.model.asarray(chosen), axis=0)
            self.images[rows[chosen]] = self.model.numpy(picked)
        self.stands[rows[fallen]] = False
        return fallen

    def adversarial(self) -> Array:
        """The batch as attacked so far, (n, *shape)."""
        return self.model.asarray(self.images.copy())


def beaten(logits: FloatArray, labels: IntArray, targets: IntArray | None = None) -> BoolArray:
    """Which rows of logits (n, k) are beyond rounding not of their label, or of their target."""
    rows = np.arange(len(logits))
    slack = ROUNDING * np.abs(logits).max(axis=1, initial=0.0)
    named = labels if targets is None else targets
    others = np.array(logits)
    others[rows, named] = -np.inf
    lead = others.max(axis=1, initial=-np.inf) - logits[rows, named]
    return np.asarray(lead > slack if targets is None else lead < -slack)
