"""Architectures in words that JSON has, and back."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from harness.protocol import (
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    MeanPool,
    ReLU,
    Residual,
    Scale,
)

LARGEST = 1 << 31
KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        Dense, Conv, BatchNorm, Scale, ReLU, Dropout, MaxPool, MeanPool, Flatten, Residual,
    )
}  # fmt: skip
"""The kinds of layer, by their names."""


def described(architecture: Architecture) -> dict[str, Any]:
    """All that an architecture is made of."""
    return {
        "input_shape": architecture.input_shape,
        "classes": architecture.classes,
        "channel_axis": architecture.channel_axis,
        "layers": [_layer(layer) for layer in architecture.layers],
    }


def _layer(layer: Layer) -> dict[str, Any]:
    """A layer, with the name of its kind, which its values alone do not tell."""
    if isinstance(layer, Residual):
        parts = {"branch": layer.branch, "shortcut": layer.shortcut}
        found: dict[str, Any] = {key: [_layer(one) for one in part] for key, part in parts.items()}
    else:
        found = asdict(layer)
    return {"kind": type(layer).__name__} | found


def architecture_from(document: Any) -> Architecture:
    """The architecture that ``described`` told of, from JSON-like data of unknown origin.

    Raises:
        ValueError: It is none.
        ArchitectureError: Its layers do not fit together.
    """
    keys = {"input_shape", "classes", "channel_axis", "layers"}
    if not isinstance(document, dict) or set(document) != keys:
        raise ValueError(f"it does not have the keys {', '.join(sorted(keys))}")
    shape = [_whole(side, "input_shape", 1) for side in _listed(document["input_shape"])]
    axis = document["channel_axis"]
    if axis is not None and _whole(axis, "channel_axis", 0) >= len(shape):
        raise ValueError(f"channel_axis {axis} is none of {len(shape)} axes")
    layers = tuple(map(_layer_from, _listed(document["layers"])))
    return Architecture(tuple(shape), layers, _whole(document["classes"], "classes", 1), axis)


def _layer_from(said: Any) -> Layer:
    if not isinstance(said, dict) or said.get("kind") not in KINDS:
        raise ValueError(f"{said!r} is no layer")
    kind = KINDS[said["kind"]]
    values = {key: value for key, value in said.items() if key != "kind"}
    names = {one.name: one for one in fields(kind)}
    if set(values) != set(names):
        raise ValueError(f"a {said['kind']} has {', '.join(names) or 'nothing to say'}")
    if kind is Residual:
        parts = {name: tuple(map(_layer_from, _listed(value))) for name, value in values.items()}
        return Residual(**parts)
    checked = {name: _checked(name, value) for name, value in values.items()}
    made: Layer = kind(**checked)
    return made


def _checked(name: str, value: Any) -> Any:
    """A value of a layer, all of which are whole numbers and lists of them but one."""
    if name == "share":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"share: {value!r} is no number")
        return float(value)
    if name in ("width", "channels"):
        return _whole(value, name, 1)
    pairs = _listed(value) if name == "padding" else [value]
    made = tuple(tuple(_whole(one, name, 0) for one in _listed(pair)) for pair in pairs)
    if len(made) != (2 if name == "padding" else 1) or any(len(pair) != 2 for pair in made):
        raise ValueError(f"{name}: {value!r} is not of two sides")
    return made if name == "padding" else made[0]


def _listed(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is no list")
    return value


def _whole(value: Any, name: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < LARGEST:
        raise ValueError(f"{name}: {value!r} is no whole number from {least}")
    return value
