"""Operators of an ONNX graph that slide a window over maps: convolutions and pools."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.networks.onnx.graph import Node
from harness.networks.onnx.values import Made, Part, Told, Value
from harness.protocol import Conv, Layer, MaxPool, MeanPool, Padding, Pair


def convolution(node: Node, value: Value, told: Told) -> Made:
    """A convolution of maps."""
    said = node.attributes
    weight, *rest = told.others()
    if said.get("group", 1) != 1:
        raise node.refused(f"it has {said['group']} groups of channels")
    if value.form != "chw" or weight.ndim != 4 or weight.shape[1] != value.maps[0]:
        raise node.refused(f"weights {weight.shape} do not fit what it is given, {value.shape}")
    kernel = pair(weight.shape[2:])
    if "kernel_shape" in said and pair(said["kernel_shape"]) != kernel:
        raise node.refused(f"weights {weight.shape} are not of its kernel")
    stride, padding = _window(node, value, kernel)
    channels = len(weight)
    bias = rest[0].astype(np.float64) if rest else np.zeros(channels)
    if bias.shape != (channels,):
        raise node.refused(f"a bias {bias.shape} does not fit {channels} channels")
    layer = Conv(channels, kernel, stride, padding)
    part = Part(layer, weight.astype(np.float64), bias)
    return _slid(node, value, channels, kernel, stride, padding), (part,)


def max_pool(node: Node, value: Value, told: Told) -> Made:
    """The largest value of each window."""
    size = _pool(node, value)
    stride, padding = _window(node, value, size)
    if any(max(pads) >= side for pads, side in zip(padding, size, strict=True)):
        raise node.refused("a window lies outside of the image")
    made = _slid(node, value, value.maps[0], size, stride, padding)
    return made, (Part(MaxPool(size, stride, padding)),)


def mean_pool(node: Node, value: Value, told: Told) -> Made:
    """The mean of each window."""
    size = _pool(node, value)
    stride, padding = _window(node, value, size)
    if any(map(any, padding)):
        raise node.refused("it pads the images")
    made = _slid(node, value, value.maps[0], size, stride, padding)
    return made, (Part(MeanPool(size, stride)),)


def _pool(node: Node, value: Value) -> Pair:
    if value.form != "chw":
        raise node.refused(f"it is given {value.shape}, not maps with their channels first")
    return pair(node.attributes.get("kernel_shape", ()))


def _window(node: Node, value: Value, size: Pair) -> tuple[Pair, Padding]:
    """Stride and padding of what slides a window over maps."""
    said = node.attributes
    stride = pair(said.get("strides", (1, 1)))
    if len(size) != 2 or len(stride) != 2 or min(*size, *stride) < 1:
        raise node.refused("its window is not one of height and width")
    if any(side != 1 for side in said.get("dilations", ())):
        raise node.refused(f"its window is dilated, {said['dilations']}")
    how, sides = said.get("auto_pad", "NOTSET"), value.maps[1:]
    if how in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for side, width, step in zip(sides, size, stride, strict=True):
            total = max((math.ceil(side / step) - 1) * step + width - side, 0)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if how == "SAME_UPPER" else (more, less))
        padding = (pads[0], pads[1])
    elif how in ("NOTSET", "VALID"):
        given = said.get("pads", (0, 0, 0, 0)) if how == "NOTSET" else (0, 0, 0, 0)
        if len(given) != 4 or min(given) < 0:
            raise node.refused(f"its padding {given} is not one around maps")
        top, left, bottom, right = given
        padding = ((top, bottom), (left, right))
    else:
        raise node.refused(f"auto_pad {how}")
    return stride, padding


def _slid(
    node: Node, value: Value, channels: int, size: Pair, stride: Pair, padding: Padding
) -> Value:
    """What a sliding window leaves of maps."""
    left: list[int] = []
    for side, width, step, pads in zip(value.maps[1:], size, stride, padding, strict=True):
        room = side + sum(pads) - width
        if room < 0:
            raise node.refused(f"its window of {size} is larger than its image of {value.shape}")
        if node.attributes.get("ceil_mode") and room % step:
            raise node.refused("its last window reaches beyond the image (ceil_mode)")
        left.append(room // step + 1)
    return Value((channels, left[0], left[1]), "chw")


def global_pool(node: Node, value: Value, told: Told) -> Made:
    """One number of each channel."""
    if value.form != "chw":
        raise node.refused(f"it is given {value.shape}, not maps with their channels first")
    size = pair(value.maps[1:])
    kind: Layer = MeanPool(size, size) if "Average" in node.kind else MaxPool(size, size)
    return Value((value.maps[0], 1, 1), "chw"), (Part(kind),)


def pair(sides: Sequence[int]) -> Pair:
    """Height and width; of other lengths what ``_window`` refuses."""
    first, *rest = (int(side) for side in sides) if len(sides) else (0,)
    return (first, *rest)  # type: ignore[return-value]  # see above
