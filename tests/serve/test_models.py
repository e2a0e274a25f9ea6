"""What is served: a stored run, a spec, or a model's file."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_models import NET, small_images
from tiny_spec import tiny_spec

from harness import registry
from harness.errors import HarnessError
from harness.evaluation.exporting import export
from harness.evaluation.resolve import open_spec
from harness.networks.initial import initial_weights
from harness.protocol import Network
from harness.results.run import Run
from harness.serve.models import Examples, served


@pytest.fixture(scope="module")
def spec_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("spec") / "tiny.toml"
    path.write_text(
        tiny_spec(models=("mlp", "other"), attacks="[attacks.square]\nepsilons = [0.1]\nsteps = 7")
    )
    return path


@pytest.fixture(scope="module")
def run_folder(spec_file, tmp_path_factory):
    """A run of one of the spec's two models."""
    from harness.evaluation.benchmark import Benchmark

    folder = tmp_path_factory.mktemp("run")
    benchmark = Benchmark(open_spec(str(spec_file)))
    evaluation = benchmark.evaluation("numpy", "mlp")
    evaluation.clean()
    for name, sweep in benchmark.measures.sweeps.items():
        for epsilon in sweep.epsilons:
            evaluation.attacked(name, epsilon)
    benchmark.run.finished = True
    benchmark.run.save(folder)
    return folder


def test_a_spec_s_models_with_its_attacks_and_its_test_images(spec_file):
    found = served(str(spec_file))
    assert list(found.models) == ["mlp", "other"]
    model = found.models["mlp"]
    assert model.backend == "numpy"
    assert model.shape == (8, 8)
    assert len(model.classes) == 10
    assert model.attacks["square"].steps == 7  # the spec's
    assert model.attacks["pgd"].steps == 40  # the registry's
    assert model.about.data == "digits"
    assert model.about.accuracy is None
    assert model.about.recipe == "standard"
    assert model.about.parameters == 8 * 8 * 16 + 16 + 16 * 10 + 10
    assert not model.about.adversarial
    assert found.examples.x.shape[1:] == (8, 8)
    assert list(served(str(spec_file), names=["other"]).models) == ["other"]


def test_a_run_s_models_with_what_it_has_measured(run_folder):
    found = served(str(run_folder))
    assert list(found.models) == ["mlp"]  # the other one is not in the run
    stored = Run.load(run_folder)
    accuracy = found.models["mlp"].about.accuracy
    by_check = {(r.check, r.epsilon): r.accuracy for r in stored.records}
    assert accuracy["clean"] == by_check["clean", None]
    assert accuracy["attacks"]["fgsm"] == [[e, by_check["fgsm", e]] for e in (0.0, 0.1, 0.3)]
    assert found.notes == []


def test_the_model_of_a_run_counts_as_many_images_as_the_run(run_folder):
    found = served(str(run_folder))
    model, test = found.models["mlp"], found.examples
    x, y = np.asarray(test.x), test.y
    right = sum(not one.misclassified for one in model.attacked(x, y.tolist(), "fgsm", 0.1))
    (record,) = [r for r in Run.load(run_folder).records if (r.check, r.epsilon) == ("fgsm", 0.1)]
    assert right == record.correct


def test_accuracies_of_other_weights_are_not_shown(run_folder, tmp_path):
    stored = Run.load(run_folder)
    stored.models = [one.model_copy(update={"fingerprint": "0" * 64}) for one in stored.models]
    stored.save(tmp_path)
    found = served(str(tmp_path))
    assert found.models["mlp"].about.accuracy is None
    (note,) = found.notes
    assert "not the one that the run has measured" in note


@pytest.mark.parametrize("key", ["model", "data"])
def test_a_stored_run_calls_no_function(run_folder, tmp_path, key):
    stored = Run.load(run_folder)
    if key == "model":
        stored.spec["models"]["mlp"] = {"load": "os:getcwd"}
    else:
        stored.spec["data"] = {"load": "os:getcwd"}
    stored.save(tmp_path)
    with pytest.raises(HarnessError, match="none of its functions is called"):
        served(str(tmp_path))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda spec: spec.pop("models"),
        lambda spec: spec.update(models=[]),
        lambda spec: spec.update(models={"mlp": 1}),
        lambda spec: spec.update(attacks={"fgsm": 1}),
        lambda spec: spec["data"].update(name="no-such"),
        lambda spec: spec["attacks"]["fgsm"].update(attack="no-such"),
    ],
)
def test_a_damaged_run_is_one_line(run_folder, tmp_path, spoil):
    stored = Run.load(run_folder)
    spoil(stored.spec)
    stored.save(tmp_path)
    with pytest.raises(HarnessError) as refused:
        served(str(tmp_path))
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    x, y = small_images()
    path = tmp_path_factory.mktemp("data") / "images.npz"
    np.savez(path, x=x, y=y)
    return path


def test_a_model_s_file_tells_the_shape_of_its_images(tmp_path, npz):
    at_hand("onnx")
    path = tmp_path / "small.onnx"
    export(Network(NET, initial_weights(NET, seed=0)), path, "onnx")
    found = served(str(path), backends=["numpy"])
    model = found.models["small"]
    assert (model.backend, model.shape, model.classes) == ("numpy", (4, 4), tuple("01234"))
    assert found.examples is None
    assert model.about.parameters == 16 * 12 + 12 + 12 * 5 + 5
    with_data = served(str(path), backends=["numpy"], names=["mine"], data=str(npz))
    assert list(with_data.models) == ["mine"]
    assert len(with_data.examples.y) == 40


def test_a_function_s_model_needs_images(tmp_path, npz, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made_here.py").write_text(
        "import harness\n"
        "def box():\n"
        "    return harness.wrap_function(lambda x: x.reshape(len(x), -1)[:, :3])\n"
    )
    with pytest.raises(HarnessError, match="name some with --data"):
        served("made_here:box")
    model = served("made_here:box", data=str(npz)).models["box"]
    assert model.methods == ()
    assert "square" in model.attacks


def test_images_that_a_model_does_not_take_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "narrow.py").write_text(
        "import harness\n"
        "def box():\n"
        "    return harness.wrap_function(lambda x: x.reshape(len(x), 4, 4)[:, 0])\n"
    )
    np.savez(tmp_path / "other.npz", x=np.zeros((6, 3, 3), np.float32), y=np.arange(6) % 3)
    with pytest.raises(HarnessError, match=r"box cannot be asked about images of shape \(3, 3\)"):
        served("narrow:box", data="other.npz")


def test_a_server_on_another_loopback_address_is_asked_by_it():
    from harness.serve.server import bound, own_names

    with bound("127.2", 0) as opened:
        assert {"127.0.0.2", "127.2", "localhost"} <= own_names("127.2", opened)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"what": "digitz"}, "did you mean digits"),
        ({"what": "no/such.toml"}, "no/such.toml"),
        ({"what": "digits", "names": ["mpl"]}, "--model: mpl: no such model"),
        ({"what": "digits", "backends": ["torhc"]}, "did you mean torch"),
        ({"what": "digits", "backends": ["onnx"]}, "backend"),
        ({"what": "digits", "data": "x.npz"}, "--data: digits says itself"),
    ],
)
def test_what_cannot_be_served_is_one_line(given, words):
    with pytest.raises(HarnessError) as refused:
        served(**given)
    assert words in str(refused.value)


def test_examples_begin_with_the_first_of_each_class():
    y = np.array([2, 2, 0, 1, 0, 2])
    rows = Examples(np.zeros((6, 1)), y).rows(5).tolist()
    assert rows == [2, 3, 0, 1, 4]
    assert Examples(np.zeros((6, 1)), y).rows(99).tolist() == [2, 3, 0, 1, 4, 5]


def test_two_backends_have_two_names(spec_file):
    there = [name for name in ("torch", "keras", "jax") if not registry.missing(name)]
    if not there:
        pytest.skip("NumPy is the only backend here; tox -e models has others")
    found = served(str(spec_file), backends=["numpy", there[0]], names=["mlp"])
    assert list(found.models) == ["mlp@numpy", f"mlp@{there[0]}"]
