"""A network for the page in one file: its layers in JSON, its weights in float16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.errors import HarnessError
from harness.protocol import (
    Architecture,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    MeanPool,
    Network,
    Placed,
    ReLU,
    Residual,
    Scale,
    Weights,
    walk,
)


def in_half(network: Network) -> Network:
    """The network in inference mode with its weights rounded to float16, held in float32.

    Raises:
        HarnessError: A weight is too large for float16, or is no number.
    """
    rounded: dict[str, Any] = {}
    for name, value in network.weights.items():
        with np.errstate(over="ignore"):
            half = np.asarray(value).astype(np.float16)
        if not np.isfinite(half).all():
            largest = float(np.abs(value).max())
            raise HarnessError(
                f"{name}: a weight of size {largest:g} does not fit into float16, whose largest "
                "number is 65504; a playground cannot hold this network"
            )
        rounded[name] = half.astype(np.float32)
    return Network(network.architecture.inference, rounded)


def half_bytes(architecture: Architecture, weights: Weights) -> bytes:
    """Weights as float16, little endian: of each layer in turn its weight and its bias."""
    names = [place.name for place in walk(architecture.inference.placed) if place.name]
    parts = [
        np.asarray(weights[f"{name}.{kind}"]).astype("<f2").tobytes()
        for name in names
        for kind in ("weight", "bias")
    ]
    return b"".join(parts)


def layers_in_json(architecture: Architecture) -> list[dict[str, Any]]:
    """The layers in inference mode as ``engine.js`` knows them, with the shapes that they take.

    Where images have their channel last, the first one makes maps of them.

    Raises:
        HarnessError: It knows no such layer; the message names its kind.
    """
    last = architecture.channels_last
    first = {"kind": "channelsfirst", "before": list(architecture.input_shape)}
    return [first] * last + _sequence(architecture.inference.placed, last)


def _sequence(placed: Sequence[Placed], last: bool) -> list[dict[str, Any]]:
    return [_layer(place, last) for place in placed]


def _layer(place: Placed, last: bool) -> dict[str, Any]:
    layer = place.layer
    shapes = {"before": list(place.before), "after": list(place.after)}
    if isinstance(layer, Dense):
        return {"kind": "dense", "in": place.before[0], "out": layer.width}
    if isinstance(layer, Conv):
        return {
            "kind": "conv", **shapes, "kernel": list(layer.kernel), "stride": list(layer.stride),
            "padding": [list(sides) for sides in layer.padding],
        }  # fmt: skip
    if isinstance(layer, MaxPool):
        return {
            "kind": "maxpool", **shapes, "size": list(layer.size), "stride": list(layer.stride),
            "padding": [list(sides) for sides in layer.padding],
        }  # fmt: skip
    if isinstance(layer, MeanPool):
        return {
            "kind": "meanpool", **shapes, "size": list(layer.size), "stride": list(layer.stride)
        }  # fmt: skip
    if isinstance(layer, Scale):
        return {"kind": "scale", "before": shapes["before"]}
    if isinstance(layer, ReLU):
        return {"kind": "relu"}
    if isinstance(layer, Flatten):
        return {"kind": "flatten", "before": shapes["before"], "last": last}
    if isinstance(layer, Residual):
        return {
            "kind": "residual", "branch": _sequence(place.branch, last),
            "shortcut": _sequence(place.shortcut, last),
        }  # fmt: skip
    raise HarnessError(f"a playground has no {type(layer).__name__}")
