"""Networks as a user of a framework writes them, layer by layer, without the harness.

The other libraries attack these, and the plain loops train them. They hold batch normalisation and
dropout as the architecture has them; of ``Architecture.inference`` they take the harness's weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from harness.protocol import (
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    FloatArray,
    MaxPool,
    Placed,
    ReLU,
    Weights,
)


def torch_net(net: Architecture) -> Any:
    """A ``torch.nn.Sequential`` of PyTorch's own modules, with PyTorch's initial weights."""
    from torch import nn

    def module(place: Placed) -> Any:
        layer, before = place.layer, place.before
        if isinstance(layer, Dense):
            return nn.Linear(before[0], layer.width)
        if isinstance(layer, Conv):
            around = _even(layer)
            return nn.Conv2d(before[0], layer.channels, layer.kernel, layer.stride, around)
        if isinstance(layer, BatchNorm):
            return nn.BatchNorm2d(before[0]) if len(before) == 3 else nn.BatchNorm1d(before[0])
        if isinstance(layer, MaxPool):
            return nn.MaxPool2d(layer.size, layer.stride, _even(layer))
        if isinstance(layer, Dropout):
            return nn.Dropout(layer.share)
        return nn.ReLU() if isinstance(layer, ReLU) else nn.Flatten()

    maps = len(net.input_shape) == 2 and not isinstance(net.layers[0], Flatten)
    entry = [nn.Unflatten(1, (1, net.input_shape[0]))] * maps
    return nn.Sequential(*entry, *map(module, sequence(net)))


def torch_copy(net: Architecture, weights: Weights) -> Any:
    """The network in inference, with the harness's weights; they still ask for gradients."""
    import torch

    module = torch_net(net.inference)
    named = list(module.parameters())
    with torch.no_grad():
        for parameter, value in zip(named, weights.values(), strict=True):
            parameter.copy_(torch.tensor(value))
    return module.eval()


def keras_net(net: Architecture) -> Any:
    """A ``keras.Sequential`` of Keras's own layers, with Keras's initial weights."""
    import keras

    def made(place: Placed) -> list[Any]:
        layer = place.layer
        if isinstance(layer, Dense):
            return [keras.layers.Dense(layer.width)]
        if isinstance(layer, Conv):
            side, around = layer.kernel[0], _even(layer)
            same = layer.stride == (1, 1) and around == ((side - 1) // 2,) * 2
            padding = "same" if same else "valid"
            pad = [] if same or around == (0, 0) else [keras.layers.ZeroPadding2D(around)]
            return [*pad, keras.layers.Conv2D(layer.channels, side, layer.stride, padding)]
        if isinstance(layer, BatchNorm):
            return [keras.layers.BatchNormalization()]
        if isinstance(layer, MaxPool):
            if _even(layer) != (0, 0):
                raise NotImplementedError("a pool with padding")
            return [keras.layers.MaxPooling2D(layer.size, layer.stride)]
        if isinstance(layer, Dropout):
            return [keras.layers.Dropout(layer.share)]
        return [keras.layers.ReLU() if isinstance(layer, ReLU) else keras.layers.Flatten()]

    maps = len(net.input_shape) == 2 and not isinstance(net.layers[0], Flatten)
    entry = [keras.layers.Reshape((*net.input_shape, 1))] * maps
    layers = [one for place in sequence(net) for one in made(place)]
    return keras.Sequential([keras.layers.Input(net.input_shape), *entry, *layers])


def keras_copy(net: Architecture, weights: Weights) -> Any:
    """The network in inference, with the harness's weights."""
    model = keras_net(net.inference)
    model.set_weights(list(channels_last(net, weights)))
    return model


def channels_last(net: Architecture, weights: Weights) -> Iterator[FloatArray]:
    """The weights of a network whose maps have the channel last, and inputs before outputs."""
    maps: tuple[int, ...] = ()
    for place in sequence(net.inference):
        if isinstance(place.layer, Flatten) and len(place.before) == 3:
            maps = place.before
        if not place.name:
            continue
        weight = np.asarray(weights[f"{place.name}.weight"])
        if isinstance(place.layer, Conv):
            weight = weight.transpose(2, 3, 1, 0)
        elif maps:
            weight = weight.reshape(-1, *maps).transpose(2, 3, 1, 0).reshape(-1, len(weight))
            maps = ()
        else:
            weight = weight.T
        yield weight
        yield np.asarray(weights[f"{place.name}.bias"])


def sequence(net: Architecture) -> tuple[Placed, ...]:
    """The layers, all of them of kinds that are known here, for grey images without a channel axis.

    Raises:
        NotImplementedError: One is not, or images are others.
    """
    if len(net.input_shape) != 2:
        raise NotImplementedError(f"a plain network for images of shape {net.input_shape}")
    known = Dense | Conv | BatchNorm | MaxPool | Dropout | ReLU | Flatten
    for place in net.placed:
        if not isinstance(place.layer, known):
            raise NotImplementedError(f"a plain network with {type(place.layer).__name__}")
    return net.placed


def _even(layer: Conv | MaxPool) -> tuple[int, int]:
    """As many zeros on either side.

    Raises:
        NotImplementedError: There are more on one.
    """
    (top, bottom), (left, right) = layer.padding
    if (top, left) != (bottom, right):
        raise NotImplementedError("a plain network with uneven padding")
    return top, left
