"""The smallest epsilon at which each image falls: a distribution instead of one accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from harness.attacks.ball import beaten
from harness.attacks.iterated import Iterated
from harness.measure import batch_size_for, batches
from harness.norms import per_image
from harness.objectives import LogOdds
from harness.protocol import Array, BoolArray, FloatArray, IntArray, Model

GRID = 32
"""Epsilons that are tried along a direction before the first gap is halved again and again."""
HALVINGS = 10
"""Halvings of that gap, or of the whole range: the result is known to range / 1,024 or better."""


def along_gradient(model: Model, x: FloatArray, y: IntArray, limit: float) -> FloatArray:
    """The smallest epsilon at which FGSM's image of each x is misclassified.

    One gradient gives the direction. Along it images may be right again further out, so the first
    of ``GRID`` even steps that fools the model is taken, and the gap before it bisected.

    Args:
        model: The classifier, with the capability ``gradient``.
        x: Images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,).
        limit: The largest epsilon that is tried, in pixel units.

    Returns:
        Epsilons, (n,) float64: 0 for images that are wrong already, infinity for those that stand
        at the limit. Each is an upper bound of the distance to the nearest adversarial image.
    """
    parts = [
        _along_gradient(model, model.asarray(x[part]), y[part], limit)
        for part in batches(len(x), batch_size_for(x))
    ]
    return np.concatenate(parts)


def by_search(
    model: Model, attack: Iterated, x: FloatArray, y: IntArray, limit: float
) -> FloatArray:
    """The smallest epsilon at which an iterated attack fools the model on each x.

    The whole attack is run at the middle of each image's range, ``HALVINGS`` times. Arguments and
    result are those of ``along_gradient``; where the attack gets closer than its epsilon allows,
    that distance counts.
    """
    parts = []
    for part in batches(len(x), batch_size_for(x)):
        index = np.arange(part.start, part.stop)
        parts.append(_by_search(model, attack, model.asarray(x[part]), y[part], limit, index))
    return np.concatenate(parts)


def _along_gradient(model: Model, x: Array, y: IntArray, limit: float) -> FloatArray:
    logits, gradient = model.logits_and_gradient(x, model.asarray(y), LogOdds())
    direction = model.xp.sign(gradient)

    def fools(size: FloatArray) -> BoolArray:
        low, high = model.bounds
        moved = model.xp.clip(x + _radii(model, size, x) * direction, low, high)
        return beaten(model.numpy(model.logits(moved)), y)

    first = np.full(len(y), np.inf)
    for size in np.linspace(limit, 0, GRID, endpoint=False):
        first = np.where(fools(np.full(len(y), size)), size, first)
    found = _bisected(fools, first - limit / GRID, first, HALVINGS - int(math.log2(GRID)))
    return np.where(beaten(model.numpy(logits), y), 0.0, found)


def _by_search(
    model: Model, attack: Iterated, x: Array, y: IntArray, limit: float, index: IntArray
) -> FloatArray:
    labels, clean = model.asarray(y), model.numpy(x)
    wrong = beaten(model.numpy(model.logits(x)), y)

    def nearest(size: FloatArray) -> FloatArray:
        """How far the image is that fools the model within this size; infinity if none does."""
        standing = attack.within(model, x, labels, _radii(model, size, x), index=index)
        distance = np.abs(standing.images - clean).reshape(len(y), -1).max(axis=1)
        return np.where(standing.stands, np.inf, np.minimum(distance, size))

    high = np.where(wrong, 0.0, nearest(np.full(len(y), limit)))
    low = np.zeros(len(y))
    for _ in range(HALVINGS):
        searched = np.isfinite(high)
        # Those that stand at the limit are given no room, in which nothing is found.
        middle = np.where(searched, (low + np.where(searched, high, 0.0)) / 2, 0.0)
        found = nearest(middle)
        low = np.where(np.isinf(found), middle, low)
        high = np.minimum(high, found)
    return high


def _bisected(
    fools: Callable[[FloatArray], BoolArray], low: FloatArray, high: FloatArray, halvings: int
) -> FloatArray:
    """The upper ends of the ranges after so many halvings; those that are infinite stay so."""
    for _ in range(halvings):
        middle = np.where(np.isinf(high), 0.0, (low + high) / 2)
        fooled = fools(middle)
        low, high = np.where(fooled, low, middle), np.where(fooled, middle, high)
    return high


def _radii(model: Model, size: FloatArray, x: Array) -> Array:
    """A radius per image, (n,), in a shape that broadcasts over the images."""
    return per_image(model.xp, model.asarray(size.astype(np.float64)), x)
