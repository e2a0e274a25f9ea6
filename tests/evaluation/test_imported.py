"""ONNX files as models: built in a framework where they fit, and else black boxes that say why."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from onnx_graphs import drawn, model_of, node, onnx

import harness
from harness import registry
from harness.errors import BackendError, HarnessError
from harness.evaluation import imported
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.imported import default_backend, network_of
from harness.evaluation.named import layout_for
from harness.evaluation.own import copies_of, info_of, loaded_own
from harness.evaluation.resolve import open_spec
from harness.evaluation.starter import Starter, job_text
from harness.maths.objectives import CrossEntropy
from harness.maths.query import logits_of
from harness.protocol import GRADIENT

SHAPE = (2, 5, 5)
X = np.random.default_rng(1).random((40, *SHAPE), dtype=np.float32)
HELD = {"k": drawn(3, 2, 3, 3), "w": drawn(27, 3)}


def file_of(folder, middle="Relu", end="", name="net.onnx"):
    """A convolution, something, a linear layer, and perhaps something at the end."""
    nodes = [
        node("Conv", "x", "k", to="c"), node(middle, "c", to="r"), node("Flatten", "r", to="f"),
        node("Gemm", "f", "w", to="g" if end else "y"),
    ]  # fmt: skip
    nodes += [node(end, "g", to="y")] if end else []
    path = folder / name
    onnx.save(model_of(nodes, SHAPE, HELD), str(path))
    return path


@pytest.fixture
def path(tmp_path):
    return file_of(tmp_path)


def labels_of(path):
    model = harness.wrap(path, backend="numpy")
    return logits_of(model, X).argmax(axis=1)


def test_a_file_that_fits_has_gradients_in_each_backend(path):
    oracle = harness.wrap(path, backend="numpy")
    y = labels_of(path)
    _, expected = oracle.logits_and_gradient(X, y, CrossEntropy())
    for name in NAMES:
        if registry.missing(name):
            continue
        model = harness.wrap(path, backend=name)
        assert GRADIENT in model.capabilities
        images, labels = model.asarray(X), model.asarray(y)
        _, found = model.logits_and_gradient(images, labels, CrossEntropy())
        np.testing.assert_allclose(model.numpy(found), expected, rtol=1e-3, atol=1e-5)
        info = info_of(model, "theirs", str(path))
        assert (info.backend, info.queries) == (name, None)
        assert info.kind == f"ONNX file net.onnx, built in {name}"
        assert info.parameters == 3 * 2 * 9 + 3 + 27 * 3 + 3
        assert info.fingerprint == model.about().identity != ""


def test_an_evaluation_attacks_it_and_holds_it_against_numpy(path):
    model = harness.wrap(path, backend="numpy")
    few, y = X[:10], labels_of(path)
    run = harness.evaluate(
        model, few, y[:10], ["fgsm"], [0.0, 0.5], suites=("attacks", "saliency"), train=(X, y),
        progress=False,
    )  # fmt: skip
    found = {record.check: record for record in run.records}
    assert found["clean"].correct == 10
    assert found["fgsm"].correct < 10
    assert found["saliency-sanity/gradient/backends"].status == "passed"
    for rule in ("random-layers", "random-weights", "random-labels"):
        assert found[f"saliency-sanity/gradient/{rule}"].status in ("passed", "failed"), rule


def test_its_copies_are_exact_random_and_learn(path):
    model = harness.wrap(path, preprocessing={"mean": [0.5], "std": [0.25]}, backend="numpy")
    loaded = loaded_own(model)
    plain = logits_of(model, X)
    for same in (loaded.references.exact, loaded.references.oracle):
        assert logits_of(same, X.astype(np.float64)).dtype == np.float64
        np.testing.assert_allclose(logits_of(same, X), plain, rtol=1e-3, atol=1e-4)
    copies = copies_of(model)
    assert copies.stages() == 2
    last, both = (copies.randomised(stages, 0).weights() for stages in (1, 9))
    network = network_of(harness.wrap(path, backend="numpy"))
    np.testing.assert_array_equal(last["layers.0.weight"], network.weights["layers.0.weight"])
    for found, name in ((last, "layers.1.weight"), (both, "layers.0.weight")):
        assert (found[name] != network.weights[name]).any()


@pytest.mark.parametrize("numbers", [(0.5, 0.25), ([0.5, 0.1], [0.25, 2.0])])
def test_the_network_of_a_model_takes_its_pixels(path, numbers):
    mean, std = numbers
    model = harness.wrap(path, preprocessing={"mean": mean, "std": std}, backend="numpy")
    model = harness.wrap(model, preprocessing={"mean": 0.1, "std": 2.0})
    network = network_of(model)
    built = registry.builder("numpy").build(network)
    np.testing.assert_allclose(logits_of(built, X), logits_of(model, X), rtol=1e-4, atol=1e-5)
    assert len(network.weights) == 8


@pytest.mark.parametrize("axis", [0, 2])
def test_a_normalisation_along_another_axis_than_the_channels_is_no_layer(tmp_path, axis):
    """Certificates would be of another network: images of 2 × 5 × 2 have two axes of two."""
    path = tmp_path / "net.onnx"
    nodes = [
        node("Conv", "x", "k", to="c"), node("Flatten", "c", to="f"),
        node("Gemm", "f", "w", to="y"),
    ]  # fmt: skip
    held = {"k": drawn(3, 2, 3, 1), "w": drawn(18, 3)}
    onnx.save(model_of(nodes, (2, 5, 2), held), str(path))
    by = {"mean": [0.1, 0.8], "std": [0.2, 0.9]}
    model = harness.wrap(path, preprocessing=by, channel_axis=axis, backend="numpy")
    network = network_of(model)
    assert (network is None) == (axis == 2)
    if network is not None:
        built = registry.builder("numpy").build(network)
        x = X[:, :, :, :2]
        np.testing.assert_allclose(logits_of(built, x), logits_of(model, x), rtol=1e-4, atol=1e-5)


def test_what_makes_probabilities_of_logits_is_left_out_and_said(tmp_path):
    path = file_of(tmp_path, end="Softmax")
    expected = logits_of(harness.wrap(file_of(tmp_path, name="bare.onnx"), backend="numpy"), X)
    for outputs in ("auto", "probabilities"):
        model = harness.wrap(path, outputs=outputs, backend="numpy")
        np.testing.assert_array_equal(logits_of(model, X), expected)
        assert GRADIENT in model.capabilities
    run = harness.evaluate(model, X, expected.argmax(axis=1), epsilons=[0.1], progress=False)
    assert run.notes == [
        "net.onnx: the Softmax at its end is left out, and what comes before it taken for logits"
    ] + [note for note in run.notes if "not held against" in note]
    assert run.find(("model", "numpy", "fgsm", 0.1)).status == "measured"


def test_one_that_does_not_fit_is_a_black_box_that_names_the_operator(tmp_path):
    at_hand("onnx")
    path = file_of(tmp_path, "Elu")
    model = harness.wrap(path)
    assert GRADIENT not in model.capabilities
    y = logits_of(model, X).argmax(axis=1)
    run = harness.evaluate(
        model, X, y, ["fgsm", "square"], [0.3], suites=("attacks", "saliency"), progress=False
    )
    why = "net.onnx: operator Elu (node the r): it is no layer of the harness"
    assert run.notes == [f"a black box, without gradients: {why}"]
    fgsm = run.find(("model", "onnx", "fgsm", 0.3))
    assert (fgsm.status, why in fgsm.reason) == ("skipped", True)
    assert run.find(("model", "onnx", "square", 0.3)).status == "measured"
    skipped = [r for r in run.records if r.status == "skipped" and r.check.startswith("saliency")]
    assert skipped
    assert all("Elu" in record.reason for record in skipped if "gradients" in record.reason)
    with pytest.raises(
        HarnessError, match=r"net.onnx: operator Elu .*; leave the backend out"
    ) as e:
        harness.wrap(path, backend="numpy")
    assert "\n" not in str(e.value)


def test_one_whose_outputs_differ_is_a_black_box(path, monkeypatch):
    at_hand("onnx")
    read = imported.read_network

    def wrongly(*arguments, **how):
        found = read(*arguments, **how)
        found.network.weights["layers.1.bias"][0] += 0.05
        return found

    assert GRADIENT in harness.wrap(path).capabilities
    monkeypatch.setattr(imported, "read_network", wrongly)
    model = harness.wrap(path)
    assert GRADIENT not in model.capabilities
    assert "its outputs differ from those of ONNX Runtime by 0.05" in model.why_no_gradient


def test_without_onnx_runtime_what_fits_is_measured(tmp_path, monkeypatch):
    missing = registry.missing
    gone = "backend onnx: onnxruntime not installed"
    monkeypatch.setattr(registry, "missing", lambda name: gone if name == "onnx" else missing(name))
    model = harness.wrap(file_of(tmp_path), backend="numpy")
    assert imported.notes_of(model) == (f"net.onnx: not held against ONNX Runtime ({gone})",)
    with pytest.raises(BackendError, match=r"operator Elu .*; as a black box .*not installed"):
        harness.wrap(file_of(tmp_path, "Elu"))


def test_a_backend_may_be_named(path, tmp_path):
    at_hand("onnx")
    assert GRADIENT not in harness.wrap(path, backend="onnx").capabilities
    with pytest.raises(BackendError, match=r"backend: nmpy: no such backend; .*did you mean numpy"):
        harness.wrap(path, backend="nmpy")
    with pytest.raises(
        HarnessError, match=r"backend: numpy is said of what is no \.onnx or \.safetensors file"
    ):
        harness.wrap(tmp_path / "net.keras", backend="numpy")


def test_the_default_is_a_framework_in_the_order_that_they_tolerate(monkeypatch):
    there = {"torch", "keras"}
    monkeypatch.setattr(registry, "missing", lambda name: "" if name in there else "gone")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert default_backend() == "keras"
    monkeypatch.delitem(sys.modules, "tensorflow")
    assert default_backend() == "torch"
    there.clear()
    assert default_backend() == "numpy"


SPEC = """
name = "theirs"
{backends}
[data]
file = "test.npz"
[models.theirs]
file = "net.onnx"
{key}
[attacks.fgsm]
epsilons = [0.1]
[saliency]
methods = []
"""


def opened(folder, key="", backends=""):
    np.savez(folder / "test.npz", x=X, y=labels_of(folder / "net.onnx"))
    spec = folder / "spec.toml"
    spec.write_text(SPEC.format(key=key, backends=backends))
    return open_spec(str(spec))


def test_a_spec_measures_it_in_its_backend_or_in_those_of_the_command(path, tmp_path):
    at_hand("onnx")
    benchmark = Benchmark(opened(tmp_path, 'backend = "numpy"'))
    assert benchmark.pairs((), ()) == [("numpy", "theirs")]
    assert benchmark.pairs((), ("torch",)) == []
    evaluation = benchmark.evaluation("numpy", "theirs")
    assert evaluation.attacked("fgsm", 0.1).status == "measured"
    assert evaluation.loaded.network is not None
    spec = opened(tmp_path, backends='backends = ["numpy", "torch"]')
    benchmark = Benchmark(spec)
    assert benchmark.pairs((), ()) == [("numpy", "theirs")]
    assert benchmark.pairs((), ("onnx", "numpy")) == [("onnx", "theirs"), ("numpy", "theirs")]
    counts = {
        name: benchmark.evaluation(name, "theirs").clean().correct for name in ("numpy", "onnx")
    }
    assert counts == {"numpy": 40, "onnx": 40}
    black_box = Benchmark(opened(tmp_path, 'backend = "onnx"'))
    assert black_box.pairs((), ()) == [("onnx", "theirs")]


def test_a_spec_takes_what_does_not_fit_for_a_black_box(tmp_path):
    at_hand("onnx")
    file_of(tmp_path)
    spec = opened(tmp_path, backends='backends = ["numpy"]')
    file_of(tmp_path, "Elu")
    benchmark = Benchmark(spec)
    assert benchmark.pairs((), ()) == [("onnx", "theirs")]
    record = benchmark.evaluation("onnx", "theirs").attacked("fgsm", 0.1)
    assert record.status == "skipped"
    assert "operator Elu" in record.reason
    assert any("theirs: a black box" in note for note in benchmark.run.notes)


def test_keys_of_a_spec_that_cannot_be(path, tmp_path):
    with pytest.raises(HarnessError, match=r"models\.theirs\.backend: nmpy: no such backend"):
        opened(tmp_path, 'backend = "nmpy"')
    text = SPEC.format(key='backend = "numpy"', backends="").replace("net.onnx", "net.keras")
    (tmp_path / "spec.toml").write_text(text)
    with pytest.raises(HarnessError, match=r"backend: it is of \.onnx and \.safetensors files"):
        open_spec(str(tmp_path / "spec.toml"))


def test_images_of_a_folder_get_the_layout_of_the_file(path, tmp_path):
    assert layout_for(harness.wrap(path, backend="numpy"), str(tmp_path), None) == 0
    nodes = [
        node("Transpose", "x", to="t", perm=[0, 3, 1, 2]), node("Conv", "t", "k", to="c"),
        node("Flatten", "c", to="f"), node("Gemm", "f", "w", to="y"),
    ]  # fmt: skip
    onnx.save(model_of(nodes, (5, 5, 2), HELD), str(path))
    assert layout_for(harness.wrap(path, backend="numpy"), str(tmp_path), None) == 2


def test_a_starter_installs_what_reads_the_file_and_a_backend_for_it(path, tmp_path, monkeypatch):
    at_hand("torch")
    monkeypatch.chdir(tmp_path)
    np.savez("test.npz", x=X, y=labels_of(path))
    found = Starter.of("net.onnx", "test.npz", tmp_path, "github", (0.0, 1.0), None)
    assert found.gradient
    assert f'"robustness-harness[onnx,{found.backend}]"' in job_text(found)
