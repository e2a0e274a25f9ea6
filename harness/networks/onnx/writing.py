"""A network as an ONNX file."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.errors import BackendError
from harness.protocol import (
    Conv,
    Dense,
    Flatten,
    FloatArray,
    MaxPool,
    MeanPool,
    Network,
    Padding,
    Placed,
    ReLU,
    Residual,
    Scale,
)

OPSET, FORMAT = 13, 8
"""Versions of the operators and of the format: old enough for ONNX Runtime from 1.10."""
NOT_INSTALLED = "onnx is not installed; pip install 'robustness-harness[onnx]'"
IMAGES, LOGITS, BATCH = "images", "logits", "n"
"""Names of input and output, and of the number of images."""


def onnx_bytes(network: Network) -> bytes:
    """A network in inference mode as the content of an ONNX file, in float32.

    It takes any number of images in the layout of the data, (n, *input_shape), and gives logits
    (n, classes).

    Raises:
        BackendError: ``onnx`` is not installed.
    """
    try:
        helper = importlib.import_module("onnx.helper")
        arrays = importlib.import_module("onnx.numpy_helper")
    except ImportError as error:
        raise BackendError(NOT_INSTALLED) from error
    written = _Writing(network, helper, arrays)
    written.network()
    architecture = network.architecture
    graph = helper.make_graph(
        written.nodes, "network",
        [helper.make_tensor_value_info(IMAGES, 1, [BATCH, *architecture.input_shape])],
        [helper.make_tensor_value_info(LOGITS, 1, [BATCH, architecture.classes])],
        written.held,
    )  # fmt: skip
    model = helper.make_model(
        graph, producer_name="robustness-harness", ir_version=FORMAT,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )  # fmt: skip
    content: bytes = model.SerializeToString()
    return content


class _Writing:
    """Writes nodes, one after another.

    Attributes:
        nodes: Those that are written.
        held: The weights.
    """

    def __init__(self, network: Network, helper: Any, arrays: Any) -> None:
        self.architecture = network.architecture.inference
        self.weights, self.helper, self.arrays = network.weights, helper, arrays
        self.nodes: list[Any] = []
        self.held: list[Any] = []

    def network(self) -> None:
        """All of it, from images to logits."""
        architecture, name = self.architecture, IMAGES
        shape = architecture.input_shape
        if architecture.takes_maps:
            if len(shape) == 2:
                axes = self.hold("channel", np.array([1], np.int64))
                name = self.node("Unsqueeze", name, axes)
            elif architecture.channels_last:
                name = self.node("Transpose", name, perm=[0, 3, 1, 2])
        name = self.sequence(architecture.placed, name)
        self.node("Identity", name, output=LOGITS)

    def sequence(self, placed: Sequence[Placed], name: str) -> str:
        """Layers one after another; returns the name of what the last one makes."""
        for index, place in enumerate(placed):
            # A first Flatten gets the images as they are, which is in its order.
            images = name == IMAGES and index == 0
            name = self.layer(place, name, images)
        return name

    def layer(self, place: Placed, name: str, images: bool) -> str:
        """One layer; returns the name of what it makes."""
        layer = place.layer
        if isinstance(layer, Residual):
            branch, shortcut = (self.sequence(p, name) for p in (place.branch, place.shortcut))
            return self.node("Add", branch, shortcut)
        if isinstance(layer, Dense):
            return self.node("Gemm", name, *self.pair(place), transB=1)
        if isinstance(layer, Conv):
            return self.node(
                "Conv", name, *self.pair(place), kernel_shape=layer.kernel,
                strides=layer.stride, pads=_pads(layer.padding),
            )  # fmt: skip
        if isinstance(layer, Scale):
            sides = (-1, *[1] * (len(place.before) - 1))
            weight, bias = self.pair(place, sides)
            return self.node("Add", self.node("Mul", name, weight), bias)
        if isinstance(layer, ReLU):
            return self.node("Relu", name)
        if isinstance(layer, MaxPool):
            return self.node(
                "MaxPool", name, kernel_shape=layer.size, strides=layer.stride,
                pads=_pads(layer.padding),
            )  # fmt: skip
        if isinstance(layer, MeanPool):
            return self.node("AveragePool", name, kernel_shape=layer.size, strides=layer.stride)
        if isinstance(layer, Flatten):
            if self.architecture.channels_last and len(place.before) == 3 and not images:
                name = self.node("Transpose", name, perm=[0, 2, 3, 1])
            return self.node("Flatten", name, axis=1)
        raise BackendError(f"ONNX has no {type(layer).__name__}")

    def pair(self, place: Placed, sides: tuple[int, ...] | None = None) -> tuple[str, str]:
        """Names of a layer's weight and bias, which are held from now on."""
        names = (f"{place.name}.weight", f"{place.name}.bias")
        for name in names:
            values = self.weights[name]
            self.hold(name, values if sides is None else values.reshape(sides))
        return names

    def hold(self, name: str, values: FloatArray | Any) -> str:
        """An array among the constants; returns its name."""
        numbers = values.astype(np.float32) if values.dtype.kind == "f" else values
        self.held.append(self.arrays.from_array(np.ascontiguousarray(numbers), name))
        return name

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """One node; returns the name of what it makes."""
        made = output or f"{kind.lower()}.{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [made], made, **attributes))
        return made


def _pads(padding: Padding) -> list[int]:
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]
