"""Architectures in words that JSON has."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from harness.protocol import Architecture, Layer, Residual


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
