"""Interval bound propagation in TensorFlow, for training in Keras; see ``protocol.Batch``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from harness.errors import BackendError
from harness.protocol import (
    UNPADDED,
    Architecture,
    Array,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    MeanPool,
    Padding,
    Placed,
    ReLU,
    Residual,
    Scale,
)

Pair: TypeAlias = tuple[Array, Array]
"""Lower and upper bounds; or weight and bias of a layer, in the layout of Keras."""


def margins(
    architecture: Architecture, weights: Mapping[str, Pair], box: Pair, labels: Array
) -> Array:
    """Lower bounds (n, k) of the logit of a label (n,) less each, for all that is in a box.

    Args:
        architecture: Of the network.
        weights: Of each layer by its neutral name, with batch normalisations folded in.
        box: The lowest and the highest of the images, (n, *shape).
        labels: Classes.
    """
    placed = architecture.inference.placed
    bounds = _Bounds(weights, architecture.channels_last)
    lower, upper = _maps(architecture, box[0]), _maps(architecture, box[1])
    if not isinstance(architecture.layers[-1], Dense):
        lower, upper = bounds.sequence(placed, (lower, upper))
        least = tf.gather(lower, labels, axis=1, batch_dims=1)[:, None] - upper
        own = tf.one_hot(labels, architecture.classes, True, False, dtype=tf.bool)
        return tf.where(own, tf.zeros_like(least), least)
    lower, upper = bounds.sequence(placed[:-1], (lower, upper))
    kernel, bias = weights[placed[-1].name]
    centre = (lower + upper) / 2 @ kernel + bias
    # One row for the difference of two logits, so that what these share does not count twice.
    rows = tf.transpose(kernel)
    apart = tf.abs(tf.gather(rows, labels)[:, None] - rows)
    spread = tf.linalg.matvec(apart, (upper - lower) / 2)
    return tf.gather(centre, labels, axis=1, batch_dims=1)[:, None] - centre - spread


class _Bounds(NamedTuple):
    """Carries bounds through layers: affine ones by centre and radius, others as they are.

    Attributes:
        weights: See ``margins``.
        last: As in ``Architecture.channels_last``.
    """

    weights: Mapping[str, Pair]
    last: bool

    def sequence(self, placed: Sequence[Placed], values: Pair) -> Pair:
        """Layers one after another."""
        for place in placed:
            values = self._through(place, values)
        return values

    def _through(self, place: Placed, values: Pair) -> Pair:
        layer, (lower, upper) = place.layer, values
        if isinstance(layer, Residual):
            first, second = (self.sequence(p, values) for p in (place.branch, place.shortcut))
            return first[0] + second[0], first[1] + second[1]
        if isinstance(layer, Dense | Conv | Scale):
            weight, bias = self.weights[place.name]
            centre = _linear(layer, (lower + upper) / 2, weight) + bias
            radius = _linear(layer, (upper - lower) / 2, tf.abs(weight))
            return centre - radius, centre + radius
        return _monotone(layer, lower, self.last), _monotone(layer, upper, self.last)


def _linear(layer: Dense | Conv | Scale, x: Array, weight: Array) -> Array:
    """A layer without its bias."""
    if isinstance(layer, Dense):
        return x @ weight
    if isinstance(layer, Scale):
        return x * weight
    return tf.nn.conv2d(_padded(x, layer.padding, 0.0), weight, layer.stride, "VALID")


def _monotone(layer: Any, x: Array, last: bool) -> Array:
    """A layer without weights; ``last`` as in ``Architecture.channels_last``."""
    kinds: dict[type, Callable[[], Array]] = {
        ReLU: lambda: tf.nn.relu(x),
        MaxPool: lambda: tf.nn.max_pool2d(
            _padded(x, layer.padding, float("-inf")), layer.size, layer.stride, "VALID"
        ),
        MeanPool: lambda: tf.nn.avg_pool2d(x, layer.size, layer.stride, "VALID"),
        Flatten: lambda: _flat(x, last),
    }
    if type(layer) not in kinds:
        raise BackendError(f"the keras backend has no bounds for {type(layer).__name__}")
    return kinds[type(layer)]()


def _maps(architecture: Architecture, x: Array) -> Array:
    """Images (n, *shape) as the first layer takes them; maps are (n, height, width, channels)."""
    if not architecture.takes_maps:
        return _flat(x, True)  # in the order of the images' own axes
    if len(architecture.input_shape) == 2:
        return x[..., None]
    return x if architecture.channels_last else tf.transpose(x, (0, 2, 3, 1))


def _flat(x: Array, last: bool) -> Array:
    if x.shape.rank == 4 and not last:
        x = tf.transpose(x, (0, 3, 1, 2))
    return tf.reshape(x, (tf.shape(x)[0], -1))


def _padded(x: Array, padding: Padding, value: float) -> Array:
    if padding == UNPADDED:
        return x
    return tf.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)
