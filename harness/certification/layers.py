"""The layers of a network for its certificates, on vectors, in both directions.

What is between two layers is a vector here, (n,), of maps in the order channel, row, column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from harness.certification.numbers import Numbers
from harness.certification.windows import Windows
from harness.errors import NotApplicable
from harness.protocol import (
    UNPADDED,
    Architecture,
    Array,
    Conv,
    Dense,
    Flatten,
    FloatArray,
    IntArray,
    MaxPool,
    MeanPool,
    Network,
    Pair,
    Placed,
    ReLU,
    Residual,
    Scale,
    Shape,
)

KEPT = 64 * 2**20
"""Bytes of the matrix of a layer, up to which it is kept as such."""
FEW = 128
"""Channels, up to which a layer that works on each by itself is a convolution of all of them."""


@dataclass(frozen=True)
class Local:
    """How a linear layer slides over maps: as a convolution.

    Attributes:
        before: Shape (channels, height, width) of what it is given.
        after: Of what it makes.
        kernel: Height and width of its window.
        stride: Of its window.
        corner: How far the first window begins above and left of the map.
        matrix: What it does in each window, (channels after, channels before · kernel).
        bias: (channels after,).
    """

    before: Shape
    after: Shape
    kernel: Pair
    stride: Pair
    corner: Pair
    matrix: Array
    bias: Array

    def within(self, numbers: Numbers, size: Pair, terms: int) -> Linear:
        """The same layer as far as so many of its values (height, width) depend on it."""
        around = tuple(
            (side - 1) * step + window
            for side, step, window in zip(size, self.stride, self.kernel, strict=True)
        )
        windows = Windows.of((1, *around), self.kernel, self.stride, UNPADDED)
        return convolution(numbers, self, windows, terms)


@dataclass(frozen=True)
class Linear:
    """x ↦ W x + b.

    Attributes:
        numbers: The arithmetic.
        size: Lengths of what it is given and of what it makes.
        bias: b, (out,).
        fan: How many terms the longest sum of W x has.
        terms: The same of W x, a' W and a' b.
        room: Numbers that are in memory at once for each vector that it maps, forth or back.
        moves: Whether it moves numbers, and does nothing else.
        forth: W x, of n vectors (n, in).
        spread: |W| x, likewise.
        back: a' W, of n vectors (n, out).
        squares: The sum of the squares of each row of W, (out,).
        local: How it slides over maps, if it does.
        matrix: W, where it is at hand.
    """

    numbers: Numbers
    size: tuple[int, int]
    bias: Array
    fan: int
    terms: int
    room: int
    forth: Callable[[Array], Array]
    spread: Callable[[Array], Array]
    back: Callable[[Array], Array]
    squares: Callable[[], Array]
    moves: bool = False
    local: Local | None = None
    matrix: Array | None = None

    def rows(self, at: IntArray) -> Array:
        """Rows of W by their positions, (m,): (m, in)."""
        if self.matrix is None and math.prod(self.size) * 8 > KEPT:
            return self._rows(at)
        matrix = self._matrix if self.matrix is None else self.matrix
        return self.numbers.take(matrix, self.numbers.places(at))

    @cached_property
    def _matrix(self) -> Array:
        count, some = self.size[1], max(1, KEPT // (8 * self.room))
        starts = range(0, count, some)
        parts = [self._rows(np.arange(start, min(start + some, count))) for start in starts]
        return self.numbers.joined(parts, axis=0)

    def _rows(self, at: IntArray) -> Array:
        return self.back(self.numbers.floats(one_hot(at, self.size[1])))


@dataclass(frozen=True)
class Rectified:
    """The positive part of n numbers."""

    count: int


@dataclass(frozen=True)
class Pooled:
    """The largest number of each window of maps.

    Attributes:
        before: Shape (channels, height, width) of the maps.
        size: Height and width of a window.
        stride: Of the window.
        corner: How far the first window begins above and left of the map.
        windows: All of them.
    """

    before: Shape
    size: Pair
    stride: Pair
    corner: Pair
    windows: Windows

    @property
    def channels(self) -> int:
        """How many maps there are."""
        return self.before[0]

    def within(self, around: Pair) -> Pooled:
        """The same over maps of another size (height, width), without padding."""
        before = (self.channels, *around)
        windows = Windows.of(before, self.size, self.stride, UNPADDED)
        return Pooled(before, self.size, self.stride, (0, 0), windows)


@dataclass(frozen=True)
class Branches:
    """The sum of what two sequences make of the same n numbers."""

    count: int
    branch: tuple[Step, ...]
    shortcut: tuple[Step, ...]


Step: TypeAlias = Linear | Rectified | Pooled | Branches


def steps_of(network: Network, numbers: Numbers) -> tuple[Step, ...]:
    """The steps from an image, in the order of its own axes, to its logits.

    Raises:
        NotApplicable: A layer has no relaxation; the message names it.
    """
    architecture = network.architecture.inference
    maker = _Maker(network, architecture.channels_last, numbers)
    steps = maker.sequence(architecture.placed, "layers")
    return (*maker.entry(architecture), *steps)


def one_hot(at: IntArray, count: int) -> FloatArray:
    """Rows of the identity by their positions, (m,): (m, count)."""
    ones = np.zeros((len(at), count))
    ones[np.arange(len(at)), at] = 1.0
    return ones


class _Maker:
    def __init__(self, network: Network, channels_last: bool, numbers: Numbers) -> None:
        self.network, self.channels_last, self.numbers = network, channels_last, numbers

    def entry(self, architecture: Architecture) -> list[Step]:
        """From the order of the axes of an image to that of maps."""
        if not self.channels_last:
            return []
        height, width, channels = architecture.input_shape
        order = np.arange(height * width * channels).reshape(height, width, channels)
        return [self._moved(np.moveaxis(order, 2, 0).reshape(-1))]

    def sequence(self, placed: Sequence[Placed], path: str) -> tuple[Step, ...]:
        made = [self._steps(place, f"{path}[{index}]") for index, place in enumerate(placed)]
        return tuple(step for steps in made for step in steps)

    def _steps(self, place: Placed, path: str) -> list[Step]:
        layer, count = place.layer, math.prod(place.before)
        if isinstance(layer, Dense):
            return [self._dense(place)]
        if isinstance(layer, Conv):
            return [self._conv(place, layer)]
        if isinstance(layer, Scale):
            return [self._scale(place)]
        if isinstance(layer, MeanPool):
            return [self._mean(place, layer)]
        if isinstance(layer, ReLU):
            return [Rectified(count)]
        if isinstance(layer, MaxPool):
            windows = Windows.of(place.before, layer.size, layer.stride, layer.padding)
            (top, _), (left, _) = layer.padding
            return [Pooled(place.before, layer.size, layer.stride, (top, left), windows)]
        if isinstance(layer, Flatten):
            return self._flatten(place)
        if isinstance(layer, Residual):
            branch = self.sequence(place.branch, f"{path}.branch")
            return [Branches(count, branch, self.sequence(place.shortcut, f"{path}.shortcut"))]
        raise NotApplicable(f"{path}: certificates have no relaxation of {type(layer).__name__}")

    def _weights(self, place: Placed) -> tuple[Array, Array]:
        weights = self.network.weights
        weight = weights[f"{place.name}.weight"]
        return self.numbers.floats(weight), self.numbers.floats(weights[f"{place.name}.bias"])

    def _dense(self, place: Placed) -> Linear:
        weight, bias = self._weights(place)
        xp, size = self.numbers.xp, (place.before[0], place.after[0])
        across = _across(xp, weight)
        positive = xp.abs(across)
        return Linear(
            self.numbers, size, bias, size[0], max(size), sum(size),
            lambda x: xp.matmul(x, across), lambda x: xp.matmul(x, positive),
            lambda a: xp.matmul(a, weight), lambda: xp.sum(weight * weight, axis=1),
            matrix=weight,
        )  # fmt: skip

    def _conv(self, place: Placed, layer: Conv) -> Linear:
        windows = Windows.of(place.before, layer.kernel, layer.stride, layer.padding)
        weight, bias = self._weights(place)
        matrix = self.numbers.xp.reshape(weight, (layer.channels, -1))
        (top, _), (left, _) = layer.padding
        local = Local(
            place.before, place.after, layer.kernel, layer.stride, (top, left), matrix, bias
        )
        inner, outer = place.before[0] * windows.size, layer.channels * windows.most
        terms = max(inner, outer, math.prod(place.after))
        return convolution(self.numbers, local, windows, terms)

    def _scale(self, place: Placed) -> Linear:
        xp, pixels = self.numbers.xp, math.prod(place.before[1:])
        weight, bias = (_each(xp, part, pixels) for part in self._weights(place))
        count, positive = math.prod(place.before), xp.abs(weight)
        return Linear(
            self.numbers, (count, count), bias, 1, count, 2 * count, lambda x: x * weight,
            lambda x: x * positive, lambda a: a * weight, lambda: weight * weight,
        )  # fmt: skip

    def _mean(self, place: Placed, layer: MeanPool) -> Linear:
        numbers, xp, channels = self.numbers, self.numbers.xp, place.before[0]
        windows = Windows.of(place.before, layer.size, layer.stride, UNPADDED)
        size = (channels * windows.pixels, channels * windows.count)
        shape = (-1, channels, windows.size, windows.count)
        share, zeros = 1 / windows.size, numbers.floats(np.zeros(size[1]))

        def forth(x: Array) -> Array:
            seen = windows.gather(numbers, xp.reshape(x, (-1, channels, windows.pixels)))
            made = xp.sum(xp.reshape(seen, shape), axis=2) * share
            return xp.reshape(made, (x.shape[0], size[1]))

        def back(a: Array) -> Array:
            one = xp.reshape(a * share, (-1, channels, windows.count))
            parts = numbers.joined([one] * windows.size, axis=2)
            return xp.reshape(windows.spread(numbers, parts), (a.shape[0], size[0]))

        return Linear(
            numbers, size, zeros, windows.size, max(windows.size, windows.most, size[1]),
            channels * windows.size * windows.count + sum(size),
            forth, forth, back, lambda: zeros + share,
            local=self._channelwise(place, layer.size, layer.stride, share),
        )  # fmt: skip

    def _channelwise(self, place: Placed, kernel: Pair, stride: Pair, share: float) -> Local | None:
        """Of a layer that does the same in all channels, and in each by itself."""
        channels = place.before[0]
        if channels > FEW:
            return None
        eye = np.repeat(np.eye(channels), math.prod(kernel), axis=1)
        matrix, bias = self.numbers.floats(eye) * share, self.numbers.floats(np.zeros(channels))
        return Local(place.before, place.after, kernel, stride, (0, 0), matrix, bias)

    def _flatten(self, place: Placed) -> list[Step]:
        if not (self.channels_last and len(place.before) == 3):
            return []
        order = np.arange(math.prod(place.before)).reshape(place.before)
        return [self._moved(np.moveaxis(order, 0, 2).reshape(-1))]

    def _moved(self, order: IntArray) -> Linear:
        numbers, count = self.numbers, len(order)
        at, inverse = numbers.places(order), numbers.places(np.argsort(order))
        zeros: FloatArray = np.zeros(count)

        def forth(x: Array) -> Array:
            return numbers.take(x, at, axis=1)

        return Linear(
            numbers, (count, count), numbers.floats(zeros), 1, 1, 2 * count, forth, forth,
            lambda a: numbers.take(a, inverse, axis=1), lambda: numbers.floats(zeros + 1),
            moves=True,
        )  # fmt: skip


def convolution(numbers: Numbers, local: Local, windows: Windows, terms: int) -> Linear:
    """A convolution over the windows of some maps."""
    xp, matrix, inner, outer = numbers.xp, local.matrix, local.before[0], local.after[0]
    many, across, positive = windows.size * windows.count, _across(xp, matrix), xp.abs(matrix)
    size = (inner * windows.pixels, outer * windows.count)

    def forth(x: Array, matrix: Array) -> Array:
        seen = windows.gather(numbers, xp.reshape(x, (-1, inner, windows.pixels)))
        seen = xp.reshape(seen, (-1, inner * windows.size, windows.count))
        return xp.reshape(xp.matmul(matrix, seen), (x.shape[0], size[1]))

    def back(a: Array) -> Array:
        parts = xp.matmul(across, xp.reshape(a, (-1, outer, windows.count)))
        maps = windows.spread(numbers, xp.reshape(parts, (-1, inner, many)))
        return xp.reshape(maps, (a.shape[0], size[0]))

    return Linear(
        numbers, size, _each(xp, local.bias, windows.count), inner * windows.size, terms,
        inner * (many + windows.most * windows.pixels) + sum(size),
        lambda x: forth(x, matrix), lambda x: forth(x, positive), back,
        lambda: forth(numbers.floats(np.ones((1, size[0]))), matrix * matrix)[0], local=local,
    )  # fmt: skip


def _across(xp: Array, matrix: Array) -> Array:
    return matrix.T if xp is np or hasattr(matrix, "T") else xp.transpose(matrix)


def _each(xp: Array, values: Array, pixels: int) -> Array:
    """A value of each channel at all of its pixels, (channels · pixels,)."""
    column = xp.reshape(values, (-1, 1))
    return xp.reshape(xp.broadcast_to(column, (column.shape[0], pixels)), (-1,))
