"""The layers that networks are made of, and what shapes they make of what they are given.

Shapes are those of one image within a network, in one layout for every backend: ``(channels,
height, width)`` of feature maps, ``(width,)`` of vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from harness.errors import HarnessError

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]
"""Of height and of width."""
Padding: TypeAlias = tuple[Pair, Pair]
"""Above and below, left and right."""
UNPADDED: Padding = ((0, 0), (0, 0))


class ArchitectureError(HarnessError):
    """Layers that do not fit together."""


@dataclass(frozen=True)
class Dense:
    """A linear map of vectors, x Wᵀ + b; weight (width, in), bias (width,)."""

    width: int


@dataclass(frozen=True)
class Conv:
    """A convolution, which is to say a cross-correlation, with zeros around the maps.

    Its weight is (channels, in, height, width), its bias (channels,).
    """

    channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Padding = UNPADDED


@dataclass(frozen=True)
class BatchNorm:
    """Normalises each channel, or unit, while training (Ioffe & Szegedy 2015).

    In inference that is an affine map. It is folded into the ``Dense`` or ``Conv`` right before it;
    elsewhere it becomes a ``Scale``.
    """


@dataclass(frozen=True)
class Scale:
    """Each channel, or unit, times its weight, plus its bias; both have one number a channel."""


@dataclass(frozen=True)
class ReLU:
    """The positive part; its derivative at 0 is 0."""


@dataclass(frozen=True)
class Dropout:
    """Zeroes a share in [0, 1) of all values while training, and scales the others up."""

    share: float


@dataclass(frozen=True)
class MaxPool:
    """The largest value of each window; of equal ones the first, by rows, gets the gradient."""

    size: Pair
    stride: Pair
    padding: Padding = UNPADDED


@dataclass(frozen=True)
class MeanPool:
    """The mean of each window."""

    size: Pair
    stride: Pair


@dataclass(frozen=True)
class Flatten:
    """Maps to vectors, in the order of the images' own axes; see ``Architecture``."""


@dataclass(frozen=True)
class Residual:
    """The sum of two branches (He et al. 2016); an empty shortcut is the identity."""

    branch: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()


Layer: TypeAlias = (
    Dense | Conv | BatchNorm | Scale | ReLU | Dropout | MaxPool | MeanPool | Flatten | Residual
)
Weighted: TypeAlias = Dense | Conv | Scale


@dataclass(frozen=True)
class Placed:
    """A layer in its place in a network.

    Attributes:
        layer: What it is.
        before: Shape of what it is given.
        after: Shape of what it makes of it.
        name: Of its weights, such as ``layers.2``; empty of a layer without. A ``BatchNorm`` that
            is folded bears the name of the layer that it is folded into.
        branch: Of a ``Residual``.
        shortcut: Likewise.
    """

    layer: Layer
    before: Shape
    after: Shape
    name: str = ""
    branch: tuple[Placed, ...] = ()
    shortcut: tuple[Placed, ...] = ()

    @cached_property
    def weight_shape(self) -> Shape:
        """Shape of its weight; empty of a layer without."""
        layer = self.layer
        if isinstance(layer, Dense):
            return (layer.width, self.before[0])
        if isinstance(layer, Conv):
            return (layer.channels, self.before[0], *layer.kernel)
        return (self.before[0],) if isinstance(layer, Scale) else ()


def pooled_first(placed: Sequence[Placed]) -> tuple[Placed, ...]:
    """Layers that do the same with less work: a ``MaxPool`` swaps places with a ``ReLU`` before it.

    The larger of two positive parts is the positive part of the larger, to the bit. So is the
    gradient: where the largest value of a window is positive the same one has it, and else it is 0.
    """
    order = list(placed)
    for at in range(len(order) - 1):
        first, second = order[at], order[at + 1]
        pool = second.layer
        if isinstance(first.layer, ReLU) and isinstance(pool, MaxPool) and pool.padding == UNPADDED:
            positive = Placed(first.layer, second.after, second.after)
            order[at : at + 2] = [second, positive]
    return tuple(order)


class Placing:
    """Gives layers their places: shapes, and names by which weights are known.

    Layers with weights are numbered from input to output; those of a branch before those of the
    shortcut beside it.
    """

    def __init__(self) -> None:
        self._named = 0

    def sequence(self, layers: Sequence[Layer], shape: Shape, path: str) -> tuple[Placed, ...]:
        """Layers one after another.

        Args:
            layers: What they are.
            shape: Of what the first is given.
            path: What they are called in messages, such as ``layers``.

        Raises:
            ArchitectureError: One does not fit what comes before it; the message names it, and
                both shapes.
        """
        placed: list[Placed] = []
        for index, layer in enumerate(layers):
            previous = placed[-1] if placed else None
            placed.append(self._place(layer, shape, f"{path}[{index}]", previous))
            shape = placed[-1].after
        return tuple(placed)

    def _place(self, layer: Layer, shape: Shape, path: str, previous: Placed | None) -> Placed:
        if isinstance(layer, Residual):
            return self._residual(layer, shape, path)
        after = after_layer(layer, shape, path)
        if not isinstance(layer, Dense | Conv | Scale | BatchNorm):
            return Placed(layer, shape, after)
        if isinstance(layer, BatchNorm) and previous and isinstance(previous.layer, Dense | Conv):
            return Placed(layer, shape, after, previous.name)
        name = f"layers.{self._named}"
        self._named += 1
        return Placed(layer, shape, after, name)

    def _residual(self, layer: Residual, shape: Shape, path: str) -> Placed:
        branch = self.sequence(layer.branch, shape, f"{path}.branch")
        shortcut = self.sequence(layer.shortcut, shape, f"{path}.shortcut")
        ends = [part[-1].after if part else shape for part in (branch, shortcut)]
        if ends[0] != ends[1]:
            raise ArchitectureError(
                f"{path} (Residual): its branch makes {told(shape)} into {told(ends[0])}, and its "
                f"shortcut into {told(ends[1])}; they are added, so make them the same"
            )
        return Placed(layer, shape, ends[0], "", branch, shortcut)


def after_layer(layer: Layer, shape: Shape, path: str) -> Shape:
    """Shape of what a layer makes of what has a shape.

    Raises:
        ArchitectureError: It does not fit.
    """
    name = f"{path} ({type(layer).__name__})"
    if isinstance(layer, Dense):
        if len(shape) != 1:
            raise ArchitectureError(
                f"{name}: takes vectors, and is given maps of {told(shape)}; put a Flatten before"
            )
        return (_positive(layer.width, name, "width"),)
    if isinstance(layer, Flatten):
        return (math.prod(shape),)
    if isinstance(layer, Dropout) and not 0 <= layer.share < 1:
        raise ArchitectureError(f"{name}: a share of {layer.share:g} is not in [0, 1)")
    if not isinstance(layer, Conv | MaxPool | MeanPool):
        return shape
    if len(shape) != 3:
        raise ArchitectureError(
            f"{name}: takes maps (channels, height, width), and is given {told(shape)}"
        )
    window = layer.kernel if isinstance(layer, Conv) else layer.size
    padding = UNPADDED if isinstance(layer, MeanPool) else layer.padding
    sides = _sides(shape, window, layer.stride, padding, name)
    channels = layer.channels if isinstance(layer, Conv) else shape[0]
    return (_positive(channels, name, "channels"), *sides)


def told(shape: Shape) -> str:
    """A shape for people, such as 16 × 14 × 14."""
    return " × ".join(map(str, shape))


def _sides(shape: Shape, window: Pair, stride: Pair, padding: Padding, name: str) -> Pair:
    """Height and width of what a sliding window leaves."""
    for sizes, what in ((window, "window"), (stride, "stride")):
        if min(sizes) < 1:
            raise ArchitectureError(f"{name}: a {what} of {told(sizes)} is not positive")
    if min(min(sides) for sides in padding) < 0:
        raise ArchitectureError(f"{name}: its padding {padding} is negative")
    padded = tuple(side + sum(pad) for side, pad in zip(shape[1:], padding, strict=True))
    if window[0] > padded[0] or window[1] > padded[1]:
        around = f", {told(padded)} with its padding" if padded != shape[1:] else ""
        raise ArchitectureError(
            f"{name}: its window of {told(window)} is larger than its image of "
            f"{told(shape[1:])}{around}"
        )
    height, width = (
        (side - size) // step + 1 for side, size, step in zip(padded, window, stride, strict=True)
    )
    return height, width


def _positive(count: int, name: str, what: str) -> int:
    if count < 1:
        raise ArchitectureError(f"{name}: its {what} of {count} is not positive")
    return count
