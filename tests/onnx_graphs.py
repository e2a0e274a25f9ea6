"""Small ONNX graphs, made by hand."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import required

if "onnx" not in required():
    pytest.importorskip("onnx")
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
RANDOM = np.random.default_rng(0)


def drawn(*shape):
    """Weights of a shape."""
    return RANDOM.normal(size=shape).astype(np.float32)


def node(kind, *inputs, to, **attributes):
    """One node with one output."""
    return helper.make_node(kind, inputs, [to], f"the {to}", **attributes)


def model_of(nodes, shape, held, output="y", opset=13, batch="n", kind=FLOAT):
    """A model of nodes from ``x`` to an output; what is held are arrays by name."""
    graph = helper.make_graph(
        nodes, "net", [helper.make_tensor_value_info("x", kind, [batch, *shape])],
        [helper.make_tensor_value_info(output, FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def saved(folder, nodes, shape, held, **how):
    """The file of such a model."""
    path = folder / "net.onnx"
    onnx.save(model_of(nodes, shape, held, **how), str(path))
    return path
