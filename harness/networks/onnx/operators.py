"""Operators of an ONNX graph on images and feature maps, as layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from harness.networks.onnx.folding import BATCH, axes_of
from harness.networks.onnx.graph import FLOAT, Constant, Node
from harness.networks.onnx.values import Affine, Form, Made, Part, Told, Value
from harness.networks.onnx.windows import (
    convolution,
    global_pool,
    max_pool,
    mean_pool,
    pair,
)
from harness.protocol import Dense, Flatten, FloatArray, MeanPool, ReLU, Shape


def applied(node: Node, value: Value, told: Told) -> Made:
    """What an operator makes of a value, and as which layers.

    Raises:
        GraphError: It is no layer of the harness; the message names it.
    """
    if node.kind not in OPERATORS:
        raise node.refused()
    if told.constants and told.constants[0] is not None and node.kind not in EITHER:
        raise node.refused("it is given the images where its constants belong")
    return OPERATORS[node.kind](node, value, told)


def _same(node: Node, value: Value, told: Told) -> Made:
    return value, ()


def _relu(node: Node, value: Value, told: Told) -> Made:
    return value, (Part(ReLU()),)


def _cast(node: Node, value: Value, told: Told) -> Made:
    if node.attributes.get("to") != FLOAT:
        raise node.refused("makes other numbers than float32")
    return value, ()


def _dropout(node: Node, value: Value, told: Told) -> Made:
    if len(told.constants) > 2 and told.constants[2] is not None and told.constants[2].any():
        raise node.refused("it is in training mode")
    return value, ()


def _gemm(node: Node, value: Value, told: Told) -> Made:
    said = node.attributes
    if said.get("transA"):
        raise node.refused("it transposes the images")
    weight, *rest = told.others()
    if weight.ndim == 2:
        weight = weight if said.get("transB") else weight.T
    bias = float(said.get("beta", 1.0)) * rest[0].astype(np.float64) if rest else np.zeros(1)
    return _dense(node, value, float(said.get("alpha", 1.0)) * weight.astype(np.float64), bias)


def _matmul(node: Node, value: Value, told: Told) -> Made:
    (weight,) = told.others()
    return _dense(node, value, weight.astype(np.float64).T, np.zeros(1))


def _dense(node: Node, value: Value, weight: Constant, bias: Constant) -> Made:
    """A linear map, whose weight is (width, in)."""
    if value.form != "flat" or weight.ndim != 2 or weight.shape[1] != value.maps[0]:
        raise node.refused(f"weights {weight.shape} do not fit what it is given, {value.shape}")
    width = len(weight)
    if bias.size not in (1, width) or bias.shape[:-1].count(1) != len(bias.shape[:-1]):
        raise node.refused(f"a bias {bias.shape} does not fit {width} units")
    if value.columns is not None:
        ordered = np.empty_like(weight)
        ordered[:, value.columns] = weight
        weight = ordered
    bias = np.broadcast_to(bias.reshape(-1), (width,))
    return Value((width,), "flat"), (Part(Dense(width), weight, bias),)


def _affine(node: Node, value: Value, told: Told) -> Made:
    """Add, Sub, Mul or Div by a constant for each channel, or one for all."""
    first = told.constants[0] is not None
    constant = next(one for one in told.constants if one is not None)
    other = _channels(node, value, constant)
    one, zero = np.ones_like(other), np.zeros_like(other)
    if node.kind == "Add":
        return value, (Affine(one, other),)
    if node.kind == "Sub":
        return value, (Affine(-one, other) if first else Affine(one, -other),)
    if node.kind == "Mul":
        return value, (Affine(other, zero),)
    if first:
        raise node.refused("it divides by the images")
    return value, (Affine(1 / other, zero),)


def _channels(node: Node, value: Value, constant: Constant) -> FloatArray:
    """A constant as one number for each channel, or unit, (channels,) float64."""
    shape: Shape = (1, *value.shape)
    if constant.dtype.kind != "f" or constant.ndim > len(shape):
        raise node.refused("its constant does not fit the images")
    found = constant.astype(np.float64).reshape(
        [1] * (len(shape) - constant.ndim) + [*constant.shape]
    )
    axis = {"flat": 1, "column": 1, "hw": None, "chw": 1, "hwc": 3}[value.form]
    for other in range(len(shape)):
        if found.shape[other] not in (1, shape[other]):
            raise node.refused(f"its constant {constant.shape} does not fit {value.shape}")
        if other != axis:
            if (found != found.take([0], other)).any():
                raise node.refused("its constant is another one for each pixel")
            found = found.take([0], other)
    numbers: FloatArray = np.broadcast_to(found.reshape(-1), (value.maps[0],))
    if value.columns is not None:
        ordered = np.empty(len(numbers))
        ordered[value.columns] = numbers
        return ordered
    return numbers


def _batch_norm(node: Node, value: Value, told: Told) -> Made:
    said = node.attributes
    if said.get("training_mode") or said.get("spatial", 1) != 1:
        raise node.refused("it is in training mode")
    if value.form not in ("flat", "chw"):
        raise node.refused(f"it is given {value.shape}, not maps with their channels first")
    parts = [_channels(node, Value(value.maps[:1], "flat", value.columns), one)
             for one in told.others()]  # fmt: skip
    scale, shift, mean, variance = parts
    factor = scale / np.sqrt(variance + float(said.get("epsilon", 1e-5)))
    return value, (Affine(factor, shift - mean * factor, folds=True),)


def _reduced(node: Node, value: Value, told: Told) -> Made:
    """The mean over height and width."""
    rank = len(value.shape) + 1
    axes = axes_of(node, told.others())
    wanted = {"chw": {2, 3}, "hwc": {1, 2}}.get(value.form)
    if axes is None or {axis % rank for axis in axes} != wanted:
        raise node.refused(f"axes {axes} are not height and width")
    size = pair(value.maps[1:])
    pooled = Value((value.maps[0], 1, 1), value.form)
    if node.attributes.get("keepdims", 1):
        return pooled, (Part(MeanPool(size, size)),)
    return Value(value.maps[:1], "flat"), (Part(MeanPool(size, size)), Part(Flatten()))


def _flat(value: Value, told: Told) -> Made:
    """A vector of maps, in the order of the file."""
    if value.form in ("flat", "column"):
        return replace(value, form="flat"), ()
    made = Value((math.prod(value.maps),), "flat")
    channels, *sides = value.maps
    if (value.form == "hwc") != told.last and channels > 1 and math.prod(sides) > 1:
        places = np.arange(math.prod(value.maps))
        # Where the harness has what the file has at each place.
        if told.last:
            columns = places.reshape(*sides, channels).transpose(2, 0, 1)
        else:
            columns = places.reshape(channels, *sides).transpose(1, 2, 0)
        made = replace(made, columns=columns.reshape(-1))
    return made, (Part(Flatten()),)


def _flatten(node: Node, value: Value, told: Told) -> Made:
    rank = len(value.shape) + 1
    if node.attributes.get("axis", 1) % rank != 1:
        raise node.refused("it flattens more, or less, than one image")
    return _flat(value, told)


def _reshape(node: Node, value: Value, told: Told) -> Made:
    said = told.others()[0].reshape(-1).tolist() if told.others() else []
    if not node.attributes.get("allowzero"):
        sides = [BATCH, *value.shape]
        said = [sides[i] if side == 0 and i < len(sides) else side for i, side in enumerate(said)]
    if not said or said[0] not in (BATCH, -1, told.batch):
        raise node.refused(f"its shape {_named(said)} does not keep the images apart")
    rest, size = said[1:], math.prod(value.shape)
    if rest.count(-1) == 1 and said[0] != -1:
        known = math.prod(side for side in rest if side != -1)
        rest = [size // known if side == -1 and known > 0 else side for side in rest]
    if math.prod(rest) != size or min(rest, default=0) < 1:
        raise node.refused(f"its shape {_named(said)} does not keep the images apart")
    return _shaped(node, value, tuple(rest), told)


def _shaped(node: Node, value: Value, shape: Shape, told: Told) -> Made:
    """The same numbers, in their order, in another shape of each image."""
    if shape == value.shape:
        return value, ()
    if len(shape) == 1:
        return _flat(value, told)
    if shape == (value.maps[0], 1) and math.prod(value.maps) == value.maps[0]:
        made, parts = _flat(value, told)
        return replace(made, form="column"), parts
    if len(shape) == 3 and value.maps == shape and value.maps[0] == 1:
        return Value(value.maps, "chw"), ()
    if len(shape) == 3 and value.maps[0] == 1 and shape == (*value.maps[1:], 1):
        return Value(value.maps, "hwc"), ()
    raise node.refused(f"it makes {value.shape} into {shape}")


def _squeeze(node: Node, value: Value, told: Told) -> Made:
    shape, axes = (0, *value.shape), axes_of(node, told.others())
    if axes is None:
        if told.batch == 1:
            raise node.refused("it takes the batch away")
        axes = tuple(axis for axis, side in enumerate(shape) if side == 1)
    gone = {axis % len(shape) for axis in axes}
    if any(shape[axis] != 1 for axis in gone):
        raise node.refused(f"axes {axes} of {value.shape} are not of length 1")
    return _shaped(node, value, tuple(s for a, s in enumerate(shape) if a and a not in gone), told)


def _unsqueeze(node: Node, value: Value, told: Told) -> Made:
    axes, shape = axes_of(node, told.others()) or (), [0, *value.shape]
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    if shape[0] != 0:
        raise node.refused("it puts an axis before the batch")
    return _shaped(node, value, tuple(shape[1:]), told)


def _transpose(node: Node, value: Value, told: Told) -> Made:
    rank = len(value.shape) + 1
    turned = tuple(axis % rank for axis in node.attributes.get("perm", range(rank)[::-1]))
    if turned == tuple(range(rank)):
        return value, ()
    known: dict[tuple[str, tuple[int, ...]], Form] = {
        ("hwc", (0, 3, 1, 2)): "chw", ("chw", (0, 2, 3, 1)): "hwc",
    }  # fmt: skip
    if (value.form, turned) not in known:
        raise node.refused(f"it turns the axes of {value.shape} by {turned}")
    return replace(value, form=known[value.form, turned]), ()


def _named(shape: Sequence[int]) -> str:
    return f"({', '.join('n' if side == BATCH else str(side) for side in shape)})"


EITHER = ("Add", "Sub", "Mul", "Div")
"""Operators whose constant may come first."""
OPERATORS: Mapping[str, Callable[[Node, Value, Told], Made]] = {
    "Identity": _same,
    "Relu": _relu,
    "Cast": _cast,
    "Dropout": _dropout,
    "Gemm": _gemm,
    "MatMul": _matmul,
    **dict.fromkeys(EITHER, _affine),
    "BatchNormalization": _batch_norm,
    "Conv": convolution,
    "MaxPool": max_pool,
    "AveragePool": mean_pool,
    "GlobalAveragePool": global_pool,
    "GlobalMaxPool": global_pool,
    "ReduceMean": _reduced,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
}
"""What is known of images and maps."""
