"""Images and labels as somebody has them, checked; or one line on why they cannot be taken."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.images import IN_MEMORY, Raw, Stored, batch_of, held
from harness.errors import HarnessError
from harness.maths.conversion import JOIN, as_array
from harness.maths.norms import rounding
from harness.progress import progress_bar, quiet
from harness.protocol import Bounds, Images, IntArray

BYTE = 255
"""The largest value of a byte."""
SORTED = 20
"""Of at least so many images it is said that they come class by class."""


def images_from(x: Any, bounds: Bounds, name: str = "x") -> tuple[Images, tuple[str, ...]]:
    """Images (n, *shape) within the bounds, and what was done to them.

    Args:
        x: An array or tensor of any framework, or lists: floats, or bytes, which are divided by 255
            where the bounds are [0, 1].
        bounds: Lowest and highest pixel value.
        name: What messages call it.

    Raises:
        HarnessError: It is none; a pixel is NaN, or outside the bounds.
    """
    raw = as_array(x, name)
    divisor, notes = divisor_of(raw.dtype, bounds, name)
    require_images(raw.shape, name)
    check_pixels(raw, bounds, divisor, name)
    return held(raw, divisor), notes


def divisor_of(
    dtype: np.dtype[Any], bounds: Bounds, name: str, of: str = ""
) -> tuple[float, tuple[str, ...]]:
    """What stored pixels are divided by to be within the bounds, and a note that says so.

    Args:
        dtype: Of the stored pixels.
        bounds: Lowest and highest pixel value.
        name: What messages call the images.
        of: What bytes are called in notes, where it is something else.

    Raises:
        HarnessError: They are no floats, nor bytes that the bounds leave no doubt about.
    """
    if dtype.kind == "f":
        return 1.0, ()
    if (dtype.kind, dtype.itemsize) != ("u", 1):
        raise HarnessError(
            f"{name}: pixels are {dtype}; pass floats within {list(bounds)}, or bytes "
            f"(astype(np.uint8)), which are divided by {BYTE}"
        )
    if bounds == (0, BYTE):
        return 1.0, ()
    if bounds != (0, 1):
        raise HarnessError(
            f"{name}: pixels are uint8, and the bounds {list(bounds)}; bytes are taken with the "
            f"bounds [0, {BYTE}], or with [0, 1] for bytes / {BYTE}; else pass floats"
        )
    return float(BYTE), (f"{of or 'bytes'} were divided by {BYTE}, for the bounds [0, 1]",)


def require_images(shape: tuple[int, ...], name: str) -> None:
    """Refuse what is no (n, *image_shape).

    Raises:
        HarnessError: It is not, or there are no images.
    """
    if len(shape) < 2 or math.prod(shape) == 0:
        raise HarnessError(f"{name}: the shape {shape} is not (n, *image_shape) with n ≥ 1")


def check_pixels(raw: Raw | Stored, bounds: Bounds, divisor: float, name: str) -> None:
    """Look at all stored pixels, a batch at a time, with a progress bar where they are many.

    Raises:
        HarnessError: One is NaN or outside the bounds, or bytes are no bytes of images.
    """
    lowest, highest = math.inf, -math.inf
    many = math.prod(raw.shape) > IN_MEMORY
    size = batch_of(raw.shape, raw.dtype.itemsize)
    steps = math.ceil(len(raw) / size)
    with nullcontext() if many else quiet(), progress_bar(f"checking {name}", steps) as step:
        for batch in _batches(raw, size):
            # By NumPy, in whose minima NaN wins; then no later batch can hide it.
            lowest = float(np.minimum(lowest, batch.min()))
            highest = float(np.maximum(highest, batch.max()))
            step("")
    check_span(lowest, highest, bounds, divisor, name)
    check_bytes(highest, divisor, name)


def check_span(lowest: float, highest: float, bounds: Bounds, divisor: float, name: str) -> None:
    """The same of the lowest and highest stored pixel, which are NaN if any is.

    Raises:
        HarnessError: See ``check_pixels``.
    """
    if math.isnan(lowest):
        raise HarnessError(f"{name}: holds NaN; fill in what is missing, such as by np.nan_to_num")
    lowest, highest = lowest / divisor, highest / divisor
    slack = rounding(bounds)
    if not (bounds[0] - slack <= lowest and highest <= bounds[1] + slack):
        raise HarnessError(
            f"{name}: pixels span [{lowest:g}, {highest:g}], outside the model's bounds "
            f"{list(bounds)}; scale the images, or wrap the network with its own bounds"
        )


def check_bytes(highest: float, divisor: float, name: str) -> None:
    """Refuse bytes that are no more than 0 and 1, which nobody means to divide by 255.

    Raises:
        HarnessError: They are.
    """
    if divisor == BYTE and highest <= 1:
        raise HarnessError(
            f"{name}: all pixels are 0 or 1, as bytes, which would be divided by {BYTE}; if they "
            "are within [0, 1] already, store them as float32"
        )


def labels_from(y: Any, name: str = "y") -> IntArray:
    """True labels, (n,) int64, a copy; also of such as are (n, 1).

    Raises:
        HarnessError: They are no integers of that shape.
    """
    if y is None:
        raise HarnessError(
            f"{name}: missing; pass the true labels, (n,) integers, beside the images"
        )
    labels = as_array(y, name)
    if labels.dtype.kind in "US":
        digits = labels.size and all(str(label).isdecimal() for label in labels.flat)
        remedy = " (np.asarray(y).astype(int))" if digits else "; number the classes from 0"
        raise HarnessError(f"{name}: labels are text; pass integers{remedy}")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise HarnessError(
            f"{name}: {labels.dtype} of shape {labels.shape} is not (n,) integer labels; "
            f"{_remedy(labels)}"
        )
    if labels.size and int(labels.max()) > np.iinfo(np.int64).max:
        raise HarnessError(f"{name}: the label {labels.max()} is no class")
    return np.array(labels, dtype=np.int64)


def require_pairs(x: Images, y: IntArray, name: str = "x", labels: str = "y") -> None:
    """Refuse images and labels that are not as many.

    Raises:
        HarnessError: They are not.
    """
    if len(x) != len(y):
        raise HarnessError(f"{name} has {len(x)} images, but {labels} has {len(y)} labels")


def notes_on(y: IntArray) -> tuple[str, ...]:
    """What a reader should know of the order of labels (n,)."""
    if len(y) < SORTED or y[0] == y[-1] or (np.diff(y) < 0).any():
        return ()
    return (
        "the images come class by class, so that the first of them, which some measurements look "
        "at, are of few classes; shuffle them once",
    )


def _batches(raw: Raw | Stored, size: int) -> Iterator[npt.NDArray[Any]]:
    for start in range(0, len(raw), size):
        stop = min(start + size, len(raw))
        yield raw[start:stop] if isinstance(raw, np.ndarray) else raw.raw(np.arange(start, stop))


def _remedy(labels: npt.NDArray[Any]) -> str:
    if labels.ndim == 1:
        whole = labels.dtype.kind in "fb"
        return "pass y.astype(int)" if whole else "number the classes from 0"
    one_hot = labels.ndim != 2 or (labels.astype(float).sum(axis=1) == 1).all()
    return "for one-hot labels pass y.argmax(axis=1)" if one_hot else JOIN
