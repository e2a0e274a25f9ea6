"""Graphs of operators, made by hand, as layers; their outputs beside those of ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from onnx_graphs import TensorProto, drawn, helper, node, saved

from harness import registry
from harness.networks.onnx.graph import GraphError
from harness.networks.onnx.reading import read_network
from harness.protocol import (
    Conv,
    Dense,
    Flatten,
    MaxPool,
    MeanPool,
    ReLU,
    Residual,
    Scale,
)

MAPS = (2, 6, 6)


def logits(read, x):
    """What NumPy makes of images in float64, as the file gives it."""
    model = registry.builder("numpy").build(read.network, dtype="float64")
    return read.outputs(model.logits(x.astype(np.float64)))


def theirs(path, x):
    """What ONNX Runtime makes of them."""
    at_hand("onnx")
    import onnxruntime

    return onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0]


def require_same(path, shape, low=-1.0):
    """The network of a file, which gives what ONNX Runtime does."""
    read = read_network(path)
    x = np.random.default_rng(1).uniform(low, 1.0, (3, *shape)).astype(np.float32)
    expected = theirs(path, x)
    np.testing.assert_allclose(logits(read, x), expected, rtol=1e-4, atol=1e-5)
    return read


def kinds(read):
    return [type(layer) for layer in read.network.architecture.layers]


def ending(name, width, *, to="y"):
    """Flatten, and a linear layer of three logits."""
    nodes = [node("Flatten", name, to="flat"), node("Gemm", "flat", "last", to=to)]
    return nodes, {"last": drawn(width, 3)}


def test_a_linear_layer_with_all_its_options_by_hand(tmp_path):
    weight = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], np.float32)
    for turned in (0, 1):
        held = {"w": weight.T if turned else weight, "c": np.array([10.0, 20.0], np.float32)}
        gemm = node("Gemm", "x", "w", "c", to="y", alpha=2.0, beta=0.5, transB=turned)
        read = require_same(saved(tmp_path, [gemm], (3,), held), (3,))
        np.testing.assert_array_equal(
            logits(read, np.array([[1.0, 0.0, -1.0]], np.float32)), [[-3.0, 2.0]]
        )
        assert read.network.architecture.layers == (Dense(2),)


def test_a_product_and_a_sum_are_one_linear_layer(tmp_path):
    nodes = [node("MatMul", "x", "w", to="p"), node("Add", "b", "p", to="y")]
    read = require_same(saved(tmp_path, nodes, (4,), {"w": drawn(4, 3), "b": drawn(3)}), (4,))
    assert kinds(read) == [Dense]


PADS = {
    "none": {}, "valid": {"auto_pad": "VALID"}, "upper": {"auto_pad": "SAME_UPPER"},
    "lower": {"auto_pad": "SAME_LOWER"}, "uneven": {"pads": [0, 1, 2, 1]},
}  # fmt: skip


@pytest.mark.parametrize("pads", PADS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["Conv", "MaxPool"])
def test_windows_slide_as_they_do_there(tmp_path, kind, pads, stride):
    how = PADS[pads] | {"strides": [stride, stride], "kernel_shape": [3, 4]}
    held = {"k": drawn(2, 2, 3, 4)} if kind == "Conv" else {}
    nodes = [node(kind, "x", *held, to="c", **how), node("GlobalAveragePool", "c", to="m")]
    last, more = ending("m", 2)
    read = require_same(saved(tmp_path, [*nodes, *last], MAPS, held | more), MAPS)
    assert kinds(read) == [Conv if kind == "Conv" else MaxPool, MeanPool, Flatten, Dense]


def test_batch_normalisation_is_folded_or_a_scale(tmp_path):
    held = {"k": drawn(4, 2, 3, 3), "v": np.abs(drawn(4)) + 0.1} | {n: drawn(4) for n in "gbm"}
    norm = ("g", "b", "m", "v")
    nodes = [
        node("Conv", "x", "k", to="c"), node("BatchNormalization", "c", *norm, to="n", epsilon=0.1),
        node("Relu", "n", to="r"), node("BatchNormalization", "r", *norm, to="t"),
        node("GlobalMaxPool", "t", to="p"),
    ]  # fmt: skip
    last, more = ending("p", 4)
    read = require_same(saved(tmp_path, [*nodes, *last], MAPS, held | more), MAPS)
    assert kinds(read) == [Conv, ReLU, Scale, MaxPool, Flatten, Dense]


def test_normalisation_is_one_scale_in_front(tmp_path):
    held = {"mean": drawn(1, 2, 1, 1), "std": np.array(0.25, np.float32), "two": drawn(2, 1, 1)}
    nodes = [
        node("Sub", "x", "mean", to="s"), node("Div", "s", "std", to="d"),
        node("Mul", "two", "d", to="e"), node("Sub", "two", "e", to="f"),
    ]  # fmt: skip
    last, more = ending("f", 72)
    read = require_same(saved(tmp_path, [*nodes, *last], MAPS, held | more), MAPS)
    assert kinds(read) == [Scale, Flatten, Dense]


def block(first, second, swapped):
    """relu(conv(x)) + x, and around it once more, with a projection."""
    inner = ["a", "x"] if swapped else ["x", "a"]
    outer = ["p", "c"] if swapped else ["c", "p"]
    return [
        node("Conv", "x", "k", to="b", pads=[1] * 4), node("Relu", "b", to="a"),
        node("Add", *inner, to="s"), node("Conv", "s", "k", to="c", pads=[1] * 4),
        node("Conv", "x", "one", to="p"), node("Add", *outer, to="o"),
        node("Relu", "o", to="r"),
    ]  # fmt: skip


@pytest.mark.parametrize("swapped", [False, True])
def test_sums_of_branches_are_residual_and_nest(tmp_path, swapped):
    held = {"k": drawn(2, 2, 3, 3), "one": drawn(2, 2, 1, 1)}
    last, more = ending("r", 72)
    path = saved(tmp_path, [*block(1, 2, swapped), *last], MAPS, held | more)
    read = require_same(path, MAPS)
    (outer, *_) = read.network.architecture.layers
    parts = (outer.branch, outer.shortcut)
    long, short = max(parts, key=len), min(parts, key=len)
    assert [type(layer) for layer in long] == [Residual, Conv]
    assert [type(layer) for layer in short] == [Conv]
    assert long[0].shortcut == ()
    assert [type(layer) for layer in long[0].branch] == [Conv, ReLU]


def test_sums_that_do_not_nest_are_refused(tmp_path):
    nodes = [
        node("Conv", "x", "k", to="a", pads=[1] * 4), node("Add", "x", "a", to="b"),
        node("Add", "a", "b", to="c"),
    ]  # fmt: skip
    last, more = ending("c", 72)
    path = saved(tmp_path, [*nodes, *last], MAPS, {"k": drawn(2, 2, 3, 3)} | more)
    with pytest.raises(GraphError, match="its sums are not of two branches that part and meet"):
        read_network(path)


@pytest.mark.parametrize("back", [False, True])
def test_images_with_the_channel_last_stay_so(tmp_path, back):
    nodes = [
        node("Transpose", "x", to="t", perm=[0, 3, 1, 2]), node("Conv", "t", "k", to="c"),
        node("Transpose", "c", to="b", perm=[0, 2, 3, 1]),
        node("Reshape", "b" if back else "c", "shape", to="f"),
        node("Add", "f", "shift", to="g"), node("MatMul", "g", "last", to="y"),
    ]  # fmt: skip
    held = {
        "k": drawn(4, 2, 3, 3), "last": drawn(64, 3), "shift": drawn(64),
        "shape": np.array([-1, 64]),
    }  # fmt: skip
    read = require_same(saved(tmp_path, nodes, (6, 6, 2), held), (6, 6, 2))
    architecture = read.network.architecture
    assert (architecture.input_shape, architecture.channel_axis) == ((6, 6, 2), 2)
    assert kinds(read) == [Conv, Flatten, Scale, Dense]


def test_channel_first_images_flattened_with_the_channel_last(tmp_path):
    nodes = [
        node("Relu", "x", to="r"), node("Transpose", "r", to="t", perm=[0, 2, 3, 1]),
        *ending("t", 72)[0],
    ]  # fmt: skip
    require_same(saved(tmp_path, nodes, MAPS, {"last": drawn(72, 3)}), MAPS)


GREY = {
    "as it is": ((6, 6), []),
    "a channel is put in": ((6, 6), [("Unsqueeze", np.array([1]))]),
    "as another shape": ((6, 6, 1), [("Reshape", np.array([-1, 1, 6, 6]))]),
    "as another shape, with the batch": ((1, 6, 6), [("Reshape", np.array([0, 1, 6, -1]))]),
}


@pytest.mark.parametrize("how", GREY)
def test_grey_images(tmp_path, how):
    shape, steps = GREY[how]
    nodes, held, name = [], {}, "x"
    for kind, array in steps:
        nodes.append(node(kind, name, "axes", to="in"))
        held["axes"], name = array, "in"
    if steps:
        nodes.append(node("Conv", name, "k", to="c", pads=[1] * 4))
        held["k"], name = drawn(1, 1, 3, 3), "c"
    last, more = ending(name, 36)
    read = require_same(saved(tmp_path, [*nodes, *last], shape, held | more), shape)
    assert read.network.architecture.input_shape == shape


POOLED = {
    "reduced": [("ReduceMean", {"axes": [-1, -2], "keepdims": 0})],
    "reduced, and flattened": [("ReduceMean", {"axes": [2, 3]}), ("Flatten", {})],
    "squeezed": [("GlobalAveragePool", {}), ("Squeeze", np.array([2, 3]))],
    "squeezed twice": [
        ("GlobalAveragePool", {}), ("Squeeze", np.array([-1])), ("Squeeze", np.array([-1])),
    ],
    "reshaped": [("AveragePool", {"kernel_shape": [6, 6]}), ("Reshape", np.array([0, -1]))],
}  # fmt: skip


@pytest.mark.parametrize("how", POOLED)
def test_the_mean_of_each_channel(tmp_path, how):
    nodes, held, name = [], {"last": drawn(2, 3)}, "x"
    for index, (kind, said) in enumerate(POOLED[how]):
        inputs, attributes = ((), said) if isinstance(said, dict) else ((f"to {index}",), {})
        held |= {} if isinstance(said, dict) else {f"to {index}": said}
        nodes.append(node(kind, name, *inputs, to=f"p {index}", **attributes))
        name = f"p {index}"
    nodes.append(node("MatMul", name, "last", to="y"))
    read = require_same(saved(tmp_path, nodes, MAPS, held), MAPS)
    assert kinds(read) == [MeanPool, Flatten, Dense]


def test_a_shape_that_is_computed(tmp_path):
    nodes = [
        node("Shape", "x", to="s"), node("Gather", "s", "zero", to="g"),
        node("Unsqueeze", "g", "axis", to="u"), node("Constant", to="minus", value_ints=[-1]),
        helper.make_node("Cast", ["u"], ["v"], to=TensorProto.INT32),
        helper.make_node("Cast", ["minus"], ["m"], to=TensorProto.INT32),
        node("Concat", "v", "m", to="i", axis=0),
        helper.make_node("Cast", ["i"], ["to"], to=TensorProto.INT64),
        node("Reshape", "x", "to", to="flat"),
        node("Transpose", "w", to="turned", perm=[1, 0]), node("Identity", "turned", to="same"),
        node("Dropout", "flat", to="d"), node("Gemm", "d", "same", to="y"),
    ]  # fmt: skip
    held = {"zero": np.array(0), "axis": np.array([0]), "w": drawn(3, 72)}
    assert kinds(require_same(saved(tmp_path, nodes, MAPS, held), MAPS)) == [Flatten, Dense]


@pytest.mark.parametrize("end", ["Softmax", "LogSoftmax", "Sigmoid"])
def test_what_makes_probabilities_is_left_out(tmp_path, end):
    width = 1 if end == "Sigmoid" else 3
    nodes = [node("Gemm", "x", "w", "b", to="l"), node(end, "l", to="y")]
    path = saved(tmp_path, nodes, (4,), {"w": drawn(4, width), "b": drawn(width)})
    read = read_network(path)
    assert read.end == end
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    found = logits(read, x)
    assert found.shape == (5, max(2, width))
    np.testing.assert_allclose(found[:, -width:], theirs(path, x), rtol=1e-5)
    with pytest.raises(GraphError, match=f"operator {end} "):
        read_network(path, ends=False)


def test_only_what_the_output_needs_is_read(tmp_path):
    nodes = [node("Gemm", "x", "w", to="y"), node("Erf", "y", to="z")]
    path = saved(tmp_path, nodes, (4,), {"w": drawn(4, 3)})
    assert kinds(read_network(path)) == [Dense]


UNKNOWN = {
    "Clip": ("operator Clip (node the c): it is no layer of the harness", {}),
    "Elu": ("operator Elu (node the c): ", {}),
    "group": ("operator Conv (node the c): it has 2 groups", {"group": 2}),
    "dilated": ("operator Conv (node the c): its window is dilated", {"dilations": [2, 2]}),
    "ceil": (
        "operator MaxPool (node the c): its last window reaches beyond the image",
        {"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1},
    ),
    "padded": (
        "operator AveragePool (node the c): it pads the images",
        {"kernel_shape": [2, 2], "pads": [1] * 4},
    ),
    "large": (
        "operator MaxPool (node the c): its window of (7, 7) is larger than its image",
        {"kernel_shape": [7, 7]},
    ),
}


@pytest.mark.parametrize("kind", UNKNOWN)
def test_what_is_no_layer_is_named(tmp_path, kind):
    words, attributes = UNKNOWN[kind]
    operator = words.split()[1]
    weights = {"k": drawn(2, 2 // attributes.get("group", 1), 3, 3)} if operator == "Conv" else {}
    last, more = ending("c", 8)
    nodes = [node(operator, "x", *weights, to="c", **attributes), *last]
    with pytest.raises(GraphError) as error:
        read_network(saved(tmp_path, nodes, MAPS, weights | more))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_mean_image_is_no_layer(tmp_path):
    last, more = ending("s", 72)
    path = saved(tmp_path, [node("Sub", "x", "mean", to="s"), *last], MAPS,
                 {"mean": drawn(1, *MAPS)} | more)  # fmt: skip
    with pytest.raises(GraphError, match=r"operator Sub .*another one for each pixel"):
        read_network(path)
