"""How alike two saliency maps are: rank correlation, and structural similarity."""

from __future__ import annotations

import numpy as np

from harness.protocol import FloatArray

WINDOW = 1.5
"""Standard deviation, in pixels, of the Gaussian window of the structural similarity."""
STEADY = (0.01, 0.03)
"""K1 and K2 of Wang et al., which keep its quotients finite."""


def rank_correlation(first: FloatArray, second: FloatArray) -> FloatArray:
    """Spearman's rank correlation of each pair of maps, over pixels where either is not zero.

    A method that multiplies by the image is zero on black pixels whatever the model is, so those
    say nothing of the model.

    Args:
        first: Maps, (n, *shape).
        second: As many others.

    Returns:
        (n,) float64 in [-1, 1]. Where a map is the same everywhere it has no ranks: 1 if the other
        is so too, else 0.
    """
    from scipy.stats import rankdata

    pairs = zip(first.reshape(len(first), -1), second.reshape(len(second), -1), strict=True)
    found = np.empty(len(first))
    for place, (a, b) in enumerate(pairs):
        told = (a != 0) | (b != 0)
        found[place] = _correlation(rankdata(a[told]), rankdata(b[told]))
    return found


def structural_similarity(first: FloatArray, second: FloatArray) -> FloatArray:
    """SSIM of each pair of non-negative maps, each scaled to a maximum of one (Wang et al. 2004).

    The window is their Gaussian one (section III-B), mirrored at the edges so that small images
    have one too. The mean is over pixels where either map is not zero, as in ``rank_correlation``.

    Args:
        first: Maps, (n, height, width), or with more axes before these two.
        second: As many others.

    Returns:
        (n,) float64 in [-1, 1].
    """
    a, b = _scaled(first), _scaled(second)
    low, contrast = (constant**2 for constant in STEADY)
    mean_a, mean_b = _blurred(a), _blurred(b)
    cross = _blurred(a * b) - mean_a * mean_b
    spread = _blurred(a * a) - mean_a**2 + _blurred(b * b) - mean_b**2
    local = (2 * mean_a * mean_b + low) * (2 * cross + contrast)
    local /= (mean_a**2 + mean_b**2 + low) * (spread + contrast)
    told = (a != 0) | (b != 0)
    axes = tuple(range(1, a.ndim))
    count = told.sum(axis=axes)
    total = np.where(told, local, 0.0).sum(axis=axes)
    return np.where(count > 0, total / np.maximum(count, 1), 1.0)


def _correlation(a: FloatArray, b: FloatArray) -> float:
    flat_a, flat_b = (not len(ranks) or np.ptp(ranks) == 0 for ranks in (a, b))
    if flat_a or flat_b:
        return float(flat_a and flat_b)
    return float(np.corrcoef(a, b)[0, 1])


def _scaled(maps: FloatArray) -> FloatArray:
    top = maps.reshape(len(maps), -1).max(axis=1, initial=0.0)
    shape = (-1,) + (1,) * (maps.ndim - 1)
    return np.asarray(maps / np.where(top > 0, top, 1.0).reshape(shape), dtype=np.float64)


def _blurred(images: FloatArray) -> FloatArray:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(images, WINDOW, axes=(-2, -1), truncate=3.5, mode="reflect"))
