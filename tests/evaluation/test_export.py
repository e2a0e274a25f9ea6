"""A network of a spec, exported and loaded again; and what a wrong request is told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from backends_at_hand import at_hand
from safetensors import safe_open
from tiny_spec import tiny_spec

import harness
from harness import cli, registry
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.exporting import export, networks_in
from harness.evaluation.resolve import open_spec
from harness.maths.query import logits_of

CNN = """
name = "small"
backends = ["numpy"]
[data]
name = "digits"
[models.cnn]
architecture = "cnn"
channels = [4, 6]
pool = [2, 1]
padding = [2, 1]
kernel = [4, 3]
dense = [8]
training = { epochs = 1, batch_size = 64, learning_rate = 0.01 }
expect = { clean = [0.1, 1.0] }
[attacks.fgsm]
epsilons = [0.1]
[saliency]
methods = []
"""


def network_of(spec, names=(), backend=None):
    """Name, backend and network of the one model that is asked for."""
    (found,) = networks_in(Benchmark(open_spec(str(spec))), names, backend, "onnx")
    return found


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a spec, whose network is trained once."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "small.toml").write_text(CNN)
    (folder / "two.toml").write_text(tiny_spec(models=("one", "two")))
    return folder


@pytest.fixture
def command(home, monkeypatch, capfd, tmp_path):
    """Runs the command in this process; returns its exit code, and all that it says."""
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(home / "cache"))
    monkeypatch.chdir(tmp_path)

    def run(spec, *arguments):
        said = ["harness", "export", str(home / f"{spec}.toml"), *map(str, arguments)]
        monkeypatch.setattr("sys.argv", said)
        with pytest.raises(SystemExit) as end:
            cli.main()
        out = capfd.readouterr()
        return end.value.code or 0, out.out + out.err

    return run


@pytest.fixture
def network(home, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(home / "cache"))
    return network_of(home / "small.toml")[2]


def test_safetensors_has_neutral_names_and_the_layers(command, network, tmp_path):
    code, said = command("small", "--out", "net.safetensors")
    assert (code, said) == (0, f"safetensors: cnn of numpy: {tmp_path / 'net.safetensors'}\n")
    with safe_open("net.safetensors", framework="numpy") as held:
        described = json.loads(held.metadata()["architecture"])
        weights = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
    assert weights.keys() == network.weights.keys()
    for name, value in network.weights.items():
        np.testing.assert_array_equal(weights[name], value)
    assert (described["input_shape"], described["classes"]) == ([8, 8], 10)
    assert [layer["kind"] for layer in described["layers"]] == [
        "Conv", "ReLU", "MaxPool", "Conv", "ReLU", "Flatten", "Dense", "ReLU", "Dense",
    ]  # fmt: skip
    assert described["layers"][0] == {
        "kind": "Conv", "channels": 4, "kernel": [4, 4], "stride": [1, 1],
        "padding": [[2, 2], [2, 2]],
    }  # fmt: skip


LOADED = {"onnx": "onnx", "pt2": "torch", "keras": "keras"}


@pytest.mark.parametrize("form", LOADED)
def test_a_file_for_a_framework_gives_the_logits_of_the_network(form, network, home, tmp_path):
    at_hand(LOADED[form])
    x = np.asarray(Benchmark(open_spec(str(home / "small.toml"))).dataset.test.x[:30])
    path = tmp_path / f"net.{form}"
    export(network, path, form)
    expected = registry.builder("numpy").build(network, dtype="float64").logits(x)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    how = {"backend": "onnx"} if form == "onnx" else {}
    model = harness.wrap(path, **how)
    for count in (30, 1):
        found = logits_of(model, x[:count])
        np.testing.assert_allclose(found, expected[:count], rtol=1e-4, atol=1e-5)


def test_an_onnx_file_is_exported_on(command, network, home, tmp_path):
    at_hand("onnx")
    assert command("small", "--out", "net.onnx")[0] == 0
    head, own = CNN.partition("[models.cnn]")[0], '[models.theirs]\nfile = "net.onnx"\n'
    text = head + own + CNN[CNN.index("[attacks") :]
    (tmp_path / "again.toml").write_text(text)
    name, backend, again = network_of(tmp_path / "again.toml", ["theirs"], "numpy")
    assert (name, backend) == ("theirs", "numpy")
    assert again.architecture == network.architecture
    np.testing.assert_array_equal(
        again.weights["layers.0.weight"], network.weights["layers.0.weight"]
    )


@pytest.mark.parametrize(
    ("spec", "arguments", "words"),
    [
        ("small", ["--out", "net.h5"], "--out: net.h5 does not end in the name of a format"),
        ("small", ["--out", "net.pt", "--format", "pt2"], "--out: net.pt must end in .pt2"),
        ("small", ["--out", "a.safetensors", "--model", "cnm"], "did you mean cnn?"),
        ("small", ["--out", "a.safetensors", "--backend", "nmpy"], "did you mean numpy?"),
        ("two", ["--out", "a.safetensors"], "--model: say which of one, two"),
        ("small", ["--out", "there.safetensors"], "is there already; say --force"),
        ("small", ["--out", "folder.onnx"], "folder.onnx is a folder; name a file"),
        (
            "small",
            ["--out", "net"],
            "say --format, one of onnx, safetensors, keras, pt2, tfjs, play",
        ),
        ("small", ["--out", "there.safetensors", "--format", "tfjs"], "is a file; name a folder"),
        (
            "small",
            ["--out", "full", "--format", "tfjs", "--force"],
            "full holds mine.txt, which is",
        ),
        (
            "small",
            ["--out", "alike", "--format", "tfjs", "--force"],
            "alike holds group1-shard1of1.bin, which is",
        ),
        ("small", ["--out", "page.htm", "--format", "playground"], "page.htm must end in .html"),
        ("two", ["--out", "page.html"], "say which of one, two (up to 2, --model for each)"),
        (
            "two",
            ["--out", "a.safetensors", "--model", "one", "--model", "two"],
            "safetensors has room for 1, not",
        ),
        ("two", ["--out", "a.html", "--model", "one", "--model", "one"], "one is named twice"),
    ],
)
def test_wrong_requests_are_one_line(command, tmp_path, spec, arguments, words):
    (tmp_path / "there.safetensors").write_text("mine")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "alike" / "group1-shard1of1.bin").mkdir(parents=True)
    code, said = command(spec, *arguments)
    assert code == 2
    assert words in said
    assert len(said.splitlines()) == 1
    assert (tmp_path / "there.safetensors").read_text() == "mine"
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


def test_a_file_is_replaced_on_demand(command, tmp_path):
    (tmp_path / "net.safetensors").write_text("mine")
    assert command("small", "--out", "net.safetensors", "--force")[0] == 0
    assert (tmp_path / "net.safetensors").stat().st_size > 1000


def test_what_cannot_be_written_here_is_said_before_a_training(command, monkeypatch):
    monkeypatch.setattr(registry, "missing", lambda name: f"backend {name}: not installed")
    monkeypatch.setattr("harness.evaluation.exporting.networks_in", None)
    code, said = command("small", "--out", "net.keras")
    assert (code, said) == (2, "harness: --format: keras needs the backend keras: not installed\n")


def test_a_folder_is_written_whole_and_replaced_on_demand(command, network, tmp_path):
    asked = ("small", "--out", "model", "--format", "tfjs")
    (tmp_path / "model").mkdir()  # an empty one is as good as none
    assert command(*asked) == (0, f"tfjs: cnn of numpy: {tmp_path / 'model'}\n")
    names = {"model.json", "group1-shard1of1.bin"}
    assert {path.name for path in (tmp_path / "model").iterdir()} == names
    weights = (tmp_path / "model" / "group1-shard1of1.bin").read_bytes()
    assert len(weights) == 4 * sum(value.size for value in network.weights.values())
    (tmp_path / "model" / "model.json").write_text("mine")
    code, said = command(*asked)
    assert (code, "is there already; say --force" in said) == (2, True)
    (tmp_path / "model" / "group1-shard2of2.bin").write_text("of a larger one")
    assert command(*asked, "--force")[0] == 0
    assert {path.name for path in (tmp_path / "model").iterdir()} == names
    assert json.loads((tmp_path / "model" / "model.json").read_text())["format"] == "layers-model"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_filled_leaves_the_old_one(network, tmp_path, monkeypatch):
    export(network, tmp_path / "model", "tfjs")
    before = (tmp_path / "model" / "model.json").read_bytes()
    monkeypatch.setattr(
        "harness.evaluation.exporting.tfjs_files", lambda network: {"model.json": b"{}", "a/b": b""}
    )
    with pytest.raises(FileNotFoundError):
        export(network, tmp_path / "model", "tfjs")
    assert (tmp_path / "model" / "model.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_cannot_be_renamed_leaves_the_old_one(network, tmp_path, monkeypatch):
    export(network, tmp_path / "model", "tfjs")
    rename = Path.rename

    def failing(path, target):
        if path.name == "made":
            raise OSError("no room")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no room"):
        export(network, tmp_path / "model", "tfjs")
    assert (tmp_path / "model" / "model.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_link_to_a_folder_stays_one(network, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export(network, tmp_path / "link", "tfjs")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "model.json").is_file()
