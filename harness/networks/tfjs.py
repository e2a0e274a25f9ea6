"""A network as a TensorFlow.js layers model: ``model.json``, and the weights beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import HarnessError
from harness.files import as_json
from harness.protocol import (
    UNPADDED,
    Conv,
    Dense,
    Flatten,
    FloatArray,
    MaxPool,
    MeanPool,
    Network,
    Pair,
    Placed,
    ReLU,
    Residual,
    Scale,
)

MODEL = "model.json"
SHARDS = re.compile(r"group1-shard\d+of\d+\.bin")
"""Names of the files that lie in such a model's folder."""
SHARD = 4_000_000
"""Bytes of a file of weights, at most: what the official converter takes for what browsers cache.
A multiple of four, so that no number is cut in two."""
IMAGES, LOGITS = "images", "logits"
"""Names of the first and the last layer."""
FIRST_TO_LAST, LAST_TO_FIRST = (2, 3, 1), (3, 1, 2)
"""Orders of the axes of an image, counted from 1, by which channels become the last or the first
axis."""


def tfjs_files(network: Network) -> dict[str, bytes]:
    """A network in inference mode as the files of a layers model, by their names, in float32.

    It takes any number of images in the layout of the data, (n, *input_shape), and gives logits
    (n, classes). Inside it works on maps with the channel last, as browsers do.

    Raises:
        HarnessError: A max-pooling has more padding than its window has room for.
    """
    written = _Writing(network)
    written.network()
    content = b"".join(value.tobytes() for value in written.weights.values())
    starts = range(0, len(content), SHARD)
    names = [f"group1-shard{at}of{len(starts)}.bin" for at, _ in enumerate(starts, 1)]
    specs = [
        {"name": name, "shape": list(value.shape), "dtype": "float32"}
        for name, value in written.weights.items()
    ]
    document = {
        "format": "layers-model",
        "generatedBy": "robustness-harness",
        "convertedBy": None,
        "modelTopology": _topology(written.layers),
        "weightsManifest": [{"paths": names, "weights": specs}] if specs else [],
    }
    files = {MODEL: as_json(document).encode("ascii")}
    return files | {
        name: content[start : start + SHARD] for name, start in zip(names, starts, strict=True)
    }


def is_of_a_layers_model(path: Path) -> bool:
    """Whether it may be a file that ``tfjs_files`` made, by its name."""
    named = path.name == MODEL or SHARDS.fullmatch(path.name) is not None
    return named and path.is_file() and not path.is_symlink()


def _topology(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The layers as Keras 2 writes a functional model, which is what TensorFlow.js reads."""
    config = {
        "name": "network",
        "layers": layers,
        "input_layers": [[IMAGES, 0, 0]],
        "output_layers": [[LOGITS, 0, 0]],
    }
    return {
        "keras_version": "2.15.0", "backend": "tensorflow",
        "model_config": {"class_name": "Model", "config": config},
    }  # fmt: skip


class _Writing:
    """Writes layers, one after another.

    Attributes:
        layers: Those that are written.
        weights: Their weights, by the names that they have in TensorFlow.js.
    """

    def __init__(self, network: Network) -> None:
        self.architecture, self._given = network.architecture.inference, network.weights
        self.layers: list[dict[str, Any]] = []
        self.weights: dict[str, FloatArray] = {}

    def network(self) -> None:
        """All of it, from images to logits."""
        architecture, shape = self.architecture, self.architecture.input_shape
        name = self.layer("InputLayer", (), IMAGES, batch_input_shape=[None, *shape])
        if architecture.takes_maps:
            if len(shape) == 2:
                name = self.layer("Reshape", (name,), target_shape=[*shape, 1])
            elif len(shape) == 3 and not architecture.channels_last:
                name = self.layer("Permute", (name,), dims=FIRST_TO_LAST)
        name = self.sequence(architecture.placed, name)
        self.layer("Activation", (name,), LOGITS, activation="linear")

    def sequence(self, placed: Sequence[Placed], name: str) -> str:
        """Layers one after another; returns the name of the last one."""
        for place in placed:
            name = self.place(place, name)
        return name

    def place(self, place: Placed, name: str) -> str:
        """What does the work of one layer; returns the name of the last of it."""
        layer = place.layer
        if isinstance(layer, Residual):
            ends = [self.sequence(part, name) for part in (place.branch, place.shortcut)]
            return self.layer("Add", ends)
        if isinstance(layer, Dense):
            self.hold(place, kernel=self.weight(place).T, bias=self.bias(place))
            return self.layer("Dense", (name,), place.name, units=layer.width)
        if isinstance(layer, Conv):
            return self.convolved(place, layer, name)
        if isinstance(layer, Scale):
            return self.scaled(place, name)
        if isinstance(layer, ReLU):
            return self.layer("ReLU", (name,))
        if isinstance(layer, MaxPool):
            name = self.edged(place, layer, name)
            return self.layer("MaxPooling2D", (name,), **_window(layer.size, layer.stride))
        if isinstance(layer, MeanPool):
            return self.layer("AveragePooling2D", (name,), **_window(layer.size, layer.stride))
        if isinstance(layer, Flatten):
            return self.flattened(place, name)
        raise HarnessError(f"TensorFlow.js has no {type(layer).__name__}")

    def convolved(self, place: Placed, layer: Conv, name: str) -> str:
        """A convolution, with zeros around its maps."""
        if layer.padding != UNPADDED:
            name = self.layer("ZeroPadding2D", (name,), padding=layer.padding)
        kernel = self.weight(place).transpose(2, 3, 1, 0)
        self.hold(place, kernel=kernel, bias=self.bias(place))
        return self.layer(
            "Conv2D", (name,), place.name, filters=layer.channels, kernel_size=layer.kernel,
            strides=layer.stride, padding="valid", data_format="channels_last",
        )  # fmt: skip

    def scaled(self, place: Placed, name: str) -> str:
        """A ``Scale`` as a batch normalisation with mean 0 and variance 1."""
        weight, bias = self.weight(place), self.bias(place)
        self.hold(
            place, gamma=weight, beta=bias,
            moving_mean=np.zeros_like(bias), moving_variance=np.ones_like(bias),
        )  # fmt: skip
        return self.layer("BatchNormalization", (name,), place.name, axis=-1, epsilon=0)

    def edged(self, place: Placed, layer: MaxPool, name: str) -> str:
        """Maps with copies of their edges around them, among which a max-pooling finds no more.

        Each window that reaches over an edge has that edge in it, for it is longer than the
        padding.
        """
        for axis, (sides, size) in enumerate(zip(layer.padding, layer.size, strict=True)):
            if max(sides) >= size:
                raise HarnessError(
                    f"a MaxPool of {layer.size} with a padding of {layer.padding} has windows "
                    "without a pixel; TensorFlow.js has no such layer"
                )
            rest, parts = place.before[axis + 1] - 1, [name]
            if sides[0]:
                parts = [self.cropped(name, axis, (0, rest))] * sides[0] + parts
            if sides[1]:
                parts = parts + [self.cropped(name, axis, (rest, 0))] * sides[1]
            if len(parts) > 1:
                name = self.layer("Concatenate", parts, axis=axis + 1)
        return name

    def cropped(self, name: str, axis: int, cut: Pair) -> str:
        """Maps without so many of the first and of the last rows, or columns."""
        cropping = [cut if at == axis else (0, 0) for at in range(2)]
        return self.layer("Cropping2D", (name,), cropping=cropping)

    def flattened(self, place: Placed, name: str) -> str:
        """Vectors in the order of the images' own axes."""
        if len(place.before) == 1:
            return name
        if name != IMAGES and not self.architecture.channels_last:
            name = self.layer("Permute", (name,), dims=LAST_TO_FIRST)
        return self.layer("Flatten", (name,))

    def weight(self, place: Placed) -> FloatArray:
        """The weight of a layer."""
        return self._given[f"{place.name}.weight"]

    def bias(self, place: Placed) -> FloatArray:
        """The bias of a layer."""
        return self._given[f"{place.name}.bias"]

    def hold(self, place: Placed, **values: FloatArray) -> None:
        """Weights of a layer, in the order that its kind has them in."""
        for kind, value in values.items():
            self.weights[f"{place.name}/{kind}"] = np.ascontiguousarray(value, dtype="<f4")

    def layer(self, kind: str, inputs: Sequence[str], name: str = "", **config: Any) -> str:
        """One layer; returns its name."""
        made = name or f"{kind.lower()}.{len(self.layers)}"
        nodes = [[[one, 0, 0, {}] for one in inputs]] if inputs else []
        self.layers.append(
            {
                "class_name": kind, "name": made,
                "config": {"name": made, "dtype": "float32"} | config, "inbound_nodes": nodes,
            }
        )  # fmt: skip
        return made


def _window(size: Pair, stride: Pair) -> dict[str, Any]:
    return {"pool_size": size, "strides": stride, "padding": "valid"}
