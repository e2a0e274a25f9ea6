"""Test images that come one after the other or in batches, as a DataLoader gives them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.data.arrays import (
    check_bytes,
    check_span,
    divisor_of,
    labels_from,
    require_pairs,
)
from harness.data.images import Spool
from harness.errors import HarnessError, one_line
from harness.maths.conversion import as_array
from harness.progress import progress_bar
from harness.protocol import Bounds, Images, IntArray

IMAGE_KEYS = ("image", "images", "x", "img", "pixel_values", "inputs", "input", "data")
LABEL_KEYS = ("label", "labels", "y", "target", "targets", "fine_label")
"""What images and labels are called in batches that are dicts."""
Pair = tuple[npt.NDArray[Any], IntArray]


def read_batches(
    batches: Iterable[Any], bounds: Bounds, name: str = "batches", *, sampled: bool = False
) -> tuple[Images, IntArray, tuple[str, ...]]:
    """All images and labels of batches, which are read once, and notes on them.

    What would take more than ``IN_MEMORY`` as floats goes into a temporary file.

    Args:
        batches: Pairs (x, y), or dicts of both; of batches, or of one image and its label each.
        bounds: Lowest and highest pixel value.
        name: What messages call them.
        sampled: Whether each is one image, also where its label is an array of one number.

    Raises:
        HarnessError: There are none, or one is no such pair, has another shape than the first, or
            pixels outside the bounds; the message says which.
    """
    spool, labels = Spool(name), list[IntArray]()
    divisor, notes, highest = 1.0, tuple[str, ...](), -math.inf
    first: npt.NDArray[Any] | None = None
    with progress_bar(f"reading {name}", _length(batches)) as step:
        for number, (x, y) in enumerate(_pairs(batches, name, sampled)):
            if first is None:
                first = x[:0]
                divisor, notes = divisor_of(x.dtype, bounds, name)
            elif x.shape[1:] != first.shape[1:]:
                raise HarnessError(
                    f"{name}: batch {number} holds images of the shape {x.shape[1:]}, and the "
                    f"first those of {first.shape[1:]}; bring all to one size"
                )
            elif (x.dtype == np.uint8) != (first.dtype == np.uint8) or x.dtype.kind not in "fu":
                raise HarnessError(
                    f"{name}: batch {number} holds {x.dtype}, and the first {first.dtype}; bring "
                    "all to one dtype"
                )
            low, high = float(x.min()), float(x.max())
            highest = max(highest, high)
            check_span(low, high, bounds, divisor, f"{name}: batch {number}")
            spool.add(x.astype(first.dtype, copy=False))
            labels.append(y)
            step("")
    if first is None:
        raise HarnessError(f"{name}: holds no images; {_used_up(batches)}")
    check_bytes(highest, divisor, name)
    return spool.images(divisor), np.concatenate(labels), (*notes, *_doubts(batches))


def items_of(dataset: Any) -> Iterator[Any]:
    """The items of an object that has ``__len__`` and ``__getitem__``, which may not end itself."""
    return (dataset[index] for index in range(len(dataset)))


def names_of(source: Any) -> tuple[str, ...] | None:
    """Names of the classes, where a dataset or a loader has them."""
    for holder in (source, getattr(source, "dataset", None)):
        for key in ("classes", "class_names"):
            names = getattr(holder, key, None)
            if isinstance(names, Sequence) and not isinstance(names, str) and len(names):
                return tuple(str(name) for name in names)
    return None


def _pairs(batches: Iterable[Any], name: str, sampled: bool) -> Iterator[Pair]:
    for number, batch in enumerate(_each(batches, name)):
        called = f"{name}: batch {number}"
        given_x, given_y = _parts(batch, called)
        x, y = as_array(given_x, f"{called}: images"), _label_array(given_y, called)
        if y.ndim == 0 or (sampled and y.size == 1 and x.ndim <= 3):  # one image
            x, y = x[None], y.reshape(1)
        if x.ndim < 2 or x.size == 0:
            raise HarnessError(f"{called}: the shape {x.shape} is not (n, *image_shape) with n ≥ 1")
        labels = labels_from(y, f"{called}: labels")
        require_pairs(x, labels, called, "it")
        yield x, labels


def _each(batches: Iterable[Any], name: str) -> Iterator[Any]:
    """The batches; what whoever makes them raises is said in one line."""
    number = 0
    try:
        for batch in batches:
            yield batch
            number += 1
    except HarnessError:
        raise
    except Exception as error:  # somebody's own code
        reason = f"{type(error).__name__}: {error}"
        raise HarnessError(one_line(f"{name}: batch {number} cannot be read ({reason})")) from error


def _parts(batch: Any, called: str) -> tuple[Any, Any]:
    if isinstance(batch, Mapping):
        x = next((batch[key] for key in IMAGE_KEYS if key in batch), None)
        y = next((batch[key] for key in LABEL_KEYS if key in batch), None)
        there = ", ".join(str(key) for key in batch)
        if x is None:
            raise HarnessError(f"{called}: has no images, named image or x; it holds {there}")
        if y is None:
            raise HarnessError(f"{called}: has no labels, named label or y; it holds {there}")
        return x, y
    if isinstance(batch, tuple | list) and len(batch) in (2, 3):  # the third are weights
        return batch[0], batch[1]
    shape = getattr(batch, "shape", None)
    what = f"images of the shape {tuple(shape)} alone" if shape is not None else _kind(batch)
    raise HarnessError(f"{called}: is {what}; give pairs (x, y) of images and labels")


def _label_array(given: Any, called: str) -> npt.NDArray[Any]:
    if isinstance(given, int | float | str | bytes | np.generic):
        return np.asarray(given)
    return as_array(given, f"{called}: labels")


def _kind(batch: Any) -> str:
    if isinstance(batch, tuple | list):
        return f"a {type(batch).__name__} of {len(batch)}"
    return type(batch).__name__


def _length(batches: Iterable[Any]) -> int | None:
    with suppress(Exception):  # many loaders do not know
        return len(batches) if isinstance(batches, Sized) else None
    return None


def _used_up(batches: Iterable[Any]) -> str:
    once = isinstance(batches, Iterator)
    return "a generator gives its batches once; make a new one" if once else "give at least one"


def _doubts(loader: Any) -> Iterator[str]:
    """What a DataLoader does to its images that a reader should know."""
    if type(getattr(loader, "sampler", None)).__name__ == "RandomSampler":
        yield (
            "the loader shuffles, so that no two runs have the images in one order, by which the "
            "gate compares; say shuffle=False"
        )
    if getattr(loader, "drop_last", False) is True:
        yield "the loader may leave out the last images; say drop_last=False"
