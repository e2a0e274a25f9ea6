"""What attacks and maps cost at the least: bare matrix products, and one pass each way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from harness.protocol import Architecture, Conv, Dense, Placed, Weights
from suites.speed.plain_nets import keras_copy, torch_copy

Floor = Callable[[Architecture, Weights, np.ndarray, int, int], Callable[[], None]]
Pass = Callable[[Architecture, Weights, np.ndarray, int], Callable[[], None]]


def torch_floor(
    net: Architecture, weights: Weights, x: np.ndarray, passes: int, batch: int
) -> Callable[[], None]:
    """The products (and convolutions) of so many forward passes, and nothing else."""
    import torch
    from torch.nn import functional

    def product(place: Placed) -> Callable[[int], Any]:
        weight = torch.tensor(weights[f"{place.name}.weight"])
        values = torch.rand(batch, *place.before)
        if not isinstance(place.layer, Conv):
            return lambda count: values[:count] @ weight.T
        weight = weight.to(memory_format=torch.channels_last)
        values = values.to(memory_format=torch.channels_last)
        (top, _), (left, _) = place.layer.padding
        stride = place.layer.stride
        return lambda count: functional.conv2d(
            values[:count], weight, stride=stride, padding=(top, left)
        )

    products = [product(place) for place in _weighted(net)]

    def multiply() -> None:
        with torch.no_grad():
            for start in range(0, len(x), batch):
                for _ in range(passes):
                    for one in products:
                        one(min(batch, len(x) - start))

    return multiply


def keras_floor(
    net: Architecture, weights: Weights, x: np.ndarray, passes: int, batch: int
) -> Callable[[], None]:
    """The same in TensorFlow."""
    import tensorflow as tf

    def product(place: Placed) -> Callable[[int], Any]:
        weight = weights[f"{place.name}.weight"]
        if not isinstance(place.layer, Conv):
            vectors, matrix = tf.random.uniform((batch, *place.before)), tf.constant(weight.T)
            return lambda count: tf.matmul(vectors[:count], matrix)
        channels, *sides = place.before
        maps = tf.random.uniform((batch, *sides, channels))
        kernel, strides = tf.constant(weight.transpose(2, 3, 1, 0)), place.layer.stride
        padding = [(0, 0), *place.layer.padding, (0, 0)]
        return lambda count: tf.nn.conv2d(maps[:count], kernel, strides, padding)

    products = [product(place) for place in _weighted(net)]

    def multiply() -> None:
        for start in range(0, len(x), batch):
            for _ in range(passes):
                values = [one(min(batch, len(x) - start)) for one in products]
            values[-1].numpy()  # waits for it

    return multiply


def torch_pass(
    net: Architecture, weights: Weights, x: np.ndarray, batch: int
) -> Callable[[], None]:
    """One forward and one backward pass to the images, of the sum of all logits."""
    import torch

    model = torch_copy(net, weights).requires_grad_(False)
    data = torch.tensor(x)

    def both() -> None:
        for start in range(0, len(data), batch):
            images = data[start : start + batch].requires_grad_()
            torch.autograd.grad(model(images).sum(), images)

    return both


def keras_pass(
    net: Architecture, weights: Weights, x: np.ndarray, batch: int
) -> Callable[[], None]:
    """The same in TensorFlow, compiled."""
    import tensorflow as tf

    model = keras_copy(net, weights)
    parts = [tf.constant(x[i : i + batch]) for i in range(0, len(x), batch)]
    compiled = tf.function(lambda images: tf.gradients(model(images, training=False), images)[0])

    def both() -> None:
        for part in parts:
            compiled(part).numpy()

    return both


def _weighted(net: Architecture) -> list[Placed]:
    """The layers that multiply by weights, all but scales, which are next to nothing."""
    return [place for place in net.inference.placed if isinstance(place.layer, Conv | Dense)]


FLOORS: dict[str, Floor] = {"torch": torch_floor, "keras": keras_floor}
PASSES: dict[str, Pass] = {"torch": torch_pass, "keras": keras_pass}
