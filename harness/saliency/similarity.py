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


def structural_similarity(
    first: FloatArray, second: FloatArray, channel_axis: int | None = None
) -> FloatArray:
    """SSIM of each pair of non-negative maps, each scaled to a maximum of one (Wang et al. 2004).

    The window is their Gaussian one (section III-B), mirrored at the edges so that small images
    have one too. Each channel of a colour map is a picture of its own. Flat maps have no
    neighbourhoods, so their window is the whole map. The mean is over pixels where either map is
    not zero, as in ``rank_correlation``.

    Args:
        first: Maps, (n, *shape), in any layout; the value is the same in all of them.
        second: As many others.
        channel_axis: See ``spatial_axes``.

    Returns:
        (n,) float64 in [-1, 1].
    """
    a, b = _scaled(first), _scaled(second)
    axes = spatial_axes(first.shape[1:], channel_axis)
    low, contrast = (constant**2 for constant in STEADY)
    mean_a, mean_b = _blurred(a, axes), _blurred(b, axes)
    cross = _blurred(a * b, axes) - mean_a * mean_b
    spread = _blurred(a * a, axes) - mean_a**2 + _blurred(b * b, axes) - mean_b**2
    local = (2 * mean_a * mean_b + low) * (2 * cross + contrast)
    local /= (mean_a**2 + mean_b**2 + low) * (spread + contrast)
    told = (a != 0) | (b != 0)
    every = tuple(range(1, a.ndim))
    count = told.sum(axis=every)
    total = np.where(told, local, 0.0).sum(axis=every)
    return np.where(count > 0, total / np.maximum(count, 1), 1.0)


def spatial_axes(shape: tuple[int, ...], channel_axis: int | None = None) -> tuple[int, ...]:
    """Which axes of one image are its height and its width.

    Axes of length one are neither. Of three others one is that of the channels: the one given, or
    else the first or the last, whichever leaves two of the same length, or else the shorter.

    Args:
        shape: Of one image: (h, w), (c, h, w), (h, w, c), or flat (d,).
        channel_axis: Which axis of ``shape`` holds the channels, if it is known.

    Returns:
        Two axes of ``shape``; none for flat images.
    """
    long = [axis for axis, side in enumerate(shape) if side != 1]
    if channel_axis is not None:
        long = [axis for axis in long if axis != channel_axis % len(shape)]
    elif len(long) == 3:
        front, middle, back = (shape[axis] for axis in long)
        first = middle == back if (front == middle) != (middle == back) else front <= back
        del long[0 if first else 2]
    return tuple(long[-2:]) if len(long) > 1 else ()


def _correlation(a: FloatArray, b: FloatArray) -> float:
    flat_a, flat_b = (not len(ranks) or np.ptp(ranks) == 0 for ranks in (a, b))
    if flat_a or flat_b:
        return float(flat_a and flat_b)
    return float(np.corrcoef(a, b)[0, 1])


def _scaled(maps: FloatArray) -> FloatArray:
    top = maps.reshape(len(maps), -1).max(axis=1, initial=0.0)
    shape = (-1,) + (1,) * (maps.ndim - 1)
    return np.asarray(maps / np.where(top > 0, top, 1.0).reshape(shape), dtype=np.float64)


def _blurred(images: FloatArray, axes: tuple[int, ...]) -> FloatArray:
    """Means within the window around each pixel, or of each whole flat image."""
    from scipy.ndimage import gaussian_filter

    if not axes:
        mean = images.mean(axis=tuple(range(1, images.ndim)), keepdims=True)
        return np.broadcast_to(mean, images.shape)
    within = tuple(axis + 1 for axis in axes)
    return np.asarray(gaussian_filter(images, WINDOW, axes=within, truncate=3.5, mode="reflect"))
