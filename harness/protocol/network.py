"""What a network is made of, in words that every backend knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.protocol.layers import (
    ArchitectureError,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Placed,
    Placing,
    ReLU,
    Residual,
    Scale,
    Shape,
    told,
)
from harness.protocol.model import FloatArray, Weights


@dataclass(frozen=True)
class Architecture:
    """Layers, one after another, from images to logits.

    Images keep the layout of the data: (h, w), (c, h, w), (h, w, c), or any shape where the first
    layer is a ``Flatten``. ``Flatten`` follows it: feature maps become vectors with the channel
    last where images have it last, and else with the channel first.

    Attributes:
        input_shape: Shape of one image, such as ``(28, 28)``.
        layers: What they are; the last makes a vector of as many logits as there are classes.
        classes: Number of classes.
        channel_axis: Axis of one image that holds its channels, from 0; None of grey images
            without one.

    Raises:
        ArchitectureError: Two do not fit together; the message names the layer, and both shapes.
    """

    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    classes: int
    channel_axis: int | None = None

    def __post_init__(self) -> None:
        end = self.placed[-1].after if self.placed else self.neutral_shape
        if end != (self.classes,):
            raise ArchitectureError(
                f"layers: they end in {told(end)}, and there are {self.classes} classes: end in a "
                f"Dense of width {self.classes}"
            )

    @property
    def channels_last(self) -> bool:
        """Whether vectors that come of maps have the channel last."""
        return len(self.input_shape) == 3 and self.channel_axis == 2

    @property
    def takes_maps(self) -> bool:
        """Whether images come to the first layer as maps, not in the order of their own axes."""
        return _takes_maps(self.input_shape, self.layers)

    @property
    def neutral_shape(self) -> Shape:
        """Shape of one image as the first layer gets it: (channels, height, width) of maps."""
        return _neutral(self.input_shape, self.channel_axis)

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """The layers in their places."""
        return _placed(self.input_shape, self.layers, self.channel_axis)

    @cached_property
    def inference(self) -> Architecture:
        """The same network as it is when it is not trained: its weights are those of this one.

        Without ``Dropout``; each ``BatchNorm`` is folded into the layer before it, or is a
        ``Scale``.
        """
        layers = _inference(self.layers)
        if layers == self.layers:
            return self
        return Architecture(self.input_shape, layers, self.classes, self.channel_axis)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Neutral names and shapes: ``layers.I.weight`` and ``layers.I.bias`` (out,).

        A weight is (out, in) of a ``Dense``, (out, in, height, width) of a ``Conv``, and
        (channels,) of a ``Scale``.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for place in walk(self.inference.placed):
            if place.name:
                shapes[f"{place.name}.weight"] = place.weight_shape
                shapes[f"{place.name}.bias"] = place.weight_shape[:1]
        return shapes


def maps_after(
    input_shape: tuple[int, ...], layers: Sequence[Layer], channel_axis: int | None
) -> Shape:
    """Shape (channels, height, width) of the maps that layers make of images.

    Raises:
        ArchitectureError: Two do not fit together, or they make no maps.
    """
    placed = _placed(input_shape, layers, channel_axis)
    shape = placed[-1].after if placed else _neutral(input_shape, channel_axis)
    if len(shape) != 3:
        raise ArchitectureError(f"layers: they make {told(shape)}, no maps")
    return shape


def _takes_maps(shape: Shape, layers: Sequence[Layer]) -> bool:
    return len(shape) > 1 and bool(layers) and not isinstance(layers[0], Flatten)


def _neutral(shape: Shape, channel_axis: int | None) -> Shape:
    if len(shape) == 2:
        return (1, *shape)
    return (shape[2], *shape[:2]) if len(shape) == 3 and channel_axis == 2 else shape


def _placed(shape: Shape, layers: Sequence[Layer], channel_axis: int | None) -> tuple[Placed, ...]:
    known = len(shape) == 2 or (len(shape) == 3 and channel_axis in (0, 2))
    if _takes_maps(shape, layers) and not known:
        raise ArchitectureError(
            f"layers[0] ({type(layers[0]).__name__}): images of {told(shape)} are no maps of known "
            "channels: say data.channel_axis (0 or 2)"
        )
    return Placing().sequence(layers, _neutral(shape, channel_axis), "layers")


def _inference(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    made: list[Layer] = []
    previous: Layer | None = None
    for layer in layers:
        if isinstance(layer, Residual):
            made.append(Residual(_inference(layer.branch), _inference(layer.shortcut)))
        elif isinstance(layer, BatchNorm):
            if not isinstance(previous, Dense | Conv):
                made.append(Scale())
        elif not isinstance(layer, Dropout):
            made.append(layer)
        previous = layer
    return tuple(made)


def walk(placed: Sequence[Placed]) -> Iterator[Placed]:
    """All layers, those of branches and shortcuts, too, in the order of their names."""
    for place in placed:
        yield place
        yield from walk(place.branch)
        yield from walk(place.shortcut)


def fully_connected(
    input_shape: tuple[int, ...],
    hidden: Sequence[int],
    classes: int,
    dropout: float = 0.0,
    batch_norm: bool = False,
    channel_axis: int | None = None,
) -> Architecture:
    """A fully connected ReLU network: flatten, hidden layers with dropout, linear logits.

    Args:
        input_shape: Shape of one image, such as ``(28, 28)``.
        hidden: Width of each hidden layer, such as ``(512, 256, 128)``.
        classes: Number of classes, the length of a row of logits.
        dropout: Share in [0, 1) of hidden units dropped while training, after each ReLU.
        batch_norm: Whether training normalises before each ReLU.
        channel_axis: See ``Architecture``.
    """
    layers: list[Layer] = [Flatten()]
    for width in hidden:
        layers += [Dense(width), *[BatchNorm()] * batch_norm, ReLU()]
        layers += [Dropout(dropout)] * (dropout > 0)
    layers.append(Dense(classes))
    return Architecture(input_shape, tuple(layers), classes, channel_axis)


@dataclass(frozen=True)
class Network:
    """An architecture with weights.

    Attributes:
        architecture: What the network is made of.
        weights: Its weights under the neutral names of ``architecture.weight_shapes()``.
    """

    architecture: Architecture
    weights: Weights


BN_EPSILON = 1e-5
BN_MOMENTUM = 0.9


def fold_batch_norm(
    weight: FloatArray,
    bias: FloatArray,
    scale: FloatArray,
    shift: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """The layer that does what a layer followed by batch normalisation does.

    All but the weight (out, ...) have shape (out,); mean and variance are the running statistics.
    """
    factor = scale / np.sqrt(variance + BN_EPSILON)
    columns = factor.reshape(-1, *[1] * (weight.ndim - 1))
    return weight * columns, (bias - mean) * factor + shift
