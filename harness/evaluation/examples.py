"""Which test images are kept as examples."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import numpy.typing as npt

from harness.protocol import FloatArray, Images, IntArray
from harness.results import keys
from harness.results.recorder import PICTURES, Recorder

EXAMPLES = 10
"""Images that are kept as examples, at most: of more classes those of an even choice."""


class Examples:
    """The first image of each class, in their order.

    Of more classes than ``EXAMPLES``, or than ``PICTURES`` has room for, an even choice.

    Args:
        x: Test images, (n, *shape).
        y: Their labels, (n,).
        recorder: Keeps them, when they are first asked for.
    """

    def __init__(self, x: Images, y: IntArray, recorder: Recorder) -> None:
        self._x, self._y, self._recorder = x, y, recorder

    @cached_property
    def index(self) -> npt.NDArray[np.int64]:
        """Positions of the images, (m,)."""
        _, firsts = np.unique(self._y, return_index=True)
        count = min(EXAMPLES, that_fit(self._x), len(firsts))
        chosen = np.linspace(0, len(firsts) - 1, count).round().astype(int)
        index = np.sort(firsts[chosen]).astype(np.int64)
        self._recorder.keep(keys.INDEX, index)
        self._recorder.keep_pictures(keys.example("clean"), self._x[index])
        return index

    @property
    def x(self) -> FloatArray:
        """The images, (m, *shape)."""
        return np.asarray(self._x[self.index])

    @property
    def y(self) -> IntArray:
        """Their labels, (m,)."""
        return np.asarray(self._y[self.index])


def that_fit(x: Images) -> int:
    """How many of the images (n, *shape) are kept as float32 under one key, at least one."""
    return max(1, PICTURES // (4 * max(1, math.prod(x.shape[1:]))))
