"""Images as pictures: their height and width, their channels, and means of blocks of their pixels.

Pictures are for looking only; nothing is computed with them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from harness.maths.channels import guessed_axis

SIDE = 64
"""Pixels of a picture's longer side, at most."""


def channels_of(shape: tuple[int, ...], said: int | None = None) -> int | None:
    """The axis of one image that holds its channels: the one that is said, else the guessed one."""
    if said is not None and len(shape) == 3 and 0 <= said < 3:
        return said
    return guessed_axis(shape)


def plane_of(shape: tuple[int, ...], said: int | None = None) -> tuple[int, int] | None:
    """The axes of one image that are its height and width; None where it is no picture.

    Args:
        shape: Of one image.
        said: The axis of its channels, where that is known.
    """
    if len(shape) == 2:
        return (0, 1)
    axis = channels_of(shape, said)
    if axis is None:
        return None
    height, width = (other for other in range(3) if other != axis)
    return (height, width)


def shrunk(pixels: npt.NDArray[Any], axes: tuple[int, int] = (0, 1)) -> npt.NDArray[Any]:
    """Numbers as they are, or means of square blocks where a side is longer than ``SIDE``.

    Args:
        pixels: Of any shape.
        axes: Which two of its axes are height and width.
    """
    factor = -(-max(pixels.shape[axis] for axis in axes) // SIDE)
    if factor <= 1:
        return pixels
    for axis in axes:
        side = pixels.shape[axis]
        begins = np.arange(0, side, factor)
        lengths = np.minimum(factor, side - begins).astype(np.float32)
        sums = np.add.reduceat(pixels, begins, axis=axis)
        pixels = sums / lengths.reshape(-1, *[1] * (pixels.ndim - axis - 1))
    return pixels


def over_channels(
    maps: npt.NDArray[Any], shape: tuple[int, ...], said: int | None = None
) -> npt.NDArray[Any]:
    """Maps (..., *shape) summed in absolute value over the channels, which become one.

    Those of images without channels are left as they are.
    """
    axis = channels_of(shape, said)
    if axis is None or shape[axis] == 1:
        return maps
    summed: npt.NDArray[Any] = np.abs(maps).sum(axis=axis - len(shape), keepdims=True)
    return summed
