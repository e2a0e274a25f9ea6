"""Do the most salient pixels matter? Predictions as more and more of them are covered or shown.

Where many images are evaluated, ``scores`` ranks their pixels, as ``maps.pixel_scores`` gives them:
these for the most salient first, their negative for the least, random numbers for pixels drawn by
chance. All channels of a pixel are covered or shown together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.maths.channels import channel_axis_of
from harness.maths.query import logits_of
from harness.protocol import BoolArray, FloatArray, IntArray, Model
from harness.saliency.maps import pixel_count, pixel_shape

SHARES = (0.05, 0.1, 0.15, 0.2, 0.3)
"""Shares of the pixels that are covered."""
FILLERS = ("cover", "mean")
"""What covered pixels become: what the spec covers them with, black or blurred; or the mean pixel
of all images, which of images in colour is a colour."""
GRID = tuple(step / 20 for step in range(21))
"""Shares of the pixels at which the curves of deletion and insertion are taken."""
STROKE = 0.5
"""A pixel above this share of the range is on a stroke of the digit."""
BLACK, GROUND = 0.01, 0.4
"""Strokes lie on black ground: of all pixels of the images at least the second share is within the
first share of the range of its lower end. On MNIST 82 % are, on scikit-learn's digits 49 %, and of
CIFAR-10's images in grey 0.4 %."""


@dataclass(frozen=True)
class Covered:
    """A model's predictions for n images with pixels covered, by filler and share.

    Attributes:
        accuracy: (fillers, shares) float64 in [0, 1], or with an axis of draws before these.
        confidence: Mean softmax probability of the true class, likewise.
    """

    accuracy: FloatArray
    confidence: FloatArray


def covered(
    model: Model,
    x: FloatArray,
    y: IntArray,
    scores: FloatArray,
    fill: FloatArray | None = None,
) -> Covered:
    """Accuracy and confidence with the pixels of the highest scores covered.

    Args:
        model: The classifier.
        x: Images, (n, *shape) within ``model.bounds``.
        y: True labels, (n,).
        scores: Which pixels go first.
        fill: What the spec covers them with, as ``covers.fill_of`` gives it; black if None.
    """
    order = ranks(scores)
    found = np.empty((2, len(FILLERS), len(SHARES)))
    cover = np.asarray(model.bounds[0], dtype=x.dtype) if fill is None else fill
    for row, filler in enumerate((cover, _mean_pixel(x, scores))):
        for column, share in enumerate(SHARES):
            mask = order < pixel_count(order.shape[1:], share)
            found[:, row, column] = _measured(model, _filled(x, mask, filler), y)
    return Covered(found[0], found[1])


def covered_at_random(
    model: Model,
    x: FloatArray,
    y: IntArray,
    fill: FloatArray | None = None,
    *,
    draws: int,
    seed: int,
) -> Covered:
    """The same with random pixels, drawn so many times; the first axis is the draws'."""
    shape = scores_shape(model, x)
    scores = (random_scores(shape, seed, draw) for draw in range(draws))
    found = [covered(model, x, y, drawn, fill) for drawn in scores]
    return Covered(
        np.stack([one.accuracy for one in found]), np.stack([one.confidence for one in found])
    )


def scores_shape(model: Model, x: FloatArray) -> tuple[int, ...]:
    """The shape of the scores of a model's images (n, *shape)."""
    image = tuple(x.shape[1:])
    return len(x), *pixel_shape(image, channel_axis_of(model, image))


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


def why_no_strokes(x: FloatArray, bounds: tuple[float, float], channel_axis: int | None) -> str:
    """Why images have no strokes, for people; empty if they have.

    Args:
        x: Images, (n, *shape).
        bounds: Lowest and highest pixel value.
        channel_axis: Axis of one image that holds its channels; None if none does.
    """
    pixels = pixel_shape(tuple(x.shape[1:]), channel_axis)
    if pixels != x.shape[1:] or sum(side > 1 for side in pixels) > 2:
        return "the images are in colour: strokes are the bright pixels of grey ones on black"
    dark = float((x <= bounds[0] + BLACK * (bounds[1] - bounds[0])).mean())
    if dark < GROUND:
        return f"the images have no dark background: {dark:.0%} of their pixels are black"
    return ""


def on_strokes(mask: BoolArray, x: FloatArray, bounds: tuple[float, float]) -> FloatArray:
    """The share of each image's chosen pixels that are brighter than half of the range, (n,)."""
    bright = x > bounds[0] + STROKE * (bounds[1] - bounds[0])
    chosen = mask.reshape(len(mask), -1)
    return np.asarray((bright.reshape(chosen.shape) & chosen).sum(axis=1) / chosen.sum(axis=1))


def ranks(scores: FloatArray) -> IntArray:
    """The place of each pixel in its image's order, int32 as the scores: 0 has the highest one.

    Of equal scores the first pixel in row-major order comes first, as in ``maps.top_pixels``.
    """
    flat = scores.reshape(len(scores), -1)
    order = np.argsort(-flat, axis=1, kind="stable")
    places = np.empty(flat.shape, dtype=np.int32)
    np.put_along_axis(places, order, np.arange(flat.shape[1], dtype=np.int32)[None], axis=1)
    return places.reshape(scores.shape)


def _curve(model: Model, x: FloatArray, y: IntArray, order: IntArray, *, shown: bool) -> FloatArray:
    pixels, black = int(np.prod(order.shape[1:])), np.asarray(model.bounds[0], dtype=x.dtype)
    found = []
    for share in GRID:
        first = order < round(share * pixels)
        found.append(_measured(model, _filled(x, ~first if shown else first, black), y)[1])
    return np.array(found)


def _mean_pixel(x: FloatArray, scores: FloatArray) -> FloatArray:
    """The mean number of all images (n, *shape), or of each channel, as it broadcasts over them."""
    if scores.shape == x.shape:
        return np.asarray(x.mean(), dtype=x.dtype)
    others = tuple(axis for axis, side in enumerate(scores.shape) if side == x.shape[axis])
    return np.asarray(x.mean(axis=others, keepdims=True, dtype=np.float64), dtype=x.dtype)


def _filled(x: FloatArray, mask: BoolArray, filler: FloatArray) -> FloatArray:
    return np.where(mask, filler, x)


def _measured(model: Model, x: FloatArray, y: IntArray) -> tuple[float, float]:
    """Accuracy, and mean softmax probability of the true class."""
    logits = logits_of(model, x).astype(np.float64)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    true = odds[np.arange(len(y)), y] / odds.sum(axis=1)
    return float((logits.argmax(axis=1) == y).mean()), float(true.mean())
