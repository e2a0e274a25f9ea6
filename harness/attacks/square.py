"""The Square Attack in L∞ (Andriushchenko et al. 2020, algorithms 1 and 2): no gradient needed."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from harness.attacks.iterated import OPTIONS
from harness.attacks.random_search import Drawn, RandomSearch, area_at, window
from harness.maths.draws import generators, stacked
from harness.protocol import BoolArray, Bounds, FloatArray, IntArray, NormName


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class Square(RandomSearch):
    """Random squares of ±ε, each kept if it lowers the true class's lead over the others."""

    name: str = "square"
    norm: ClassVar[NormName] = "linf"

    def begin(
        self, clean: FloatArray, epsilon: float, bounds: Bounds, index: IntArray
    ) -> tuple[FloatArray, Drawn]:
        """See ``RandomSearch``; columns of ±ε."""
        down, up = np.clip(clean - epsilon, *bounds), np.clip(clean + epsilon, *bounds)
        places, signs, stripes = self._draws(index, clean.shape[1:])
        state = {"down": down, "up": up, "places": places, "signs": signs}
        return np.where(stripes, up, down), state

    def propose(
        self, moving: FloatArray, state: Drawn, epsilon: float, bounds: Bounds, step: int
    ) -> FloatArray:
        """See ``RandomSearch``; a square of one sign in each channel."""
        area = area_at(self.area, step, self.steps)
        inside = _windows(state["places"][:, step], moving.shape, area)
        square = np.where(state["signs"][:, step], state["up"], state["down"])
        return np.where(inside, square, moving)

    def _draws(
        self, index: IntArray, planes: tuple[int, ...]
    ) -> tuple[FloatArray, BoolArray, BoolArray]:
        """Per image and step where the square lies, (m, steps, 2) in [0, 1), and its signs.

        Returns:
            The places; whether each channel goes up, (m, steps, c, 1, 1); and whether each column
            of the first stripes does, (m, c, 1, w).
        """
        channels, _, width = planes
        places, signs, stripes = [], [], []
        for random in generators(self.seed, index):
            places.append(random.random((self.steps, 2), dtype=np.float32))
            signs.append(random.random((self.steps, channels, 1, 1), dtype=np.float32) < 0.5)
            stripes.append(random.random((channels, 1, width), dtype=np.float32) < 0.5)
        return (
            stacked(places, (self.steps, 2)),
            stacked(signs, (self.steps, channels, 1, 1)),
            stacked(stripes, (channels, 1, width)),
        )


def _windows(places: FloatArray, shape: tuple[int, ...], area: float) -> BoolArray:
    """Which pixels lie in each image's square, (m, 1, h, w)."""
    _, _, height, width = shape
    side = max(1, round(math.sqrt(area * height * width)))
    tall, wide = window(side, area, height, width)
    top = np.floor(places[:, :1] * (height - tall + 1))
    left = np.floor(places[:, 1:] * (width - wide + 1))
    rows, columns = np.arange(height), np.arange(width)
    across = (rows >= top) & (rows < top + tall)
    along = (columns >= left) & (columns < left + wide)
    return np.asarray(across[:, None, :, None] & along[:, None, None, :])
