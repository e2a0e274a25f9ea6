"""ONNX networks as black boxes: small graphs, made by hand, of every shape that users have."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from backends_at_hand import at_hand, required
from small_trainers import one_line

import harness
from harness.errors import BackendError, MeasurementError
from harness.maths.query import logits_of
from harness.protocol import Wrapping
from harness.registry import made_by

if "onnx" not in required():
    pytest.importorskip("onnx")
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
X = np.random.default_rng(1).random((10, 1, 4, 4), dtype=np.float32)
TRUE = X.reshape(10, -1) @ WEIGHTS
FLOAT = TensorProto.FLOAT


@pytest.fixture
def backend():
    return at_hand("onnx")


def saved(
    folder, batch="n", sides=(1, 4, 4), kind=FLOAT, outputs=("logits",), inputs=("x",), weights=None
):
    """A file of one linear layer; further outputs are its logits times two, three and so on."""
    weights = WEIGHTS if weights is None else weights
    nodes, first = [], inputs[0]
    if kind != FLOAT:
        nodes.append(helper.make_node("Cast", [first], ["cast"], to=FLOAT))
        first = "cast"
    nodes.append(helper.make_node("Flatten", [first], ["flat"]))
    nodes.append(helper.make_node("MatMul", ["flat", "w"], ["scores"]))
    held = [numpy_helper.from_array(weights, "w")]
    for number, name in enumerate(outputs, 1):
        held.append(numpy_helper.from_array(np.float32(number), f"times {number}"))
        nodes.append(helper.make_node("Mul", ["scores", f"times {number}"], [name]))
    shape = None if sides is None else [batch, *sides]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
        [helper.make_tensor_value_info(name, FLOAT, [batch, weights.shape[1]]) for name in outputs],
        held,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "net.onnx"
    onnx.save(model, str(path))
    return path


def test_a_file_gives_the_logits_of_its_network(backend, tmp_path):
    path = saved(tmp_path)
    model = backend.load(path, Wrapping())
    np.testing.assert_allclose(logits_of(model, X), TRUE, rtol=1e-5)
    assert model.capabilities == frozenset()
    assert model.queries == 10
    name, versions = made_by(model)
    assert name == "onnx"
    assert "onnxruntime" in versions
    about = model.about()
    assert about.kind == "ONNX file net.onnx"
    assert (about.parameters, about.device) == (None, "cpu")
    assert about.identity == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_session_is_wrapped_and_attacked(backend, tmp_path):
    import onnxruntime

    path = saved(tmp_path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    y = TRUE.argmax(axis=1)
    run = harness.evaluate(harness.wrap(session), X, y, ["noise", "square"], [0.0, 0.3])
    assert run.find(("model", "onnx", "clean", None)).correct == 10
    assert run.find(("model", "onnx", "square", 0.3)).correct < 10
    of_bytes = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    assert harness.wrap(of_bytes).about().identity == ""
    with pytest.raises(BackendError, match="there is cpu"):
        backend.wrap(session, Wrapping(device="cuda"))


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_a_fixed_batch_size_is_kept_by_cutting_and_padding(backend, tmp_path, batch):
    model = backend.load(saved(tmp_path, batch=batch), Wrapping())
    np.testing.assert_allclose(logits_of(model, X), TRUE, rtol=1e-5)
    np.testing.assert_allclose(logits_of(model, X[:3]), TRUE[:3], rtol=1e-5)
    assert model.queries == 13
    assert model.logits(X[:0]).shape == (0, 3)


KINDS = {
    "float16": (TensorProto.FLOAT16, np.float32, 1e-2),
    "double": (TensorProto.DOUBLE, np.float64, 1e-5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_given_in_the_dtype_that_it_takes(backend, tmp_path, kind):
    code, dtype, slack = KINDS[kind]
    model = backend.load(saved(tmp_path, kind=code), Wrapping())
    assert model.asarray(X).dtype == dtype
    np.testing.assert_allclose(logits_of(model, X), TRUE, rtol=slack, atol=slack)


def test_bytes_are_rounded_and_need_their_bounds(backend, tmp_path):
    path = saved(tmp_path, kind=TensorProto.UINT8)
    model = backend.load(path, Wrapping((0.0, 255.0)))
    whole = np.rint(X * 255)
    for off in (0.25, -0.25):
        given = np.clip(whole + np.float32(off), 0, 255)
        np.testing.assert_allclose(logits_of(model, given), whole.reshape(10, -1) @ WEIGHTS,
                                   rtol=1e-4)  # fmt: skip
    with pytest.raises(BackendError, match=r"takes bytes, but bounds are \[0.0, 1.0\]; say"):
        backend.load(path, Wrapping())


def test_the_output_is_the_named_one_or_logits_or_the_first(backend, tmp_path):
    path = saved(tmp_path, outputs=("hidden", "logits", "more"))

    def times(output=None):
        found = logits_of(backend.load(path, Wrapping(output=output)), X)
        return round(float((found / TRUE).mean()))

    assert [times(), times("hidden"), times("more")] == [2, 1, 3]
    with pytest.raises(BackendError, match=r"no output 'prob'; its outputs are hidden tensor"):
        times("prob")
    path = saved(tmp_path, outputs=("a", "b"))
    assert times() == 1


def test_one_logit_an_image_is_of_two_classes(backend, tmp_path):
    model = backend.load(saved(tmp_path, weights=WEIGHTS[:, :1]), Wrapping())
    found = logits_of(model, X)
    assert found.shape == (10, 2)
    np.testing.assert_allclose(found[:, 1], TRUE[:, 0], rtol=1e-5)


def test_images_of_another_shape_are_one_line_with_both_shapes(backend, tmp_path):
    model = backend.load(saved(tmp_path, sides=(1, 4, "width")), Wrapping())
    for images, shape in ((X[:, :, :3], r"\(1, 3, 4\)"), (X[:, 0], r"\(4, 4\)")):
        with pytest.raises(MeasurementError, match=rf"\(1, 4, any\), but they have {shape}") as e:
            logits_of(model, images)
        one_line(e)
    with pytest.raises(MeasurementError, match="ONNX Runtime fails: ") as error:
        logits_of(model, np.concatenate([X, X], axis=3))
    one_line(error)


def test_what_is_no_network_of_images_is_one_line_with_the_path(backend, tmp_path):
    with pytest.raises(BackendError, match=r"away.onnx: no such file"):
        backend.load(tmp_path / "away.onnx", Wrapping())
    whole = saved(tmp_path).read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("text", b"hello")):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(BackendError, match=f"{name}.onnx: not a network that ONNX") as error:
            backend.load(path, Wrapping())
        one_line(error)
    with pytest.raises(BackendError, match=r"net.onnx: the network has 2 inputs \(x, mask\)"):
        backend.load(saved(tmp_path, inputs=("x", "mask")), Wrapping())
    with pytest.raises(BackendError, match=r"input x is tensor\(int64\), not images"):
        backend.load(saved(tmp_path, kind=TensorProto.INT64), Wrapping())


def test_a_device_that_is_not_here_is_one_line(backend, tmp_path):
    path = saved(tmp_path)
    backend.load(path, Wrapping(device="cpu"))
    for device in ("mps", "gpu", "cpu:1", "cuda:x"):
        with pytest.raises(
            BackendError, match=f"device: {device} is not here; there is .*cpu"
        ) as e:
            backend.load(path, Wrapping(device=device))
        one_line(e)


def test_it_uses_as_many_threads_as_the_environment_says(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    model = backend.load(saved(tmp_path), Wrapping())
    assert model.session.get_session_options().intra_op_num_threads == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    model = backend.load(saved(tmp_path), Wrapping())
    assert model.session.get_session_options().intra_op_num_threads == 0


def test_weights_in_a_file_beside_it_are_a_part_of_its_identity(backend, tmp_path):
    def identity(factor):
        path = saved(tmp_path, weights=WEIGHTS * np.float32(factor))
        model = onnx.load(str(path))
        onnx.save(model, str(path), save_as_external_data=True, location="net.weights",
                  size_threshold=0, all_tensors_to_one_file=True)  # fmt: skip
        found = backend.load(path, Wrapping())
        np.testing.assert_allclose(logits_of(found, X), TRUE * factor, rtol=1e-5)
        (tmp_path / "net.weights").touch()
        known = found.about().identity
        (tmp_path / "net.weights").unlink()
        return known

    assert identity(1) == identity(1)
    assert identity(1) != identity(2)
