"""A spec of somebody's own models and data, beside a model that is trained on that data."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from harness.errors import DataError, HarnessError
from harness.evaluation.benchmark import Benchmark
from harness.evaluation.resolve import open_spec

SPEC = """
name = "mixed"
backends = ["numpy"]
[data]
file = "test.npz"
train = "train.npz"
[models.mlp]
hidden = [8]
training = { epochs = 6, batch_size = 16, learning_rate = 0.02 }
expect = { clean = [0.5, 1.0] }
[models.theirs]
load = "spec_models:load"
options = { factor = 3 }
batch_size = 7
[attacks.fgsm]
epsilons = [0.0, 8.0]
[attacks.square]
epsilons = [0.1]
steps = 20
[saliency]
methods = []
"""
MODULE = """
import harness

def load(factor):
    def function(images):
        load.sizes.append(len(images))
        dark = images.mean(axis=(1, 2))
        import numpy as np
        return factor * np.stack([0.5 - dark, dark - 0.5], axis=1)
    return harness.wrap_function(function)

load.sizes = []

def other_bounds():
    return harness.wrap_function(lambda x: x.reshape(len(x), -1)[:, :2] - 1.0, bounds=(0, 255))

def breaks(factor):
    raise OSError("no weights")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Dark and bright images, as bytes; a spec; and a module."""
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for name, count in (("train", 240), ("test", 40)):
        y = np.arange(count) % 2
        x = random.integers(0, 100, (count, 4, 4)) + 150 * y[:, None, None]
        np.savez(tmp_path / f"{name}.npz", x=x.astype(np.uint8), y=y)
    (tmp_path / "spec_models.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "own.toml").write_text(SPEC, encoding="utf-8")
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("spec_models", None)


def opened(folder, old="", new=""):
    path = folder / "own.toml"
    path.write_text(SPEC.replace(old, new) if old else SPEC, encoding="utf-8")
    return Benchmark(open_spec(str(path)))


def test_models_that_are_trained_and_models_that_are_brought_are_measured_alike(folder):
    benchmark = opened(folder)
    pairs = benchmark.pairs(["numpy"])
    assert pairs == [("numpy", "mlp"), ("callable", "theirs")]
    for backend, name in pairs:
        evaluation = benchmark.evaluation(backend, name)
        assert evaluation.clean().correct == 40
        assert evaluation.attacked("square", 0.1).status == "measured"
        fgsm = evaluation.attacked("fgsm", 8.0)
        assert fgsm.status == ("measured" if name == "mlp" else "skipped")
    run = benchmark.run
    assert run.classes == ("0", "1")
    assert (run.data.source, run.data.images, run.data.shape) == ("test.npz", 40, (4, 4))
    assert any("divided by 255" in note for note in run.notes)
    assert any("epsilon_unit = 255" in note for note in run.notes)
    assert [info.model for info in run.models] == ["mlp", "theirs"]
    infos = {info.model: info for info in run.models}
    assert infos["theirs"].source == "spec_models:load"
    assert infos["theirs"].queries == sum(sys.modules["spec_models"].load.sizes)
    assert infos["mlp"].parameters == 16 * 8 + 8 + 8 * 2 + 2
    assert max(sys.modules["spec_models"].load.sizes) == 7


def test_own_models_of_other_backends_are_left_out_where_backends_are_named(folder):
    assert opened(folder).pairs(["numpy"], named=["numpy"]) == [("numpy", "mlp")]


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (":load", ":laod", "models.theirs.load: spec_models:laod: * did you mean load?"),
        ("factor = 3", "faktor = 3", "models.theirs.load: * did you mean factor?"),
        (":load", ":breaks", "models.theirs.load: *spec_models.py:*OSError: no weights"),
        ('load = "spec_models:load"\noptions = { factor = 3 }', 'file = "net.onnx"',
         "models.theirs.file: *onnx*"),
        (":load\"\noptions = { factor = 3 }", ":other_bounds\"",
         "models.theirs: the model takes pixels in [0.0, 255.0], but the data are in [0.0, 1.0]*"),
        ('backends = ["numpy"]', 'backends = ["callable"]',
         "*backends: callable trains no networks*"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_had_is_one_line_with_its_key(folder, old, new, finding):
    with pytest.raises(HarnessError) as error:
        opened(folder, old, new).pairs(["numpy"])
    text, rest = str(error.value), 0
    for part in finding.split("*"):
        assert part in text[rest:], text
        rest = text.index(part, rest)
    assert "\n" not in text


def test_without_training_images_nothing_is_trained(folder):
    benchmark = opened(folder, 'train = "train.npz"\n', "")
    with pytest.raises(DataError, match=r"holds test images alone.*data\.train"):
        benchmark.loaded("numpy", "mlp")
    assert benchmark.evaluation("callable", "theirs").clean().correct == 40


def test_data_that_is_not_there_is_one_line(folder):
    with pytest.raises(HarnessError, match=r"nothing\.npz"):
        opened(folder, "test.npz", "nothing.npz").evaluation("callable", "theirs")
