"""The images as another training may have had them: other scales, other layouts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import permutations

import numpy as np

from harness.maths.channels import COLOURS, channel_axis_of
from harness.maths.norms import TOLERANCE
from harness.protocol import Bounds, FloatArray, Model

SCALE = "Give the network the pixels it was trained on: put the scaling inside the model."
LAYOUT = "Give the network the images as it was trained on them, and check how they are loaded."
CHANNELS = (3, 4)
"""How many channels can be in another order."""

View = tuple[str, str, FloatArray]
"""What was done to the images, what to do about it, and the images, (n, *shape)."""


def views(x: FloatArray, model: Model) -> Iterator[View]:
    """Every other view of a model's images (n, *shape); those that change nothing are left out.

    Layouts come first: where one corrects as much as a scale does, it is the likelier cause.
    """
    for name, images in layouts(x, channel_axis_of(model, tuple(x.shape[1:]))).items():
        if not np.array_equal(images, x):
            yield name, LAYOUT, np.ascontiguousarray(images)
    for name, images in _rescaled(x, model.bounds).items():
        if not np.allclose(images, x, atol=TOLERANCE):
            yield name, SCALE, images.astype(x.dtype)


def layouts(x: FloatArray, channel_axis: int | None = None) -> dict[str, FloatArray]:
    """The images with their axes the other way round.

    Args:
        x: Images, (n, *shape).
        channel_axis: Axis of one image that holds its channels, from 0. Where it is not known, as
            of 3×3 pixels in three colours, it is taken to be the first.
    """
    side = math.isqrt(x.shape[1])
    if x.ndim == 2 and side > 1 and side * side == x.shape[1]:  # a square image, laid out flat
        square = layouts(x.reshape(-1, side, side))
        return {name: images.reshape(x.shape) for name, images in square.items()}
    rows, columns, channels = _axes(x, channel_axis)
    others: dict[str, FloatArray] = {}
    if channels is not None:
        others |= _recoloured(x, channels)
    if rows is None or columns is None:
        return others
    if x.shape[rows] == x.shape[columns]:
        others["rows and columns exchanged"] = np.swapaxes(x, rows, columns)
        others["rows and columns exchanged from the last to the first"] = np.flip(
            np.swapaxes(x, rows, columns), (rows, columns)
        )
        others["the images turned by 90°"] = np.rot90(x, 1, (rows, columns))
        others["the images turned by -90°"] = np.rot90(x, -1, (rows, columns))
    others["the images upside down"] = np.flip(x, rows)
    others["the images mirrored"] = np.flip(x, columns)
    others["the images turned by 180°"] = np.flip(x, (rows, columns))
    if channels in (1, 3):
        others |= _other_memory(x, channels)
    return others


def _recoloured(x: FloatArray, channels: int) -> dict[str, FloatArray]:
    """Images with their colours in every other order; a fourth channel stays."""
    others = {"the channels in reverse order (BGR for RGB)": np.flip(x, channels)}
    for order in permutations(range(3)):
        name = f"the channels in the order {''.join('RGB'[place] for place in order)} (for RGB)"
        if x.shape[channels] > 3 or order != (2, 1, 0):
            rest = range(3, x.shape[channels])
            others[name] = np.take(x, [*order, *rest], axis=channels)
    return others


def _other_memory(x: FloatArray, channels: int) -> dict[str, FloatArray]:
    """Images whose bytes were read with the channels at the other end."""
    count, *shape = x.shape
    last = channels == x.ndim - 1
    if last:
        planes = x.reshape(count, shape[2], shape[0], shape[1])
        return {"their values read as channels first": np.moveaxis(planes, 1, -1)}
    pixels = x.reshape(count, shape[1], shape[2], shape[0])
    return {"their values read as channels last": np.moveaxis(pixels, -1, 1)}


def _axes(x: FloatArray, channel_axis: int | None) -> tuple[int | None, int | None, int | None]:
    """Which axes of (n, *shape) are rows, columns and channels; None for what is not there.

    Channels count only if they can be in another order.
    """
    if x.ndim == 3:
        return 1, 2, None
    if channel_axis is None and x.ndim == 4 and x.shape[1] in COLOURS:
        channel_axis = 0
    if x.ndim != 4 or channel_axis is None:
        return None, None, None
    channels = channel_axis + 1
    rows, columns = (axis for axis in (1, 2, 3) if axis != channels)
    return rows, columns, channels if x.shape[channels] in CHANNELS else None


def _rescaled(x: FloatArray, bounds: Bounds) -> dict[str, FloatArray]:
    """The images with their pixels on another scale."""
    low, high = bounds
    unit = (x - low) / (high - low)
    spread = max(float(unit.std()), 1e-12)
    return {
        "pixels in [0, 1]": unit,
        "pixels in [-1, 1]": 2 * unit - 1,
        "pixels in [0, 255]": 255 * unit,
        "pixels divided by 255 once more": unit / 255,
        "standardised pixels": (unit - unit.mean()) / spread,
        "inverted pixels": high + low - x,
    }
