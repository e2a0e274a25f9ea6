"""Networks of the harness as Keras models; see ``protocol.layers``.

Images come in the layout of the data. Within, maps are (n, height, width, channels): TensorFlow has
its convolutions in that layout on every device. All layers are Keras's own, so that a network which
is built for inference can be saved, and loaded without the harness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from backends.keras_narrow import is_narrow, narrow
from harness.errors import BackendError
from harness.protocol import (
    BN_EPSILON,
    BN_MOMENTUM,
    UNPADDED,
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    FloatArray,
    IntArray,
    MaxPool,
    MeanPool,
    Padding,
    Pair,
    Placed,
    ReLU,
    Residual,
    Scale,
    Shape,
    Weights,
    fold_batch_norm,
    pooled_first,
)


@dataclass(frozen=True)
class Built:
    """A network of an architecture.

    Attributes:
        net: The network.
        named: Its layers with weights, by their neutral names.
        norms: Batch normalisations, by the names of the layers that they are folded into.
        orders: Of dense layers that are given maps as they lie, channel last: which number of the
            flattened maps, in the layout of the data, each of their inputs is.
    """

    net: keras.Model
    named: dict[str, Any]
    norms: dict[str, Any]
    orders: dict[str, IntArray]

    def matrices(self) -> list[keras.Variable]:
        """Weights of two axes or more, from input to logits."""
        return [layer.kernel for layer in self.named.values() if hasattr(layer, "kernel")]

    def watched(self) -> keras.Model:
        """The network with more outputs than its ``logits``: what each of ``norms`` is given."""
        inputs = {name: norm.input for name, norm in self.norms.items()}
        return keras.Model(self.net.inputs, {"logits": self.net.outputs[0]} | inputs)

    def folded(
        self, held: Mapping[int, Any], given: Mapping[str, Any]
    ) -> dict[str, tuple[Any, Any]]:
        """Weight and bias of each layer, in the layout of Keras, as a batch has been normalised.

        Args:
            held: Values of all variables, by their ``id``.
            given: What each of ``norms`` was given, (n, ..., channels).
        """
        found = {}
        for name, layer in self.named.items():
            weight, bias = _parts(layer)
            found[name] = held[id(weight)], held[id(bias)]
        for name, norm in self.norms.items():
            axes = list(range(len(given[name].shape) - 1))
            mean, variance = keras.ops.moments(given[name], axes)
            factor = held[id(norm.gamma)] * keras.ops.rsqrt(variance + norm.epsilon)
            weight, bias = found[name]
            found[name] = weight * factor, (bias - mean) * factor + held[id(norm.beta)]
        return found

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the weights under neutral names, with batch normalisation folded in."""
        found: dict[str, FloatArray] = {}
        for name, layer in self.named.items():
            weight, bias = (_numpy(part) for part in _parts(layer))
            if name in self.orders:
                weight[self.orders[name]] = weight.copy()
            weight = np.ascontiguousarray(_turned(weight))
            norm = self.norms.get(name)
            if norm is not None:
                parts = (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
                weight, bias = fold_batch_norm(weight, bias, *map(_numpy, parts))
            found[f"{name}.weight"], found[f"{name}.bias"] = weight, bias
        return found

    def set_weights(self, weights: Weights) -> None:
        """Put other weights in their place."""
        for name, layer in self.named.items():
            weight, bias = _parts(layer)
            values = _turned_back(weights[f"{name}.weight"])
            weight.assign(values[self.orders[name]] if name in self.orders else values)
            bias.assign(weights[f"{name}.bias"])


class Scaled(keras.layers.BatchNormalization):
    """A layer that multiplies each channel and adds to it, while training, too."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """See the class."""
        return super().call(inputs, training=False, mask=mask)


def built(architecture: Architecture, dtype: str = "float32", seed: int | None = None) -> Built:
    """The network of an architecture; its weights are zeros.

    Args:
        architecture: What it is made of.
        dtype: ``float32`` or ``float64``.
        seed: Of the first dropout layer of a network in training; each further one has the next.
            None of a network that is not trained.

    Raises:
        BackendError: It has a layer that this backend has not.
    """
    # Images that come as vectors have the order of their own axes already.
    making = _Making(architecture.channels_last or not architecture.takes_maps, dtype, seed)
    entry = keras.Input(architecture.input_shape, dtype=dtype)
    value = entry
    if architecture.takes_maps:
        value = making.maps(entry)
    net = keras.Model(entry, making.sequence(architecture.placed, value))
    return Built(net, making.named, making.norms, making.orders)


class _Making:
    """Makes the layers of a network, and calls them on one another."""

    def __init__(self, last: bool, dtype: str, seed: int | None) -> None:
        self.last, self.dtype, self.seed = last, dtype, seed or 0
        self.trained = seed is not None
        # By nothing, so that it only scales; Keras's own wherever nobody trains it.
        self.scale = keras.layers.BatchNormalization if seed is None else Scaled
        self.named: dict[str, Any] = {}
        self.norms: dict[str, Any] = {}
        self.orders: dict[str, IntArray] = {}

    def maps(self, images: Any) -> Any:
        """Images (n, *shape) as maps that have the channel last."""
        shape = tuple(images.shape[1:])
        if len(shape) == 2:
            return keras.layers.Reshape((*shape, 1), dtype=self.dtype)(images)
        if self.last:
            return images
        if shape[0] == 1:
            return keras.layers.Reshape((*shape[1:], 1), dtype=self.dtype)(images)
        return keras.layers.Permute((2, 3, 1), dtype=self.dtype)(images)

    def sequence(self, placed: Sequence[Placed], value: Any) -> Any:
        """What layers make of a value, one after another."""
        previous: Placed | None = None
        order = pooled_first(placed)
        for place, follower in zip(order, [*order, None][1:], strict=True):
            if isinstance(place.layer, Residual):
                parts = [self.sequence(p, value) for p in (place.branch, place.shortcut)]
                value = keras.layers.Add(dtype=self.dtype)(parts)
            elif isinstance(place.layer, BatchNorm):
                value = self._norm(place, previous, value)
            elif isinstance(place.layer, Flatten):
                value = self._flat(place, follower, value)
            else:
                value = self._layer(place, value)
            previous = place
        return value

    def _norm(self, place: Placed, previous: Placed | None, value: Any) -> Any:
        if previous is None or previous.name != place.name:
            # Not folded: in training a Scale that stays the identity goes before it.
            scale = self.named[place.name] = self.scale(epsilon=0.0, dtype=self.dtype)
            scale.trainable = False
            value = scale(value)
        norm = self.norms[place.name] = keras.layers.BatchNormalization(
            epsilon=BN_EPSILON, momentum=BN_MOMENTUM, dtype=self.dtype
        )
        return norm(value)

    def _flat(self, place: Placed, follower: Placed | None, value: Any) -> Any:
        """Maps as vectors, in the layout of the data, or as they lie before a ``Dense``."""
        channels, sides = place.before[0], place.before[1:]
        if len(place.before) == 3 and not self.last and channels > 1 and max(sides) > 1:
            if follower is not None and isinstance(follower.layer, Dense) and not self.trained:
                # Its weights are put in the order of the maps once, not the maps for each image.
                numbers = np.arange(math.prod(place.before)).reshape(place.before)
                self.orders[follower.name] = numbers.transpose(1, 2, 0).ravel()
            else:
                value = keras.layers.Permute((3, 1, 2), dtype=self.dtype)(value)
        return keras.layers.Flatten(data_format="channels_last", dtype=self.dtype)(value)

    def _layer(self, place: Placed, value: Any) -> Any:
        layer = place.layer
        if isinstance(layer, Dense):
            # Drawing weights that are still to be set would use global state.
            made = keras.layers.Dense(layer.width, kernel_initializer="zeros", dtype=self.dtype)
        elif isinstance(layer, Conv):
            padding = _padding(place.before, layer.kernel, layer.stride, layer.padding)
            if padding == "explicit":
                value = keras.layers.ZeroPadding2D(layer.padding, dtype=self.dtype)(value)
            made = keras.layers.Conv2D(
                layer.channels, layer.kernel, layer.stride, kernel_initializer="zeros",
                padding="same" if padding == "same" else "valid", data_format="channels_last",
                dtype=self.dtype,
            )  # fmt: skip
            if is_narrow(place) and not self.trained:
                # Of this object alone, so that a file has a layer of Keras's own.
                made.convolution_op = narrow
        elif isinstance(layer, Scale):
            made = self.scale(epsilon=0.0, dtype=self.dtype)
        else:
            return self._plain(place, value)
        self.named[place.name] = made
        return made(value)

    def _plain(self, place: Placed, value: Any) -> Any:
        """What a layer without weights makes of a value."""
        layer, dtype = place.layer, self.dtype
        if isinstance(layer, ReLU):
            return keras.layers.ReLU(dtype=dtype)(value)
        if isinstance(layer, Dropout):
            self.seed += 1
            return keras.layers.Dropout(layer.share, seed=self.seed - 1, dtype=dtype)(value)
        if isinstance(layer, MeanPool):
            return keras.layers.AveragePooling2D(
                layer.size, layer.stride, data_format="channels_last", dtype=dtype
            )(value)
        if isinstance(layer, MaxPool):
            padding = _padding(place.before, layer.size, layer.stride, layer.padding)
            if padding == "explicit":
                around = ((0, 0), *layer.padding, (0, 0))
                value = keras.ops.pad(value, around, constant_values=float("-inf"))
            return keras.layers.MaxPooling2D(
                layer.size, layer.stride, padding="same" if padding == "same" else "valid",
                data_format="channels_last", dtype=dtype,
            )(value)  # fmt: skip
        raise BackendError(f"the keras backend has no {type(layer).__name__}")


def _padding(shape: Shape, window: Pair, stride: Pair, padding: Padding) -> str:
    """What Keras calls a padding: ``valid``, ``same``, or ``explicit`` for what it has no name of.

    Its ``same`` is as much as makes an image of a pixel for each stride, the odd one at the end.
    """
    if padding == UNPADDED:
        return "valid"
    named = []
    for side, size, step in zip(shape[1:], window, stride, strict=True):
        total = max((-(-side // step) - 1) * step + size - side, 0)
        named.append((total // 2, total - total // 2))
    return "same" if tuple(named) == padding else "explicit"


def _parts(layer: Any) -> tuple[keras.Variable, keras.Variable]:
    """Weight and bias of a layer."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.gamma, layer.beta
    return layer.kernel, layer.bias


def _turned(kernel: FloatArray) -> FloatArray:
    """A kernel of Keras, (in, out) or (height, width, in, out), with outputs and inputs first."""
    return kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T


def _turned_back(weight: FloatArray) -> FloatArray:
    return weight.transpose(2, 3, 1, 0) if weight.ndim == 4 else weight.T


def _numpy(variable: keras.Variable) -> FloatArray:
    """A copy of a variable's values."""
    return np.array(variable.value.numpy())
