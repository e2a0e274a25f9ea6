"""Files that are damaged, lie, or mean harm: one line each, and nothing is read beyond bounds."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_graphs import drawn, model_of, node, onnx, saved

from harness.networks.onnx import graph as graphs
from harness.networks.onnx import reading
from harness.networks.onnx.graph import GraphError
from harness.networks.onnx.reading import read_network

GEMM = [node("Gemm", "x", "w", to="y")]
WEIGHTS = drawn(4, 3)


def refused(path, words):
    with pytest.raises(GraphError, match=words) as error:
        read_network(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def changed(folder, change, nodes=GEMM, held=None):
    """A file whose model has been changed by hand."""
    model = model_of(nodes, (4,), {"w": WEIGHTS} if held is None else held)
    change(model)
    path = folder / "net.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_what_is_no_protobuf(tmp_path):
    whole = saved(tmp_path, GEMM, (4,), {"w": WEIGHTS}).read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], bytes(range(256)) * 9):
        (tmp_path / "net.onnx").write_bytes(content)
        refused(tmp_path / "net.onnx", "not readable as ONNX|it holds no graph|weights|output|node")
    refused(tmp_path / "away.onnx", "not readable as ONNX")


@pytest.mark.parametrize("seed", range(40))
def test_bytes_that_are_changed_at_random_are_read_or_refused(tmp_path, seed):
    whole = bytearray(saved(tmp_path, GEMM, (4,), {"w": WEIGHTS}).read_bytes())
    random = np.random.default_rng(seed)
    for place in random.integers(len(whole), size=3):
        whole[place] = random.integers(256)
    path = tmp_path / "net.onnx"
    path.write_bytes(bytes(whole))
    try:
        read_network(path)
    except GraphError as error:
        assert "\n" not in str(error)  # noqa: PT017  # it may be read as well


def dims(*sides):
    def change(model):
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(sides)

    return change


@pytest.mark.parametrize(
    ("sides", "words"),
    [
        ((4, 4), "weights w: holds 12 numbers, and says 16"),
        ((2**31, 2**31), "weights w: holds 12 numbers, and says"),
        ((-4, -3), "weights w: a side is negative"),
        ((3, 4), r"operator Gemm .*: weights \(4, 3\) do not fit what it is given, \(4,\)"),
    ],
)
def test_shapes_that_lie(tmp_path, sides, words):
    refused(changed(tmp_path, dims(*sides)), words)


def test_weights_of_other_kinds(tmp_path):
    refused(saved(tmp_path, GEMM, (4,), {"w": WEIGHTS.astype(np.float16)}), "weights w: of type 10")
    refused(saved(tmp_path, GEMM, (4,), {"w": WEIGHTS * np.inf}), "layer 0 are not finite")
    refused(saved(tmp_path, GEMM, (4,), {"w": np.full((4, 3), 1e300)}), "layer 0 are not finite")


def test_cycles_and_gaps(tmp_path):
    loop = [
        node("Add", "x", "b", to="a"),
        node("Relu", "a", to="b"),
        node("Gemm", "b", "w", to="y"),
    ]
    refused(
        saved(tmp_path, loop, (4,), {"w": WEIGHTS}), "operator Add .*: its input b is made by no"
    )
    gap = [node("Gemm", "z", "w", to="y")]
    refused(saved(tmp_path, gap, (4,), {"w": WEIGHTS}), "its input z is made by no node before it")
    twice = [node("Relu", "x", to="a"), node("Neg", "w", to="a"), node("Gemm", "a", "w", to="y")]
    refused(saved(tmp_path, twice, (4,), {"w": WEIGHTS}), "has the name of another")
    nothing = [node("Identity", "w", to="y")]
    refused(
        saved(tmp_path, nothing, (4,), {"w": WEIGHTS}), "output y does not depend on the images"
    )


def test_inputs_that_are_no_images(tmp_path):
    double = onnx.TensorProto.DOUBLE
    refused(saved(tmp_path, GEMM, (4,), {"w": WEIGHTS}, kind=double), "its input x is not float32")
    refused(saved(tmp_path, GEMM, ("any",), {"w": WEIGHTS}), "its input x has sides of any length")
    refused(saved(tmp_path, GEMM, (), {"w": WEIGHTS}), "its input x has no batch of images")
    refused(saved(tmp_path, GEMM, (4,), {"w": WEIGHTS}, opset=6), "its operators are of version 6")
    refused(saved(tmp_path, GEMM, (4,), {}), "it has .*inputs|its input w is made by no")
    with pytest.raises(GraphError, match="it has no output scores"):
        read_network(saved(tmp_path, GEMM, (4,), {"w": WEIGHTS}), "scores")


def test_attributes_of_other_kinds(tmp_path):
    odd = [node("Gemm", "x", "w", to="y", alpha="much")]
    refused(saved(tmp_path, odd, (4,), {"w": WEIGHTS}), "operator Gemm .*attributes or constants")
    bare = [node("BatchNormalization", "x", to="y")]
    refused(saved(tmp_path, bare, (4,), {}), "operator BatchNormalization .*attributes")


def test_limits_of_size(tmp_path, monkeypatch):
    path = saved(tmp_path, GEMM, (4,), {"w": WEIGHTS})
    monkeypatch.setattr(graphs, "LARGEST", 100)
    refused(path, "it is longer than")
    monkeypatch.undo()
    many = [node("Relu", f"x{i or ''}", to=f"x{i + 1}") for i in range(graphs.MOST)]
    many += [node("Gemm", f"x{graphs.MOST}", "w", to="y")]
    refused(saved(tmp_path, many, (4,), {"w": WEIGHTS}), "nodes, more than 5000")
    wide = [
        node("Add", "row", "column", to="s"), node("Gather", "s", "at", to="g", axis=0),
        node("Gemm", "x", "g", to="y"),
    ]  # fmt: skip
    held = {"row": drawn(1, 300), "column": drawn(300, 1), "at": np.arange(4)}
    monkeypatch.setattr(reading, "LARGEST", 10_000)
    refused(saved(tmp_path, wide, (4,), held), "operator Add .*the result is too large")
    monkeypatch.setattr(reading, "LARGEST", 95_000)
    refused(saved(tmp_path, wide, (4,), held), "operator Gather .*the result is too large")


def outside(folder, location, **said):
    """A file whose weights are elsewhere."""

    def change(model):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": location, **said}.items():
            tensor.external_data.add(key=key, value=str(value))

    return changed(folder, change)


def test_weights_in_a_file_beside(tmp_path):
    (tmp_path / "net.data").write_bytes(b"skip" + WEIGHTS.tobytes())
    path = outside(tmp_path, "net.data", offset=4, length=48)
    before = read_network(path)
    np.testing.assert_array_equal(before.network.weights["layers.0.weight"], WEIGHTS.T)
    (tmp_path / "net.data").write_bytes(b"skip" + (2 * WEIGHTS).tobytes())
    assert read_network(path).identity != before.identity
    refused(outside(tmp_path, "net.data", offset=8, length=48), "beyond the end of net.data")
    refused(outside(tmp_path, "net.data", offset=-4, length=48), "beyond the end")
    refused(outside(tmp_path, "net.data", offset="far"), "not readable as ONNX")
    refused(outside(tmp_path, "away.data"), "in a file away.data that is not beside the graph")


def test_no_file_outside_of_the_folder_is_read(tmp_path):
    inner = tmp_path / "inner"
    inner.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(WEIGHTS.tobytes())
    (inner / "link").symlink_to(secret)
    for location in ("../secret", str(secret), "link", "", "."):
        refused(outside(inner, location), "that is not beside the graph")
