"""Which pixels of a saliency map are the most salient."""

from __future__ import annotations

import numpy as np

from harness.errors import HarnessError
from harness.protocol import BoolArray, FloatArray


def pixel_count(shape: tuple[int, ...], fraction: float) -> int:
    """How many pixels of an image a fraction in (0, 1] means: rounded, and at least one.

    Raises:
        HarnessError: The fraction is another number.
    """
    if not 0 < fraction <= 1:
        raise HarnessError(f"{fraction:g}: the share of the pixels must be in (0, 1]")
    return max(1, round(fraction * int(np.prod(shape))))


def top_pixels(scores: FloatArray, fraction: float) -> BoolArray:
    """Masks of exactly ``pixel_count`` pixels an image, those with the highest scores.

    Args:
        scores: (n, *shape); of equal scores the first pixel in row-major order comes first.
        fraction: Share of the pixels, in (0, 1].

    Returns:
        (n, *shape) bool.
    """
    flat = scores.reshape(len(scores), -1)
    wanted = pixel_count(scores.shape[1:], fraction)
    last = np.partition(flat, flat.shape[1] - wanted, axis=1)[:, -wanted, None]
    above, level = flat > last, flat == last
    left = wanted - above.sum(axis=1, keepdims=True)
    if (level.sum(axis=1, keepdims=True) > left).any():
        level &= np.cumsum(level, axis=1) <= left
    mask: BoolArray = (above | level).reshape(scores.shape)
    return mask
