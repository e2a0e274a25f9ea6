"""Operators of an ONNX graph on constants, whose results are constants again.

Exporters leave some of them in the graph: transposed weights, shared ones under two names, and the
shape that images are flattened to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.networks.onnx.graph import DTYPES, Constant, Node

BATCH = np.iinfo(np.int64).min
"""Stands, in a shape, for the number of images."""


def folded(node: Node, given: Sequence[Constant], room: int) -> Constant:
    """What an operator makes of constants.

    Args:
        node: The operator.
        given: What it is given.
        room: Numbers that the result may have, at most.

    Raises:
        GraphError: It is not known, or does not fit what it is given.
    """
    if node.kind not in FOLDS:
        raise node.refused("it is not read, not even of constants")
    try:
        if _size(node, given) > room:
            raise ValueError("the result is too large")
        with np.errstate(all="ignore"):
            return FOLDS[node.kind](node, list(given))
    except Exception as error:  # whatever NumPy makes of what does not fit
        raise node.refused(f"does not fit its constants ({error})") from error


def _size(node: Node, given: Sequence[Constant]) -> int:
    """How many numbers the result has, at most."""
    if node.kind == "Gather":
        return given[0].size * given[1].size
    if node.kind in ELEMENTWISE:
        return math.prod(np.broadcast_shapes(*(one.shape for one in given)))
    return sum(one.size for one in given)


def axes_of(node: Node, given: Sequence[Constant]) -> tuple[int, ...] | None:
    """The axes that an operator says, as an attribute or, in later versions, as its input."""
    said: Any = node.attributes.get("axes")
    if said is None and given:
        said = given[0].reshape(-1).tolist()
    return None if said is None else tuple(map(int, said))


def _constant(node: Node, given: list[Constant]) -> Constant:
    said: Mapping[str, Any] = node.attributes
    if isinstance(said.get("value"), np.ndarray):
        found: Constant = said["value"]
        return found
    for name, dtype in (("value_float", "f4"), ("value_int", "i8")):
        if name in said or f"{name}s" in said:
            return np.array(said.get(name, said.get(f"{name}s")), dtype)
    raise ValueError("it holds no numbers")


def _cast(node: Node, given: list[Constant]) -> Constant:
    dtype = np.dtype(DTYPES[node.attributes["to"]])
    if given[0].dtype == np.int64 and (given[0] == BATCH).any():
        if dtype.kind != "i":
            raise ValueError("it is the number of images")
        return given[0]  # which 32 bits do not hold
    return given[0].astype(dtype)


def _unsqueezed(node: Node, given: list[Constant]) -> Constant:
    axes = axes_of(node, given[1:])
    if axes is None:
        raise ValueError("it has no axes")
    return np.expand_dims(given[0], axes)


def _reshaped(node: Node, given: list[Constant]) -> Constant:
    values, shape = given[0], given[1].tolist()
    if not node.attributes.get("allowzero"):
        shape = [values.shape[i] if side == 0 else side for i, side in enumerate(shape)]
    found: Constant = values.reshape(shape)
    return found


def _slice(node: Node, given: list[Constant]) -> Constant:
    said = node.attributes
    parts = [part.tolist() for part in given[1:]] or [said["starts"], said["ends"]]
    starts, ends = parts[:2]
    axes = parts[2] if len(parts) > 2 else said.get("axes", range(len(starts)))
    steps = parts[3] if len(parts) > 3 else [1] * len(starts)
    cuts = [slice(None)] * given[0].ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cuts[axis] = slice(start, end, step)
    found: Constant = given[0][tuple(cuts)]
    return found


def _by(operation: Callable[..., Any]) -> Callable[[Node, list[Constant]], Constant]:
    """An operator on numbers; not on the number of images, which nobody knows."""

    def made(node: Node, given: list[Constant]) -> Constant:
        if any(one.dtype.kind != "f" for one in given):
            raise ValueError("they are whole numbers")
        return np.asarray(operation(*given), given[0].dtype)

    return made


ELEMENTWISE: Mapping[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Sqrt": np.sqrt,
    "Neg": np.negative,
}
FOLDS: Mapping[str, Callable[[Node, list[Constant]], Constant]] = {
    "Constant": _constant,
    "Identity": lambda node, given: given[0],
    "Cast": _cast,
    "Shape": lambda node, given: np.array(given[0].shape, np.int64)[
        node.attributes.get("start", 0) : node.attributes.get("end")
    ],
    "Transpose": lambda node, given: given[0].transpose(node.attributes.get("perm")),
    "Unsqueeze": _unsqueezed,
    "Squeeze": lambda node, given: np.squeeze(given[0], axes_of(node, given[1:])),
    "Reshape": _reshaped,
    "Concat": lambda node, given: np.concatenate(given, axis=node.attributes["axis"]),
    "Gather": lambda node, given: np.take(given[0], given[1], node.attributes.get("axis", 0)),
    "Slice": _slice,
    **{kind: _by(operation) for kind, operation in ELEMENTWISE.items()},
}
"""What is known of constants."""
