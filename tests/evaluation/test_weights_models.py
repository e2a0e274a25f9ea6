"""Models of somebody's weights: found, built in each backend, and measured as those built here."""

from __future__ import annotations

import json

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from safetensors.numpy import save_file

import harness
from harness import cli
from harness.errors import HarnessError, SpecError
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.resolve import open_spec
from harness.maths.query import logits_of
from harness.networks.description import described
from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights

SPEC = """
name = "theirs"
backends = ["numpy"]
[data]
name = "digits"
[models.net]
file = "net.safetensors"
architecture = "cnn"
channels = [3]
kernel = 4
stride = 2
padding = 1
dense = [6]
[attacks.fgsm]
epsilons = [0.0, 0.1]
[saliency]
methods = []
"""
DESCRIPTION = """architecture = "cnn"
channels = [3]
kernel = 4
stride = 2
padding = 1
dense = [6]
"""
OPTIONS = {"channels": [3], "kernel": 4, "stride": 2, "padding": 1, "dense": [6]}
ARCHITECTURE = architecture_of("cnn", OPTIONS, ImageKind.of((8, 8), 10))
WEIGHTS = initial_weights(ARCHITECTURE, 4)
PATHS = ("conv", "fc1", "fc2")


def save_foreign(path):
    save_file(
        {f"{to}.{part}": WEIGHTS[f"layers.{at}.{part}"]
         for at, to in enumerate(PATHS) for part in ("weight", "bias")}, path,
    )  # fmt: skip


def save_described(path):
    save_file(WEIGHTS, path, {"architecture": json.dumps(described(ARCHITECTURE))})


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A spec beside weights of foreign names."""
    monkeypatch.delenv("HARNESS_MODELS_DIR", raising=False)
    save_foreign(tmp_path / "net.safetensors")
    return tmp_path


def opened(folder, old="", new=""):
    path = folder / "theirs.toml"
    path.write_text(SPEC.replace(old, new) if old else SPEC, encoding="utf-8")
    return Benchmark(open_spec(str(path)))


def evaluation(folder, old="", new="", backend="numpy"):
    """The evaluation of the model, which is loaded."""
    made = opened(folder, old, new).evaluation(backend, "net")
    _ = made.loaded
    return made


@pytest.fixture
def command(folder, monkeypatch, capfd):
    """Runs the command in the folder; returns its exit code, and all that it says."""
    monkeypatch.chdir(folder)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["harness", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        out = capfd.readouterr()
        return end.value.code or 0, out.out + out.err

    return run


def test_the_network_is_known_layer_by_layer_and_has_the_files_weights(folder):
    loaded = evaluation(folder).loaded
    assert loaded.network.architecture == ARCHITECTURE
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(loaded.network.weights[name], value)


@pytest.mark.parametrize("backend", NAMES)
def test_it_is_built_in_each_backend_and_agrees_with_the_oracle(folder, backend):
    at_hand(backend)
    built = evaluation(folder, '["numpy"]', json.dumps([backend]), backend)
    x = np.asarray(built.x[:50])
    exact = logits_of(built.loaded.references.oracle, x)
    np.testing.assert_allclose(logits_of(built.loaded.model, x), exact, rtol=1e-4, atol=1e-4)
    assert built.attacked("fgsm", 0.1).status == "measured"
    for check in ("parity", "gradient"):
        assert built.checked("conformance", check).status == "passed"
    (info,) = built.recorder.run.models
    assert (info.backend, info.source) == (backend, "net.safetensors")
    assert info.parameters == sum(value.size for value in WEIGHTS.values())


def test_it_is_measured_in_all_backends_of_the_spec_or_in_those_that_are_named(folder):
    benchmark = opened(folder, '["numpy"]', '["torch", "numpy"]')
    assert benchmark.pairs(["torch", "numpy"]) == [("torch", "net"), ("numpy", "net")]
    assert benchmark.pairs(["numpy"], ["numpy"]) == [("numpy", "net")]
    fixed = opened(folder, "dense = [6]", 'dense = [6]\nbackend = "numpy"')
    assert fixed.pairs(["torch", "numpy"]) == [("numpy", "net")]
    assert fixed.pairs(["torch"], ["torch"]) == []


def test_a_normalisation_is_a_layer_of_the_network_and_epsilon_stays_in_pixels(folder):
    loaded = evaluation(folder, "[attacks", "preprocessing = { mean = 0.5, std = 0.25 }\n[attacks")
    x = np.asarray(loaded.x[:20])
    plain = evaluation(folder).loaded.model
    wanted = logits_of(plain, ((x - 0.5) / 0.25).astype(np.float32))
    np.testing.assert_allclose(logits_of(loaded.loaded.model, x), wanted, rtol=1e-4, atol=1e-5)
    assert type(loaded.loaded.network.architecture.layers[0]).__name__ == "Scale"


def test_the_run_tells_of_all_options_and_of_the_file(folder):
    run = opened(folder).run
    said = run.spec["models"]["net"]
    assert (said["file"], said["pool"], said["batch_norm"]) == ("net.safetensors", 1, False)


def test_another_file_is_another_model(folder):
    before = evaluation(folder).recorder.run.models[0].fingerprint
    assert evaluation(folder).recorder.run.models[0].fingerprint == before
    changed = dict(WEIGHTS) | {"layers.1.bias": WEIGHTS["layers.1.bias"] + 1}
    save_file(changed, folder / "net.safetensors")
    assert evaluation(folder).recorder.run.models[0].fingerprint != before


def test_it_is_looked_for_beside_the_spec_and_then_where_the_variable_says(
    folder, tmp_path_factory, monkeypatch
):
    elsewhere = tmp_path_factory.mktemp("models")
    monkeypatch.setenv("HARNESS_MODELS_DIR", str(elsewhere))
    (folder / "net.safetensors").rename(elsewhere / "net.safetensors")
    assert evaluation(folder).clean().status == "measured"
    (elsewhere / "net.safetensors").unlink()
    with pytest.raises(SpecError) as error:
        evaluation(folder)
    assert str(error.value) == (
        f"models.net.file: there is no {folder / 'net.safetensors'} nor "
        f"{elsewhere / 'net.safetensors'}"
    )
    monkeypatch.delenv("HARNESS_MODELS_DIR")
    with pytest.raises(SpecError, match=r"; HARNESS_MODELS_DIR is not set$"):
        evaluation(folder)


def test_what_is_wrong_with_a_file_is_one_line_and_exit_code_2(folder, command):
    path = folder / "net.safetensors"
    whole = path.read_bytes()
    for content, old, new, finding in (
        (whole[:-9], "", "", "not a whole .safetensors file"),
        (whole, "dense = [6]", "dense = [7]", "layers.1.weight (Dense) is 7 × 48, and no weight"),
        (whole, "dense = [6]", f'dense = [6]\nsha256 = "{"0" * 64}"', "its SHA-256 is "),
        (whole, DESCRIPTION, "", "it holds weights, and does not say of which network"),
    ):
        path.write_bytes(content)
        opened(folder, old, new)
        code, said = command("run", "theirs.toml", "--out", "out")
        (line,) = [line for line in said.splitlines() if finding in line]
        assert code == 2
        assert "models.net.file: " in line
        assert path.name in line
        assert "Traceback" not in said


def test_what_is_exported_is_read_back_without_a_description(folder, command):
    opened(folder)
    code, said = command("export", "theirs.toml", "--out", "again.safetensors")
    assert (code, said.splitlines()[0][:28]) == (0, "safetensors: net of numpy: /")
    (folder / "net.safetensors").unlink()
    (folder / "again.safetensors").rename(folder / "net.safetensors")
    bare = evaluation(folder, DESCRIPTION, "")
    assert bare.loaded.network.architecture == ARCHITECTURE
    named = evaluation(folder)
    assert named.clean().correct == bare.clean().correct


def test_a_file_that_says_its_layers_is_wrapped_and_evaluated(folder, command):
    path = folder / "net.safetensors"
    with pytest.raises(HarnessError, match="describe it in a spec"):
        harness.wrap(path, backend="numpy")
    save_described(path)
    model = harness.wrap(path, backend="numpy")
    x = np.random.default_rng(0).random((12, 8, 8)).astype(np.float32)
    y = logits_of(model, x).argmax(axis=1)
    run = harness.evaluate(model, x, y, "fgsm", [0.1], progress=False)
    assert run.find(("model", "numpy", "clean", None)).correct == 12
    np.savez(folder / "data.npz", x=x, y=y)
    code, said = command(
        "evaluate", path, "--data", "data.npz", "--attack", "fgsm", "--backend", "numpy"
    )
    assert code == 0, said
    with pytest.raises(HarnessError, match="backend: trch: no such backend"):
        harness.wrap(path, backend="trch")


def test_a_network_for_other_images_is_refused(folder):
    wide = architecture_of("cnn", OPTIONS, ImageKind.of((9, 9), 10))
    save_file(
        initial_weights(wide, 0), folder / "net.safetensors",
        {"architecture": json.dumps(described(wide))},
    )  # fmt: skip
    with pytest.raises(SpecError, match=r"takes images of 9 × 9, .*these are of 8 × 8, of 10"):
        evaluation(folder, DESCRIPTION, "")
