"""Do the most salient pixels matter? Predictions as more and more of them are covered or shown.

Where many images are evaluated, ``scores`` ranks their pixels, (n, *shape): maps for
the most salient first, their negative for the least, random numbers for pixels drawn by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.maths.query import logits_of
from harness.protocol import BoolArray, FloatArray, IntArray, Model
from harness.saliency.maps import pixel_count

SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)
"""Shares of the pixels that are covered."""
FILLERS = ("black", "mean")
"""What covered pixels become: the lower end of the bounds, or the mean pixel of all images."""
GRID = tuple(step / 20 for step in range(21))
"""Shares of the pixels at which the curves of deletion and insertion are taken."""
STROKE = 0.5
"""A pixel above this share of the range is on a stroke of the digit."""


@dataclass(frozen=True)
class Covered:
    """A model's predictions for n images with pixels covered, by filler and share.

    Attributes:
        accuracy: (fillers, shares) float64 in [0, 1], or with an axis of draws before these.
        confidence: Mean softmax probability of the true class, likewise.
    """

    accuracy: FloatArray
    confidence: FloatArray


def covered(model: Model, x: FloatArray, y: IntArray, scores: FloatArray) -> Covered:
    """Accuracy and confidence with the pixels of the highest scores covered.

    Args:
        model: The classifier.
        x: Images, (n, *shape) within ``model.bounds``.
        y: True labels, (n,).
        scores: Which pixels go first.
    """
    order = ranks(scores)
    found = np.empty((2, len(FILLERS), len(SHARES)))
    for row, filler in enumerate((model.bounds[0], float(x.mean()))):
        for column, share in enumerate(SHARES):
            mask = order < pixel_count(x.shape[1:], share)
            found[:, row, column] = _measured(model, _filled(x, mask, filler), y)
    return Covered(found[0], found[1])


def covered_at_random(
    model: Model, x: FloatArray, y: IntArray, *, draws: int, seed: int
) -> Covered:
    """The same with random pixels, drawn so many times; the first axis is the draws'."""
    scores = (random_scores(x.shape, seed, draw) for draw in range(draws))
    found = [covered(model, x, y, drawn) for drawn in scores]
    return Covered(
        np.stack([one.accuracy for one in found]), np.stack([one.confidence for one in found])
    )


def random_scores(shape: tuple[int, ...], seed: int, draw: int) -> FloatArray:
    """Scores of pixels that are drawn by chance, float32 in [0, 1); the same for the same seed."""
    return np.random.default_rng([seed, draw]).random(shape, dtype=np.float32)


def interval(draws: FloatArray, confidence: float = 0.95) -> FloatArray:
    """Student's interval of the mean over draws.

    Args:
        draws: (draws, ...).
        confidence: Coverage, in (0, 1).

    Returns:
        Lower and upper end, (2, ...); NaN for a single draw, which says nothing of the spread.
    """
    from scipy.stats import t

    count, mean = len(draws), draws.mean(axis=0)
    if count < 2:
        return np.full((2, *mean.shape), np.nan)
    reach = t.ppf((1 + confidence) / 2, count - 1) * draws.std(axis=0, ddof=1) / np.sqrt(count)
    return np.stack([mean - reach, mean + reach])


def deletion(model: Model, x: FloatArray, y: IntArray, scores: FloatArray) -> FloatArray:
    """Mean confidence in the true class as pixels are blackened, highest scores first.

    (Petsiuk et al. 2018, section 3.2.) The lower the curve, the better the ranking.

    Returns:
        At each share of ``GRID``, (21,) float64 in [0, 1].
    """
    return _curve(model, x, y, ranks(scores), shown=False)


def insertion(model: Model, x: FloatArray, y: IntArray, scores: FloatArray) -> FloatArray:
    """The same as pixels are shown on a black image; the higher the curve, the better.

    Petsiuk et al. begin with a blurred image, so that no edges of covered regions mislead the
    model; single pixels on the black ground of a digit make no such edges.
    """
    return _curve(model, x, y, ranks(scores), shown=True)


def area(curve: FloatArray) -> float:
    """The area under a curve over ``GRID``, in [0, 1], by the trapezoidal rule."""
    return float(np.mean((curve[1:] + curve[:-1]) / 2))


def jaccard(first: BoolArray, second: BoolArray) -> FloatArray:
    """The share of pixels in both sets among those in either, (n,), of masks (n, *shape)."""
    a, b = (mask.reshape(len(mask), -1) for mask in (first, second))
    return np.asarray((a & b).sum(axis=1) / np.maximum((a | b).sum(axis=1), 1))


def on_strokes(mask: BoolArray, x: FloatArray, bounds: tuple[float, float]) -> FloatArray:
    """The share of each image's chosen pixels that are brighter than half of the range, (n,)."""
    bright = x > bounds[0] + STROKE * (bounds[1] - bounds[0])
    chosen = mask.reshape(len(mask), -1)
    return np.asarray((bright.reshape(chosen.shape) & chosen).sum(axis=1) / chosen.sum(axis=1))


def ranks(scores: FloatArray) -> IntArray:
    """The place of each pixel in its image's order, (n, *shape) int32: 0 has the highest score.

    Of equal scores the first pixel in row-major order comes first, as in ``maps.top_pixels``.
    """
    flat = scores.reshape(len(scores), -1)
    order = np.argsort(-flat, axis=1, kind="stable")
    places = np.empty(flat.shape, dtype=np.int32)
    np.put_along_axis(places, order, np.arange(flat.shape[1], dtype=np.int32)[None], axis=1)
    return places.reshape(scores.shape)


def _curve(model: Model, x: FloatArray, y: IntArray, order: IntArray, *, shown: bool) -> FloatArray:
    pixels = int(np.prod(x.shape[1:]))
    found = []
    for share in GRID:
        first = order < round(share * pixels)
        found.append(
            _measured(model, _filled(x, ~first if shown else first, model.bounds[0]), y)[1]
        )
    return np.array(found)


def _filled(x: FloatArray, mask: BoolArray, filler: float) -> FloatArray:
    return np.where(mask, np.asarray(filler, dtype=x.dtype), x)


def _measured(model: Model, x: FloatArray, y: IntArray) -> tuple[float, float]:
    """Accuracy, and mean softmax probability of the true class."""
    logits = logits_of(model, x).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    true = odds[np.arange(len(y)), y] / odds.sum(axis=1)
    return float((logits.argmax(axis=1) == y).mean()), float(true.mean())
