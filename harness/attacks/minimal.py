"""The smallest epsilon that misclassifies each image: a distribution, not one accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import numpy as np

from harness.attacks.ball import BestSoFar
from harness.maths.adaptive import is_randomised
from harness.maths.norms import Linf, per_image
from harness.maths.objectives import TemperedLogOdds
from harness.maths.portions import whole
from harness.maths.query import batch_size_for, voted
from harness.protocol import (
    Array,
    BoolArray,
    FloatArray,
    Images,
    IntArray,
    Model,
    differentiable,
)

GRID = 32
"""Epsilons that are tried along a direction before the first gap is halved again and again."""
HALVINGS = 10
"""Halvings of that gap, or of the whole range: the result is known to range / 1,024 or better."""


class Searching(Protocol):
    """An attack that can be given a ball of its own for each image, as ``Iterated`` is."""

    def within(
        self, model: Model, x: Array, y: Array, radii: Array, *, index: IntArray
    ) -> BestSoFar:
        """Attack each image in its ball; radii have a shape that broadcasts over x."""


def searches(attack: object) -> TypeGuard[Searching]:
    """Whether an attack is ``Searching``, be it by what it hands on: see ``protocol.is_model``."""
    return hasattr(attack, "within")


@dataclass(frozen=True)
class SmallestEpsilons:
    """How far each of n images had to be moved until it was misclassified.

    Attributes:
        epsilons: (n,) float64: 0 for images misclassified already, infinity for those that are
            robust at the limit. Each is an upper bound of the distance to the nearest adversarial
            image.
        images: What is misclassified there, (n, *shape); the image itself where nothing is.
    """

    epsilons: FloatArray
    images: FloatArray


def along_gradient(model: Model, x: Images, y: IntArray, limit: float) -> SmallestEpsilons:
    """The smallest epsilon at which FGSM's image of each x is misclassified.

    One gradient gives the direction. Along it images may be classified correctly again further
    out, so the first of ``GRID`` even steps that misclassifies is taken, and the gap before it
    bisected.

    Args:
        model: The classifier, with the capability ``gradient``.
        x: Images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,).
        limit: The largest epsilon that is tried, in pixel units.
    """
    return _joined(
        model,
        x,
        lambda part: _along_gradient(model, model.asarray(np.asarray(x[part])), y[part], limit),
    )


def by_search(
    model: Model, attack: Searching, x: Images, y: IntArray, limit: float, *, first: int = 0
) -> SmallestEpsilons:
    """The smallest epsilon at which an iterated attack succeeds on each x.

    The whole attack is run at the middle of each image's range, ``HALVINGS`` times. Arguments and
    result are those of ``along_gradient``; where the attack gets closer than its epsilon allows,
    that distance counts. ``first`` is the place of the first of these images among all, by which
    each image's random numbers are drawn.
    """

    def search(part: slice) -> SmallestEpsilons:
        index = np.arange(part.start, part.stop) + first
        images = model.asarray(np.asarray(x[part]))
        return _by_search(model, attack, images, y[part], limit, index)

    return _joined(model, x, search)


def _joined(model: Model, x: Images, ask: Callable[[slice], SmallestEpsilons]) -> SmallestEpsilons:
    """The same of any part of the images, for all of them."""
    parts = [found for _, found in whole(model, x, batch_size_for(model, x), ask)]
    return SmallestEpsilons(
        np.concatenate([part.epsilons for part in parts]),
        np.concatenate([part.images for part in parts]),
    )


def _along_gradient(model: Model, x: Array, y: IntArray, limit: float) -> SmallestEpsilons:
    labels = model.asarray(y)
    logits, gradient = differentiable(model).logits_and_gradient(x, labels, TemperedLogOdds())
    judge = BestSoFar(model, x, labels, logits).judge
    direction = model.xp.sign(gradient)

    def moved(size: FloatArray) -> Array:
        low, high = model.bounds
        return model.xp.clip(x + _radii(model, size, x) * direction, low, high)

    def misclassified(images: Array, logits: Array | None = None) -> BoolArray:
        if is_randomised(model):  # one noisy hit is none
            return np.asarray(voted(model, images).labels != y)
        return judge.place.booleans(judge.of(model.logits(images) if logits is None else logits)[0])

    def succeeds(size: FloatArray) -> BoolArray:
        return misclassified(moved(size))

    first = np.full(len(y), np.inf)
    for size in np.linspace(limit, 0, GRID, endpoint=False):
        first = np.where(succeeds(np.full(len(y), size)), size, first)
    found = _bisected(succeeds, first - limit / GRID, first, HALVINGS - int(math.log2(GRID)))
    found = np.where(misclassified(x, logits), 0.0, found)
    return SmallestEpsilons(found, model.numpy(moved(np.where(np.isfinite(found), found, 0.0))))


def _by_search(
    model: Model, attack: Searching, x: Array, y: IntArray, limit: float, index: IntArray
) -> SmallestEpsilons:
    xp, images, labels = model.xp, x, model.asarray(y)
    low, high = np.zeros(len(y)), np.full(len(y), np.inf)
    high[~BestSoFar(model, x, labels).open] = 0.0

    def nearest(size: FloatArray) -> FloatArray:
        """How far a misclassified image within this size is; infinity if none is found.

        Where it is nearer than what was found before, it is kept. The distances are all that comes
        from the device.
        """
        nonlocal images
        best = attack.within(model, x, labels, _radii(model, size, x), index=index)
        distance = model.numpy(Linf().length(xp, best.images - x))
        found = np.where(best.open, np.inf, np.minimum(distance, size))
        nearer = per_image(xp, model.asarray((found < high).astype(np.float32)), x) > 0
        images = xp.where(nearer, best.images, images)
        return found

    high = np.minimum(high, nearest(np.full(len(y), limit)))
    for _ in range(HALVINGS):
        searched = np.isfinite(high)
        # Those that are robust at the limit are given no room, in which nothing is found.
        middle = np.where(searched, (low + np.where(searched, high, 0.0)) / 2, 0.0)
        found = nearest(middle)
        low = np.where(np.isinf(found), middle, low)
        high = np.minimum(high, found)
    return SmallestEpsilons(high, model.numpy(images))


def _bisected(
    succeeds: Callable[[FloatArray], BoolArray], low: FloatArray, high: FloatArray, halvings: int
) -> FloatArray:
    """The upper ends of the ranges after so many halvings; those that are infinite stay so."""
    for _ in range(halvings):
        middle = np.where(np.isinf(high), 0.0, (low + high) / 2)
        wrong = succeeds(middle)
        low, high = np.where(wrong, low, middle), np.where(wrong, middle, high)
    return high


def _radii(model: Model, size: FloatArray, x: Array) -> Array:
    """A radius per image, (n,), in a shape that broadcasts over the images."""
    return per_image(model.xp, model.asarray(size.astype(np.float64)), x)
