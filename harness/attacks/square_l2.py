"""The Square Attack in L2 (Andriushchenko et al. 2020, algorithms 1 and 3): no gradient needed."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic.dataclasses import dataclass

from harness.attacks.iterated import OPTIONS
from harness.attacks.random_search import Drawn, RandomSearch, area_at, window
from harness.maths.draws import generators, stacked
from harness.protocol import Bounds, FloatArray, IntArray, NormName

LEAST = 3
"""Side of the smallest window, in pixels, as in the authors' code; a bump needs a middle."""
TILES = 5
"""Bumps in each row and column of the first perturbation."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class SquareL2(RandomSearch):
    """Moves the length of a perturbation from one random window into another.

    What is taken out of one window, and what the ball has left, goes into a bump and a dent in the
    other, added to the direction that was there. A proposal is kept if it lowers the true class's
    lead over the others.
    """

    name: str = "square-l2"
    norm: ClassVar[NormName] = "l2"

    def begin(
        self, clean: FloatArray, epsilon: float, bounds: Bounds, index: IntArray
    ) -> tuple[FloatArray, Drawn]:
        """See ``RandomSearch``; a grid of bumps and dents, in each channel its own."""
        channels, height, width = clean.shape[1:]
        tall, wide = max(1, height // TILES), max(1, width // TILES)
        down, across = height // tall, width // wide
        signs, state = self._draws(index, (channels, down, across))
        tiles = np.kron(signs, bump(tall, wide))
        top, left = (height - down * tall) // 2, (width - across * wide) // 2
        change = np.zeros(clean.shape)
        change[:, :, top : top + down * tall, left : left + across * wide] = tiles
        return _within(clean, change, epsilon, bounds), state | {"clean": clean}

    def propose(
        self, moving: FloatArray, state: Drawn, epsilon: float, bounds: Bounds, step: int
    ) -> FloatArray:
        """See ``RandomSearch``; algorithm 3."""
        clean = state["clean"]
        _, channels, height, width = clean.shape
        area = area_at(self.area, step, self.steps)
        side = max(LEAST, round(math.sqrt(area * height * width)))
        size = window(side + 1 - side % 2, area, height, width)
        change = (moving - clean).astype(np.float64)
        places = state["places"][:, step]
        to, source = (_pixels(places[:, i], size, clean.shape) for i in (0, 1))
        unused = np.maximum(epsilon**2 - (change**2).sum(axis=(1, 2, 3)), 0.0)
        # By channel: the squared length in either window, those of both counted once.
        emptied = change.copy()
        emptied[to] = 0.0
        emptied[source] = 0.0
        room = (change**2).sum(axis=(2, 3)) - (emptied**2).sum(axis=(2, 3))
        available = np.sqrt(np.maximum(room, 0.0) + unused[:, None] / channels)
        new = state["signs"][:, step] * _two_bumps(*size)[state["turned"][:, step]][:, None]
        new = new + _unit(change[to])
        emptied[to] = _unit(new) * available[:, :, None, None]
        return _within(clean, emptied, epsilon, bounds)

    def _draws(self, index: IntArray, grid: tuple[int, int, int]) -> tuple[FloatArray, Drawn]:
        """The signs of the first bumps, (m, c, down, across); and what each step needs.

        That is where the two windows lie, (m, steps, 2, 2) in [0, 1), the sign of each channel,
        (m, steps, c, 1, 1), and whether the bump lies beside the dent or above it, (m, steps).
        """
        first, places, signs, turned = [], [], [], []
        for random in generators(self.seed, index):
            places.append(random.random((self.steps, 2, 2), dtype=np.float32))
            signs.append(_signs(random, (self.steps, grid[0], 1, 1)))
            turned.append(random.integers(2, size=self.steps))
            first.append(_signs(random, grid))
        return stacked(first, grid), {
            "places": stacked(places, (self.steps, 2, 2)),
            "signs": stacked(signs, (self.steps, grid[0], 1, 1)),
            "turned": stacked(turned, (self.steps,)),
        }


def bump(tall: int, wide: int) -> FloatArray:
    """Equation 3: highest in the middle, and falling in rings to the edges, (tall, wide)."""
    found = np.zeros((tall, wide))
    middle = tall // 2 + 1, wide // 2 + 1
    for ring in range(max(middle)):
        top, left = middle[0] - 1 - ring, middle[1] - 1 - ring
        rows = slice(max(top, 0), max(top + 2 * ring + 1, 0))
        found[rows, max(left, 0) : max(left + 2 * ring + 1, 0)] += 1 / (ring + 1) ** 2
    return np.asarray(found / np.linalg.norm(found))


def _two_bumps(tall: int, wide: int) -> FloatArray:
    """A bump above a dent, and one beside a dent, each of length one: (2, tall, wide)."""
    half_tall, half_wide = tall // 2, wide // 2
    above = [bump(half_tall, wide)] if half_tall else []
    beside = [bump(tall, half_wide)] if half_wide else []
    stacks = (
        np.concatenate([*above, -bump(tall - half_tall, wide)], axis=0),
        np.concatenate([*beside, -bump(tall, wide - half_wide)], axis=1),
    )
    return np.stack([stack / np.linalg.norm(stack) for stack in stacks])


def _pixels(
    places: FloatArray, size: tuple[int, int], shape: tuple[int, ...]
) -> tuple[npt.NDArray[Any], ...]:
    """Indices of each image's window in (m, c, h, w); they pick (m, c, tall, wide)."""
    count, channels, height, width = shape
    tall, wide = size
    top = np.floor(places[:, 0] * (height - tall + 1)).astype(np.int64)
    left = np.floor(places[:, 1] * (width - wide + 1)).astype(np.int64)
    return (
        np.arange(count)[:, None, None, None],
        np.arange(channels)[None, :, None, None],
        (top[:, None] + np.arange(tall))[:, None, :, None],
        (left[:, None] + np.arange(wide))[:, None, None, :],
    )


def _unit(values: FloatArray) -> FloatArray:
    """Each channel (m, c, h, w) divided by its length; zero where that is zero."""
    length = np.sqrt((values**2).sum(axis=(2, 3), keepdims=True))
    return np.asarray(values / np.where(length > 0, length, 1.0))


def _within(clean: FloatArray, change: FloatArray, epsilon: float, bounds: Bounds) -> FloatArray:
    """The images with a change of length ε, cut off by the box, in the dtype of the clean ones."""
    length = np.sqrt((change**2).sum(axis=(1, 2, 3), keepdims=True))
    scaled = change * (epsilon / np.where(length > 0, length, 1.0))
    return np.asarray(np.clip(clean + scaled, *bounds), dtype=clean.dtype)


def _signs(random: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
    up = random.random(shape, dtype=np.float32) < 0.5
    return np.asarray(np.where(up, np.float32(1), np.float32(-1)))
