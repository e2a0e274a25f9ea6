"""Lists, columns and tensors of any framework as plain NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError, one_line

JOIN = "join batches, such as those of a DataLoader, first (np.concatenate)"
"""What to do with data that comes in parts."""


def as_array(values: Any, name: str) -> npt.NDArray[Any]:
    """Lists, pandas columns, and tensors of any framework and device as a plain NumPy array.

    It has the byte order of this machine, and no negative strides. Memory is shared where that
    is possible.

    Raises:
        HarnessError: What is given is no array, or cannot be read as one.
    """
    if not _is_array(values):
        raise HarnessError(
            f"{name}: {type(values).__name__} is no array; pass NumPy arrays or tensors, and {JOIN}"
        )
    if _are_batches(values):
        raise HarnessError(f"{name}: {type(values).__name__} holds batches; {JOIN}")
    try:
        array = _plain(values)
    except Exception as error:  # a framework's own array raises whatever it likes
        raise HarnessError(
            one_line(f"{name}: {type(values).__name__} cannot be read as an array: {error}")
        ) from error
    if min(array.strides, default=0) < 0:
        array = np.ascontiguousarray(array)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _is_array(values: Any) -> bool:
    if isinstance(values, str | bytes | type | Mapping):
        return False
    return isinstance(values, Sequence) or any(
        hasattr(values, name) for name in ("__array__", "__array_interface__", "__dlpack__")
    )


def _are_batches(values: Any) -> bool:
    """Whether a list holds batches: pairs of arrays, or arrays whose first sizes alone differ."""
    if not isinstance(values, list | tuple) or not values:
        return False
    first = values[0]
    if isinstance(first, list | tuple | Mapping):
        parts = list(first.values()) if isinstance(first, Mapping) else first
        return any(getattr(part, "ndim", 0) for part in parts)
    shapes = {tuple(getattr(value, "shape", ())) for value in values}
    return len(shapes) > 1 and all(shapes) and len({shape[1:] for shape in shapes}) == 1


def _plain(values: Any) -> npt.NDArray[Any]:
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError("some of its values are masked; fill them in")
    if hasattr(values, "detach"):
        return _from_torch(values)
    if isinstance(values, list | tuple) and any(hasattr(value, "detach") for value in values):
        return np.stack([_plain(value) for value in values])
    array = np.asarray(values)
    if array.dtype.kind == "O":  # such as a column of arrays, or of integers
        array = np.asarray(array.tolist())
    if array.dtype.kind == "V" and "float" in array.dtype.name:  # bfloat16, which NumPy lacks
        array = array.astype(np.float32)
    return array


def _from_torch(tensor: Any) -> npt.NDArray[Any]:
    held = tensor.detach().cpu()
    if str(held.dtype) == "torch.bfloat16":
        held = held.float()
    return np.asarray(held.resolve_conj().resolve_neg())
