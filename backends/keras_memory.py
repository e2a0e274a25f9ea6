"""How much memory one image takes up in a network, by the shapes in its graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

Library: TypeAlias = Mapping[str, Any]
ALIASES = frozenset({
    "Identity", "IdentityN", "StopGradient", "PreventGradient", "Reshape", "Squeeze", "ExpandDims",
    "Placeholder", "Const", "ReadVariableOp", "EnsureShape",
})  # fmt: skip
"""Operations that compute nothing: what they return is in memory already."""
BRANCHES = ("then_branch", "else_branch")
INNER = ("f", "body", *BRANCHES)
"""The attributes of operations that name the functions that they call."""
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
        graph = tf.function(function, autograph=False).get_concrete_function(spec).graph
        functions = graph.as_graph_def(add_shapes=True).library.function
        library = {each.signature.name: each for each in functions}
        sizes.append(_bytes(graph, count, library))
    return max(0, sizes[1] - sizes[0])


def _bytes(graph: Any, count: int, library: Library) -> int:
    found = 0
    for operation in graph.get_operations():
        called = [name for name in INNER if name in operation.node_def.attr]
        for name in called:
            inner = library[operation.node_def.attr[name].func.name]
            found += _bytes(_inside(operation, inner, name in BRANCHES), count, library)
        if not called and operation.type not in ALIASES:
            found += sum(_returned(output, count) for output in operation.outputs)
    return found


def _returned(output: Any, count: int) -> int:
    """Bytes of a tensor.

    An axis that a function has been written for without a length is that of the batch; of several
    such axes it cannot be told what they are.
    """
    shape = None if output.shape.rank is None else output.shape.as_list()
    if shape is None or shape.count(None) > 1:
        return 0
    return math.prod(count if side is None else side for side in shape) * int(output.dtype.size)


def _inside(operation: Any, function: Any, is_branch: bool) -> Any:
    """The graph of a function that an operation calls, for the shapes that it gives it."""
    # The first input of a choice is the condition, which its branches are not given.
    given = list(operation.inputs)[1:] if is_branch else list(operation.inputs)
    free = type(function)()
    free.CopyFrom(function)
    free.arg_attr.clear()  # the shapes that it has been written for
    with operation.graph.as_default():
        return function_def_to_graph(free, input_shapes=[each.shape for each in given])
