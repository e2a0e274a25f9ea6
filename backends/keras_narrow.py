"""Convolutions of grey images, whose input gradient TensorFlow is slow at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from harness.protocol import Array, Conv, Pair, Placed

Pulled: TypeAlias = Callable[[Array], tuple[Array, Array]]
STRIDES = (1, 1, 1, 1)


def is_narrow(place: Placed) -> bool:
    """Whether ``narrow`` computes a layer: of one channel and stride 1, with an odd kernel."""
    layer = place.layer
    return (
        isinstance(layer, Conv)
        and place.before[0] == 1
        and layer.stride == (1, 1)
        and all(side % 2 for side in layer.kernel)
        and layer.padding == tuple((side // 2, side // 2) for side in layer.kernel)
    )


def narrow(images: Array, kernel: Any) -> Array:
    """What a ``Conv2D`` computes of maps (n, height, width, 1), with another gradient.

    For the gradient by its input TensorFlow copies a window of all outputs for each pixel, and
    multiplies it by the kernel. Here each pixel's outputs are multiplied first, by all places of
    the kernel at a time; the products that belong to one input pixel are then fewer numbers to
    gather than the outputs were.

    Args:
        images: The maps.
        kernel: (height, width, 1, outputs).

    Returns:
        (n, height, width, outputs), as ``tf.nn.conv2d`` has them, to the bit.
    """
    return _narrow(images, tf.convert_to_tensor(kernel))


def _convolved(images: Array, kernel: Array) -> tuple[Array, Pulled]:
    def pulled(flow: Array) -> tuple[Array, Array]:
        height, width, _, outputs = kernel.shape
        products = tf.matmul(
            tf.reshape(flow, (-1, outputs)), tf.reshape(kernel, (-1, outputs)), transpose_b=True
        )
        at_places = tf.reshape(products, (-1, *images.shape[1:3], height * width))
        gathered = tf.constant(_gathering((height, width)), kernel.dtype)
        by_kernel = tf.raw_ops.Conv2DBackpropFilter(
            input=images, filter_sizes=kernel.shape, out_backprop=flow, strides=STRIDES,
            padding="SAME",
        )  # fmt: skip
        return tf.nn.conv2d(at_places, gathered, STRIDES, "SAME"), by_kernel

    return tf.nn.conv2d(images, kernel, STRIDES, "SAME"), pulled


_narrow: Callable[[Array, Array], Array] = tf.custom_gradient(_convolved)


def _gathering(kernel: Pair) -> Any:
    """A kernel that adds up, for each pixel, the products of its neighbours that belong to it."""
    height, width = kernel
    each = np.eye(height * width).reshape(height, width, height * width, 1)
    return each[::-1, ::-1]
