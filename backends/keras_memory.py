"""How much memory one image takes up in a network, by the shapes in its graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

ALIASES = frozenset({
    "Identity", "IdentityN", "StopGradient", "PreventGradient", "Reshape", "Squeeze", "ExpandDims",
    "Placeholder", "Const", "ReadVariableOp", "EnsureShape",
})  # fmt: skip
"""Operations that compute nothing: what they return is in memory already."""
CALLS = ("PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While",
         "StatelessWhile")  # fmt: skip
BATCHES = (1, 2)


def bytes_of_an_image(
    function: Callable[[Any], Any], shape: Iterable[int | None], dtype: tf.DType
) -> int:
    """Bytes of all that a function of a batch computes, for each image of the batch.

    That is what its operations return for two images, less what they return for one. Much of it is
    not in memory at the same time, so that this is an upper bound. Nothing is run.
    """
    sizes = []
    for count in BATCHES:
        spec = tf.TensorSpec([count, *shape], dtype)
        traced = tf.function(function, autograph=False).get_concrete_function(spec)
        sizes.append(_bytes(traced.graph))
    return max(0, sizes[1] - sizes[0])


def _bytes(graph: Any) -> int:
    return sum(_inside(each) if each.type in CALLS else _returned(each) for each in _all(graph))


def _all(graph: Any) -> list[Any]:
    return list(graph.get_operations())


def _returned(operation: Any) -> int:
    """What an operation returns; what it does not tell the shape of counts nothing."""
    if operation.type in ALIASES:
        return 0
    return sum(
        math.prod(out.shape) * out.dtype.size
        for out in operation.outputs
        if out.shape.is_fully_defined() and out.dtype.size
    )


def _inside(call: Any) -> int:
    """What the functions compute that an operation calls, on inputs of its shapes; loops once."""
    found = 0
    for name in ("f", "then_branch", "else_branch", "body"):
        called = _function_of(call, name)
        if called is None:
            continue
        # The first input of a branch is the condition, which it is not given.
        given = list(call.inputs)[1:] if name.endswith("branch") else list(call.inputs)
        shapes = [tensor.shape for tensor in given]
        with call.graph.as_default():
            found += _bytes(function_def_to_graph(called, input_shapes=shapes))
    return found


def _function_of(call: Any, attribute: str) -> Any:
    try:
        name = call.get_attr(attribute).name
    except ValueError:
        return None
    return call.graph._get_function(name).function_def
