"""How much memory one image takes up in a network, by the shapes in its graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import tensorflow as tf

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
    """Bytes that a function of a batch takes up at a time, for each image of the batch.

    That is the most that is in memory for two images, less the most for one, if operations work one
    after the other in the order of the graph, and what they return is kept until it is last read.
    Operations that work in place, or as one, need less. Nothing is run.
    """
    sizes = []
    for count in BATCHES:
        spec = tf.TensorSpec([count, *shape], dtype)
        graph = tf.function(function, autograph=False).get_concrete_function(spec).graph
        functions = graph.as_graph_def(add_shapes=True).library.function
        library = {each.signature.name: each for each in functions}
        sizes.append(_peak(graph, count, library))
    return max(0, sizes[1] - sizes[0])


def _peak(graph: Any, count: int, library: Library) -> int:
    """The most bytes at a time of what the operations of a graph return."""
    operations = graph.get_operations()
    ends = _last_reads(graph)
    dying: dict[int, int] = {}
    live = most = 0
    for place, operation in enumerate(operations):
        made = inner = 0
        if operation.type not in ALIASES:
            for output in operation.outputs:
                size = _returned(output, count)
                made += size
                dying[ends[output.name]] = dying.get(ends[output.name], 0) + size
            inner = _peak_within(operation, count, library) - made
        live += made
        most = max(most, live + max(0, inner))
        live -= dying.pop(place, 0)
    return most


def _last_reads(graph: Any) -> dict[str, int]:
    """The place of the operation that last reads each tensor, itself or under another name."""
    operations = graph.get_operations()
    same: dict[str, str] = {}
    ends: dict[str, int] = {}
    for place, operation in enumerate(operations):
        read = [same.get(each.name, each.name) for each in operation.inputs]
        ends |= dict.fromkeys(read, place)
        names = [each.name for each in operation.outputs]
        if operation.type in ALIASES and read:  # Reshape has its shape as a second input
            same |= dict(zip(names, read, strict=False))
        ends |= dict.fromkeys(names, place)
    return ends | {same.get(each.name, each.name): len(operations) for each in graph.outputs}


def _peak_within(operation: Any, count: int, library: Library) -> int:
    """The same of the functions that an operation calls; one at a time, and of a loop, one turn."""
    called = [name for name in INNER if name in operation.node_def.attr]
    functions = ((name, library[operation.node_def.attr[name].func.name]) for name in called)
    return max(
        (_peak(_inside(operation, each, name in BRANCHES), count, library)
         for name, each in functions),
        default=0,
    )  # fmt: skip


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
    # Of TensorFlow's own modules; should it move, the network tells no footprint.
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

    free.CopyFrom(function)
    free.arg_attr.clear()  # the shapes that it has been written for
    with operation.graph.as_default():
        return function_def_to_graph(free, input_shapes=[each.shape for each in given])
