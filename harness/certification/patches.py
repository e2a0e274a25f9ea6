"""What single values of a convolution depend on: patches of the maps before, and nothing else.

Going back from one value through convolutions, ReLUs and pooling, all coefficients outside of such
a patch are zero. Values at the same place of an image, in all its channels, have the same patches.
So a place of an image is treated as an image of its own, whose maps are the patches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from harness.certification.layers import Linear, Pooled
from harness.certification.numbers import Numbers
from harness.certification.regions import Interval, Region
from harness.certification.relaxations import Affine, Bent, Inside, Node, Path, Peaked
from harness.protocol import Array, BoolArray, IntArray, Pair, Shape

LARGEST = 0.5
"""Patches that are a larger share of their maps save too little."""


@dataclass(frozen=True)
class Patch:
    """A part of maps for each place of a grid; it may reach beyond them.

    Attributes:
        shape: (channels, height, width) of the maps.
        size: Height and width of the part.
        stride: How far the parts of neighbouring places are apart.
        corner: How far the first one begins above and left of the map.
        grid: How many places there are, in a column and in a row.
    """

    shape: Shape
    size: Pair
    stride: Pair
    corner: Pair
    grid: Pair

    @property
    def count(self) -> int:
        """Numbers in the part."""
        return self.shape[0] * self.size[0] * self.size[1]

    @property
    def whole(self) -> int:
        """Numbers in the maps, and the position that is none of them."""
        return int(np.prod(self.shape))

    @cached_property
    def index(self) -> IntArray:
        """Positions of its numbers in the maps, (places, count)."""
        channels, height, width = self.shape
        (down, row_in), (across, column_in) = (
            _inside(grid, step, size, corner, side)
            for grid, step, size, corner, side in zip(
                self.grid, self.stride, self.size, self.corner, (height, width), strict=True
            )
        )
        rows, columns = down[:, None, None, :, None], across[None, :, None, None, :]
        inside = row_in[:, None, None, :, None] & column_in[None, :, None, None, :]
        maps = np.arange(channels)[:, None, None] * height * width
        found = np.where(inside, maps + rows * width + columns, self.whole)
        return found.reshape(self.grid[0] * self.grid[1], self.count)

    def before(self, shape: Shape, kernel: Pair, stride: Pair, corner: Pair) -> Patch:
        """What this one depends on, of the maps before a layer that slides over them."""
        size = tuple(
            (side - 1) * step + window
            for side, step, window in zip(self.size, stride, kernel, strict=True)
        )
        strides = (self.stride[0] * stride[0], self.stride[1] * stride[1])
        corners = tuple(
            own * step + first for own, step, first in zip(self.corner, stride, corner, strict=True)
        )
        return Patch(shape, (size[0], size[1]), strides, (corners[0], corners[1]), self.grid)


def _inside(
    grid: int, stride: int, size: int, corner: int, side: int
) -> tuple[IntArray, BoolArray]:
    """Rows of each part, (grid, size), within the map, and which of them are."""
    found = np.arange(grid)[:, None] * stride - corner + np.arange(size)
    return np.clip(found, 0, side - 1), (found >= 0) & (found < side)


@dataclass(frozen=True)
class Sight:
    """A patch of some images, at one place of each.

    Attributes:
        numbers: The arithmetic.
        patch: The patch.
        images: Positions of the images, (m,).
        places: The place of each, (m,).
    """

    numbers: Numbers
    patch: Patch
    images: IntArray
    places: IntArray

    def of(self, vectors: Array, size: int = 1) -> Array:
        """What it sees of (b, channels · size · pixels), (m, count · size); zeros beyond it."""
        numbers, xp, whole = self.numbers, self.numbers.xp, self.patch.whole * size
        at = self._several(size) if size > 1 else self.patch.index[self.places]
        if numbers.on_host:
            inside = at < whole
            found = np.take(vectors, np.where(inside, at, 0) + self.images[:, None] * whole)
            return np.where(inside, found, 0.0)
        padded = numbers.joined([vectors, xp.zeros_like(vectors[:, :1])], axis=1)
        flat = numbers.places((at + self.images[:, None] * (whole + 1)).reshape(-1))
        return xp.reshape(numbers.take(xp.reshape(padded, (-1,)), flat), at.shape)

    def edge(self) -> list[Node]:
        """What takes off coefficients beyond the maps, if the patches reach there."""
        inside = self.patch.index[self.places] < self.patch.whole
        if inside.all():
            return []
        return [Inside(self.numbers, self.numbers.floats(inside.astype(np.float64)))]

    def _several(self, size: int) -> IntArray:
        """Positions where each number of a map is ``size`` ones, (m, channels · size · pixels)."""
        channels, whole = self.patch.shape[0], self.patch.whole
        pixels = whole // channels
        at = self.patch.index[self.places].reshape(len(self.images), channels, 1, -1)
        first = at // pixels * (size - 1) * pixels
        several = at + first + np.arange(size)[:, None] * pixels
        return np.where(at < whole, several, whole * size).reshape(len(self.images), -1)


@dataclass(frozen=True)
class Plan:
    """How far back the values of the last layer of a path depend on patches alone.

    Attributes:
        rest: The layers before, which are given whole maps.
        nodes: The others.
        patches: What each of these is given, and what the last of them makes.
        steps: What each of them is on patches; None of a ReLU.
    """

    rest: Path
    nodes: Path
    patches: tuple[Patch, ...]
    steps: tuple[Linear | Pooled | None, ...]

    @classmethod
    def of(cls, path: Path) -> Plan | None:
        """That of the values of a path's last layer; None if they depend on whole maps."""
        last = path[-1]
        local = last.step.local if isinstance(last, Affine) else None
        if local is None:
            return None
        grid = (local.after[1], local.after[2])
        patches, first = [Patch(local.after, (1, 1), (1, 1), (0, 0), grid)], len(path)
        steps: list[Linear | Pooled | None] = []
        for node in reversed(path):
            found = _before(node, patches[0])
            if found is None or found[0].count > LARGEST * found[0].whole:
                break
            patches.insert(0, found[0])
            steps.insert(0, found[1])
            first -= 1
        return cls(path[:first], path[first:], tuple(patches), tuple(steps)) if steps else None

    @property
    def to_pixels(self) -> bool:
        """Whether all layers are on patches, but for one that puts pixels in their order."""
        return all(isinstance(node, Affine) and node.step.moves for node in self.rest)

    @property
    def places(self) -> int:
        """How many places an image has."""
        return len(self.patches[0].index)

    @property
    def room(self) -> int:
        """Numbers in the largest array that a row needs within the patches."""
        rooms = [patch.count for patch in self.patches]
        for step in self.steps:
            if isinstance(step, Linear):
                rooms.append(step.room)
            elif isinstance(step, Pooled):
                rooms.append(4 * step.channels * step.windows.size * step.windows.count)
        return max(rooms) if self.to_pixels else max(*rooms, self.patches[0].whole)

    def path(self, numbers: Numbers, images: IntArray, places: IntArray) -> Path:
        """The layers on the patches of some images, (m,), at one place of each, (m,)."""
        made: list[Node] = []
        sights = [Sight(numbers, patch, images, places) for patch in self.patches]
        for number, (node, step) in enumerate(zip(self.nodes, self.steps, strict=True)):
            before, after = sights[number], sights[number + 1]
            if isinstance(node, Bent):
                parts = (node.middle, node.half, node.above, node.slack)
                made.append(Bent(numbers, *(after.of(part) for part in parts)))
            elif isinstance(node, Peaked) and isinstance(step, Pooled):
                size = step.windows.size
                made.append(
                    Peaked(
                        numbers, step, after.of(node.middle, size), after.of(node.half, size),
                        after.of(node.above), after.of(node.slack),
                    )
                )  # fmt: skip
            elif isinstance(node, Affine) and isinstance(step, Linear):
                # A ReLU or a maximum before makes nothing of what is beyond the edge.
                if not made or not isinstance(made[-1], Bent | Peaked):
                    made += before.edge()
                made.append(Affine(step, after.of(node.slack), node.given))
        return tuple(made)

    def region(self, region: Region, images: IntArray, places: IntArray) -> Region:
        """The pixels in the patches of some images, likewise."""
        numbers = region.interval.numbers
        sight = Sight(numbers, self.patches[0], images, places)

        def pixels(vectors: Array) -> Array:
            for node in self.rest:
                vectors = node.step.forth(vectors) if isinstance(node, Affine) else vectors
            return sight.of(vectors)

        interval = Interval(numbers, pixels(region.interval.low), pixels(region.interval.high))
        ball = region.ball
        return Region(interval, None if ball is None else replace(ball, centre=pixels(ball.centre)))

    def spread(self, numbers: Numbers, images: IntArray, places: IntArray, rows: Array) -> Array:
        """Coefficients (m, r, count) on patches as those on whole maps, (m, r, n)."""
        patch, xp, (count, functions) = self.patches[0], numbers.xp, tuple(rows.shape)[:2]
        at = patch.index[places]
        if numbers.on_host:
            whole = np.zeros((count, functions, patch.whole + 1))
            np.put_along_axis(whole, at[:, None, :], rows, axis=2)
            return whole[:, :, : patch.whole]
        inverse = np.full((count, patch.whole + 1), patch.count)
        np.put_along_axis(inverse, at, np.arange(patch.count)[None], axis=1)
        starts = np.arange(count * functions).reshape(count, functions, 1) * (patch.count + 1)
        flat = numbers.places((starts + inverse[:, None, : patch.whole]).reshape(-1))
        padded = numbers.joined([rows, xp.zeros_like(rows[:, :, :1])], axis=2)
        found = numbers.take(xp.reshape(padded, (-1,)), flat)
        return xp.reshape(found, (count, functions, patch.whole))


def _before(node: Node, patch: Patch) -> tuple[Patch, Linear | Pooled | None] | None:
    """The patch before a node, and its layer there; None where it depends on whole maps."""
    if isinstance(node, Bent):
        return patch, None
    if isinstance(node, Affine) and node.step.local is not None:
        local = node.step.local
        before = patch.before(local.before, local.kernel, local.stride, local.corner)
        return before, local.within(node.step.numbers, patch.size, node.step.terms)
    if isinstance(node, Peaked):
        step = node.step
        before = patch.before(step.before, step.size, step.stride, step.corner)
        return before, step.within(before.size)
    return None
