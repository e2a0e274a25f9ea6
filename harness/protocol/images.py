"""Test images, whether they are in memory or read from a disk batch by batch."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Images(Protocol):
    """Images (n, *shape), float32 or float64: a NumPy array, or what stands for one.

    All of them may not fit into memory. So take a batch by ``np.asarray(x[start:stop])``, and write
    to copies only. A slice may be images that are not read yet; an array of positions gives an
    array, and one position one image.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, *shape)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read: float32 or float64."""

    @property
    def ndim(self) -> int:
        """The length of ``shape``."""

    @property
    def nbytes(self) -> int:
        """Bytes that all of them take in memory."""

    def __len__(self) -> int:
        """How many images there are."""

    def __getitem__(self, key: Any, /) -> Any:
        """Some of them; see above."""

    def __array__(self) -> npt.NDArray[Any]:
        """All of them, in memory."""
