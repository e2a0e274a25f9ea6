"""Random numbers of an attack: each image has its own, whatever batch it comes in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.protocol import IntArray


def generators(seed: int, index: IntArray, *salt: int) -> Iterator[np.random.Generator]:
    """A generator per image, from a seed, the image's position in its dataset, and a salt."""
    return (np.random.default_rng([seed, *salt, int(position)]) for position in index)


def stacked(parts: Sequence[npt.NDArray[Any]], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """One array of all parts, each of that shape; also of none."""
    return np.stack(parts) if parts else np.zeros((0, *shape), dtype=np.float32)
