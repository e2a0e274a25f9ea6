"""What attacks share that look for the nearest adversarial image, whatever epsilon is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from harness.attacks.ball import Ball, BestSoFar, Judge
from harness.attacks.iterated import LEAVE, OPTIONS
from harness.attacks.own import Own
from harness.maths.norms import NORMS, per_image
from harness.protocol import GRADIENT, Array, FloatArray, IntArray, Model, NormName


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class MinimumNorm(Own):
    """Searches once; at each epsilon what is near enough is used, and the rest is shortened.

    An image leaves the search once an adversarial one is within the smallest epsilon that is asked
    for: none of the epsilons needs a nearer one.

    Attributes:
        name: What the records call it.
        norm: The norm in which the nearest is looked for.
    """

    name: str
    norm: NormName
    requires: ClassVar[frozenset[str]] = frozenset({GRADIENT})

    @abstractmethod
    def seek(self, nearest: Nearest, index: IntArray, reach: float) -> None:
        """Look for adversarial images of those that are open.

        Args:
            nearest: What has been found; it takes more.
            index: Positions of all its images in their dataset, (n,).
            reach: The largest epsilon that is asked for, in pixel units.
        """

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        sizes = [float(epsilon) for epsilon in epsilons if epsilon > 0]
        nearest = Nearest(model, x, y, self.norm, min(sizes, default=0.0))
        best = nearest.best
        if sizes:
            self.seek(nearest, index, max(sizes))
        for epsilon in epsilons:
            rows = best.rows()
            if epsilon > 0 and len(rows):
                images = nearest.within(rows, float(epsilon))
                best.part(rows).finish(images, model.logits(images), "last")
            yield best.adversarial()

    def search(
        self, model: Model, x: Array, y: Array, *, index: IntArray | None = None
    ) -> tuple[Array, FloatArray]:
        """The nearest adversarial images that are found, (n, *shape), and how far they are, (n,).

        A misclassified image is at distance 0 as it is. Where none is found, the distance is
        infinite, and the image the search's last.

        Args:
            model: The classifier under attack.
            x: Clean images, (n, *shape) within ``model.bounds``.
            y: Their true labels, (n,) int64.
            index: Positions of the images in their dataset, (n,); by default from 0.
        """
        nearest = Nearest(model, x, y, self.norm)
        low, high = model.bounds
        self.seek(nearest, np.arange(len(x)) if index is None else index, high - low)
        place = nearest.best.place
        return place.array(1 * nearest.images), model.numpy(place.array(nearest.distance))


class Nearest:
    """The nearest adversarial image so far of each image of a batch, (n, *shape).

    Args:
        model: The classifier under attack.
        x: Clean images, (n, *shape).
        y: Their true labels, (n,) int64.
        norm: The norm that measures distances.
        enough: An image need not be nearer than this.

    Attributes:
        best: Tells which images are misclassified as they are.
        images: The nearest so far, (n, *shape), an array of the place.
        distance: How far they are, (n,), likewise; infinity where none has been found.
        open: Which are to be attacked, (n,) on the host.
    """

    def __init__(
        self, model: Model, x: Array, y: Array, norm: NormName, enough: float = 0.0
    ) -> None:
        self.model, self.x, self.norm, self.enough = model, x, norm, enough
        self.best = BestSoFar(model, x, y)
        self.images = self.best.place.view(x)
        self.open = self.best.open.copy()
        self.distance = self.best.place.asarray(np.where(self.open, np.inf, 0.0))

    def hunt(self) -> Hunt:
        """The images that are open, to be attacked; they may be none."""
        return Hunt(self, np.flatnonzero(self.open))

    def within(self, rows: IntArray, epsilon: float) -> Array:
        """Those of some images, (m, *shape) of the model's, shortened where they are too far."""
        place, model = self.best.place, self.model
        images, distance = place.taken(rows, self.images, self.distance)
        clean = model.xp.take(self.x, model.asarray(rows), axis=0)
        shortened = Ball(model, clean, epsilon, self.norm).project(place.array(images))
        return place.array(place.chosen(distance <= epsilon, images, place.view(shortened)))

    def put(self, hunt: Hunt) -> None:
        """Take over what was found of some of the images."""
        if len(hunt.rows):
            place = self.best.place
            self.open[hunt.rows] = hunt.open
            self.images = place.replaced(self.images, hunt.rows, hunt.images)
            self.distance = place.replaced(self.distance, hunt.rows, hunt.distance)


class Hunt:
    """Some images of a batch under attack, m of them.

    Arrays of the place are for ``place.xp``, which is NumPy for what lies on the host.

    Attributes:
        rows: Positions of the images in the batch, (m,).
        judge: Says which candidates are misclassified.
        labels: True labels, (m,) of the model's.
        clean: The images, (m, *shape) of the place.
        images: The nearest adversarial ones so far, likewise.
        distance: How far they are, (m,) of the place.
        open: Which are still to be attacked, (m,) on the host.
    """

    def __init__(self, nearest: Nearest, rows: IntArray) -> None:
        best, model = nearest.best, nearest.model
        self.nearest, self.rows, self.model, self.place = nearest, rows, model, best.place
        self.judge: Judge = best.judge.take(best.place.asarray(rows))
        self.labels = model.xp.take(best.labels, model.asarray(rows), axis=0)
        self.clean, self.images, self.distance = best.place.taken(
            rows, best.place.view(nearest.x), nearest.images, nearest.distance
        )
        self.open = np.ones(len(rows), dtype=bool)

    def offer(self, images: Array, logits: Array) -> tuple[Array, Array]:
        """Take candidates that are misclassified, and nearer than what was found before.

        An image that need not be nearer keeps what it has, so that it does not matter which others
        are still in the batch.

        Args:
            images: Candidates within the box, (m, *shape) of the place.
            logits: What the model says of them, (m, k) of the model's.

        Returns:
            Which are misclassified, and by how much another logit leads, each (m,) of the place.
        """
        xp, enough = self.place.xp, self.nearest.enough
        wrong, _, lead = self.judge.of(logits)
        length = NORMS[self.nearest.norm].length(xp, images - self.clean)
        nearer = wrong & (length < self.distance) & (self.distance > enough)
        # Of a random model one noisy hit is none.
        nearer, _ = self.nearest.best.confirmed(self.place.array(images), self.rows, nearer, nearer)
        self.images = self.place.chosen(nearer, images, self.images)
        self.distance = xp.where(nearer, length, self.distance)
        if enough > 0:
            self.open = self.place.booleans(self.distance > enough)
        return wrong, lead

    def left(self) -> IntArray | None:
        """Positions of those still open among the m, once enough have been found to go on alone."""
        return np.flatnonzero(self.open) if self.open.mean() <= 1 - LEAVE else None

    def narrowed(self, kept: IntArray) -> Hunt:
        """Hand on what was found, and go on with the images at these positions among the m."""
        self.nearest.put(self)
        return Hunt(self.nearest, self.rows[kept])

    def close(self, last: Array) -> None:
        """Hand on what was found, and where that is nothing, the last candidates (m, *shape).

        These may be misclassified once they are shortened; and should they hold NaN, whoever checks
        the images sees it.
        """
        nothing = self.distance == np.inf
        self.images = self.place.chosen(nothing, last, self.images)
        self.nearest.put(self)

    @cached_property
    def farthest(self) -> Array:
        """How far the farthest image of the box is, (m,) of the place."""
        xp, (low, high) = self.place.xp, self.model.bounds
        change = xp.maximum(self.clean - low, high - self.clean)
        return NORMS[self.nearest.norm].length(xp, change)

    def spread(self, values: Array) -> Array:
        """A value per image, (m,), in a shape that broadcasts over the images, of the place."""
        return per_image(self.place.xp, values, self.clean)
