"""The images an attack may return, and the best attack on each image so far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.maths.norms import NORMS
from harness.protocol import Array, BoolArray, FloatArray, IntArray, Model, NormName

ROUNDING = 1e-5
"""An image counts as misclassified if another logit leads by more than this share of the largest
logit; in another batch rounding may take away less than that."""
SUCCEEDED = 2
"""The rank of an image that is attacked no more; 1 is that of one that is misclassified, but not as
its goal, and 0 that of one that is classified correctly."""


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


class BestSoFar:
    """Which images of a batch are still to be attacked, and the best attack on each so far.

    Once the attack on an image has succeeded, it is attacked no more: its adversarial image lies in
    every larger ball too. It succeeds when the image is misclassified; or, once ``aim`` has been
    called, when it is classified as its goal. What was found lies on the host, so that each image
    travels once.

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
        self.goals: IntArray | None = None
        self.rank, self.lead = self._judged(slice(None), self.logits)

    @property
    def open(self) -> BoolArray:
        """On which images no attack has succeeded yet, (n,)."""
        return np.asarray(self.rank < SUCCEEDED)

    def aim(self, goals: IntArray) -> None:
        """From now on an attack succeeds when the image is classified as its goal, (n,)."""
        self.goals = goals
        self.rank, self.lead = self._judged(slice(None), self.logits)

    def renew(self) -> None:
        """Let the next attack replace any image still open, but none by one of lower rank."""
        self.lead = np.full(len(self.lead), -np.inf)

    def rows(self) -> IntArray:
        """Positions of the images that are still open, (m,)."""
        return np.flatnonzero(self.open)

    def offer(
        self,
        rows: IntArray,
        images: Array,
        logits: Array,
        keep: Literal["succeeded", "last", "best"] = "succeeded",
    ) -> BoolArray:
        """Take candidates for the images in ``rows``, and tell which of these succeed, (m,).

        An image that was misclassified before keeps its adversarial image, however long it stays in
        the batch; and a misclassified one with a goal is not replaced by one classified correctly.

        Args:
            rows: Positions in the batch, (m,).
            images: Candidates within the ball, (m, *shape).
            logits: What the model says of them, (m, k).
            keep: Whether candidates that bring an image no further replace what was there before:
                not at all, always, or where their margin is larger.
        """
        rank, lead = self._judged(rows, self.model.numpy(logits))
        before = self.rank[rows]
        taken = rank > before
        if keep != "succeeded":
            same = (rank == before) & (before < SUCCEEDED)
            # NaN is kept, too: whoever checks the images must see it.
            further = (lead > self.lead[rows]) | np.isnan(lead)
            taken |= same & (further | (keep == "last"))
        chosen = np.flatnonzero(taken)
        if len(chosen):
            picked = self.model.xp.take(images, self.model.asarray(chosen), axis=0)
            places = rows[chosen]
            self.images[places] = self.model.numpy(picked)
            self.rank[places], self.lead[places] = rank[chosen], lead[chosen]
        return np.asarray(rank == SUCCEEDED)

    def adversarial(self) -> Array:
        """The batch as attacked so far, (n, *shape)."""
        return self.model.asarray(self.images.copy())

    def _judged(self, rows: IntArray | slice, logits: FloatArray) -> tuple[IntArray, FloatArray]:
        """How far images have come, 0 to ``SUCCEEDED``, and their margin: both (m,)."""
        labels = self.labels[rows]
        wrong = misclassified(logits, labels)
        if self.goals is None:
            return np.where(wrong, SUCCEEDED, 0), _lead(logits, labels)
        goals = self.goals[rows]
        hit = misclassified(logits, labels, goals)
        return np.where(hit, SUCCEEDED, np.where(wrong, 1, 0)), -_lead(logits, goals)


def misclassified(
    logits: FloatArray, labels: IntArray, targets: IntArray | None = None
) -> BoolArray:
    """Which rows of logits (n, k) are beyond rounding not of their label, or of their target."""
    slack = ROUNDING * np.abs(logits).max(axis=1, initial=0.0)
    if targets is None:
        return np.asarray(_lead(logits, labels) > slack)
    return np.asarray(_lead(logits, targets) < -slack)


def _lead(logits: FloatArray, named: IntArray) -> FloatArray:
    """How far the largest of the other logits (n, k) is ahead of the named one, (n,)."""
    rows, others = np.arange(len(logits)), np.array(logits)
    others[rows, named] = -np.inf
    return np.asarray(others.max(axis=1, initial=-np.inf) - logits[rows, named])
