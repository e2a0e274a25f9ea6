"""Which pixels of a saliency map are the most salient.

A pixel is a position in the image, with all its channels. What ranks pixels, ``scores``, has the
shape of the images, but for an axis of channels, which has the length one: so a mask that is made
of scores covers all channels of a position.
"""

from __future__ import annotations

import numpy as np

from harness.errors import HarnessError
from harness.protocol import BoolArray, FloatArray


def pixel_scores(maps: FloatArray, channel_axis: int | None) -> FloatArray:
    """How salient each pixel is: the absolute values of a map, summed over its channels.

    Args:
        maps: Signed maps, (n, *shape).
        channel_axis: Axis of one image that holds its channels; if None, every number is a pixel.

    Returns:
        (n, *shape), where the axis of the channels has the length one.
    """
    sizes: FloatArray = np.abs(maps)
    return sizes if channel_axis is None else sizes.sum(axis=channel_axis + 1, keepdims=True)


def pixel_shape(shape: tuple[int, ...], channel_axis: int | None) -> tuple[int, ...]:
    """The shape of the scores of one image of that shape; see ``pixel_scores``."""
    return tuple(1 if axis == channel_axis else side for axis, side in enumerate(shape))


def pixel_count(shape: tuple[int, ...], fraction: float) -> int:
    """How many pixels a fraction in (0, 1] of them means: rounded, and at least one.

    Args:
        shape: Of the scores of one image.
        fraction: Share of the pixels.

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
