"""Images that are not in memory as a whole: an array is read when it is asked for."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from operator import index as whole_number
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.protocol import FloatArray, Images, IntArray


class LazyImages(ABC):
    """What behaves like an array of images (n, *shape), as far as ``protocol.Images`` says.

    Args:
        shape: (n, *shape).
        dtype: Of what is read: float32 or float64.
    """

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)

    @abstractmethod
    def read(self, rows: IntArray) -> FloatArray:
        """A new array of the images at these positions, (m,) from 0 to n - 1 in any order."""

    @property
    def ndim(self) -> int:
        """See ``protocol.Images``."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """See ``protocol.Images``."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __len__(self) -> int:
        """See ``protocol.Images``."""
        return self.shape[0]

    def __getitem__(self, key: Any, /) -> Any:
        """See ``protocol.Images``."""
        if isinstance(key, slice):
            return Chosen(self, np.arange(len(self))[key])
        rows = self._rows(key)
        return self.read(rows.reshape(1))[0] if rows.ndim == 0 else self.read(rows)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """See ``protocol.Images``."""
        return self.read(np.arange(len(self))).astype(dtype or self.dtype, copy=False)

    def _rows(self, key: Any) -> IntArray:
        """Positions from 0, of one number, several, or booleans.

        Raises:
            IndexError: One is out of range, or it is none of these.
        """
        given = np.asarray(key) if np.ndim(key) else np.asarray(whole_number(key))
        if given.dtype == bool and given.shape == (len(self),):
            return np.flatnonzero(given)
        if given.size == 0:
            given = given.astype(np.int64)
        if given.dtype.kind not in "iu" or given.ndim > 1:
            raise IndexError("images are chosen by a slice, or by positions (m,)")
        rows = np.where(given < 0, given + len(self), given)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"there are {len(self)} images; position {key} is none of them")
        return np.asarray(rows, dtype=np.int64)


class Chosen(LazyImages):
    """Some of other images, in a given order; they are not read before they are asked for.

    Args:
        images: The others.
        rows: Positions among them, (m,) from 0.
    """

    def __init__(self, images: Images, rows: IntArray) -> None:
        super().__init__((len(rows), *images.shape[1:]), images.dtype)
        self._images, self._places = images, rows

    def read(self, rows: IntArray) -> FloatArray:
        """See ``LazyImages``."""
        return np.asarray(self._images[self._places[rows]])
