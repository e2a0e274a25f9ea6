"""The images an attack may return, and which images of a batch still stand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.maths.norms import NORMS
from harness.protocol import Array, BoolArray, FloatArray, IntArray, Model, NormName

ROUNDING = 1e-5
"""An image has fallen if another logit leads by more than this share of the largest logit; in
another batch rounding may take away less than that."""
FALLEN = 2
"""The rank of an image that is attacked no more; 1 is that of one that is wrong, but not as it is
wanted, and 0 that of one that is right."""


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
    """Which images of a batch are still to be attacked, and the best attack on each so far.

    An image that has fallen stays fallen, and is attacked no more: its adversarial image lies in
    every larger ball too. It falls when it is not taken for its label; or, once ``aim`` has been
    called, when it is taken for its goal. What was found lies on the host, so that each image
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
    def stands(self) -> BoolArray:
        """Which images have not fallen, (n,)."""
        return np.asarray(self.rank < FALLEN)

    def aim(self, goals: IntArray) -> None:
        """From now on an image falls when it is taken for its goal, (n,)."""
        self.goals = goals
        self.rank, self.lead = self._judged(slice(None), self.logits)

    def renew(self) -> None:
        """Let the next attack replace any image that has not fallen, but not a wrong by a right."""
        self.lead = np.full(len(self.lead), -np.inf)

    def rows(self) -> IntArray:
        """Positions of the images that stand, (m,)."""
        return np.flatnonzero(self.stands)

    def offer(
        self,
        rows: IntArray,
        images: Array,
        logits: Array,
        keep: Literal["fallen", "last", "best"] = "fallen",
    ) -> BoolArray:
        """Take candidates for the images in ``rows``, and tell which of these fall, (m,).

        An image that fell before keeps what it fell by, however long it stays in the batch; and one
        with a goal that has been taken for another class is not replaced by one taken for its own.

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
        if keep != "fallen":
            same = (rank == before) & (before < FALLEN)
            # NaN is kept, too: whoever checks the images must see it.
            further = (lead > self.lead[rows]) | np.isnan(lead)
            taken |= same & (further | (keep == "last"))
        chosen = np.flatnonzero(taken)
        if len(chosen):
            picked = self.model.xp.take(images, self.model.asarray(chosen), axis=0)
            places = rows[chosen]
            self.images[places] = self.model.numpy(picked)
            self.rank[places], self.lead[places] = rank[chosen], lead[chosen]
        return np.asarray(rank == FALLEN)

    def adversarial(self) -> Array:
        """The batch as attacked so far, (n, *shape)."""
        return self.model.asarray(self.images.copy())

    def _judged(self, rows: IntArray | slice, logits: FloatArray) -> tuple[IntArray, FloatArray]:
        """How far images have come, 0 to ``FALLEN``, and their margin: both (m,)."""
        labels = self.labels[rows]
        wrong = beaten(logits, labels)
        if self.goals is None:
            return np.where(wrong, FALLEN, 0), _lead(logits, labels)
        goals = self.goals[rows]
        hit = beaten(logits, labels, goals)
        return np.where(hit, FALLEN, np.where(wrong, 1, 0)), -_lead(logits, goals)


def beaten(logits: FloatArray, labels: IntArray, targets: IntArray | None = None) -> BoolArray:
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
