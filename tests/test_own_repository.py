"""A repository of a user's own: evaluate, init, run, baseline and gate, as they are typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from backends_at_hand import package_at_hand

from harness.data import load_dataset
from harness.results.run import Run
from harness.spec.models import DataSpec
from harness.spec.reading import load_spec

MODULE = """
import numpy as np
import harness

CENTRES = np.array([[0.2, 0.2], [0.8, 0.2], [0.5, 0.8]])

def scores(images):
    flat = images.reshape(len(images), -1, 2).mean(axis=1)
    return -40 * ((flat[:, None] - CENTRES) ** 2).sum(axis=2)

def load(worse=False):
    centres = CENTRES[[1, 0, 2]] if worse else CENTRES
    def function(images):
        flat = images.reshape(len(images), -1, 2).mean(axis=1)
        return -40 * ((flat[:, None] - centres) ** 2).sum(axis=2)
    return harness.wrap_function(function)

def breaks():
    raise RuntimeError("no weights\\nat all")

def images(count=90):
    rng = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = CENTRES[y][:, None, None, :] + 0.1 * rng.standard_normal((count, 4, 4, 2))
    return np.clip(x, 0, 1).astype(np.float32), y
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def harness(*arguments):
    code = "from robustness_harness import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_model_and_images_are_evaluated_in_one_command(repository):
    done = harness(
        "evaluate", "theirs:load", "--data", "theirs:images", "--attack", "square",
        "--epsilon", "0", "--epsilon", "51/255", "--out", "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run.load(repository / "out")
    assert [(r.check, r.epsilon) for r in run.records[:3]] == [
        ("clean", None), ("square", 0.0), ("square", 0.2)
    ]  # fmt: skip
    assert run.finished
    assert (repository / "out" / "report.html").stat().st_size > 10_000
    info, data = run.models[0], run.data
    assert (info.backend, info.queries > 90, data.images) == ("callable", True, 90)


def test_a_network_that_is_read_from_a_file_is_certified_in_one_command(repository):
    package_at_hand("onnx")
    from harness.networks.initial import initial_weights
    from harness.networks.onnx.writing import onnx_bytes
    from harness.protocol import Network, fully_connected

    architecture = fully_connected((4, 4, 2), (6,), 3)
    network = Network(architecture, initial_weights(architecture, seed=0))
    (repository / "net.onnx").write_bytes(onnx_bytes(network))
    done = harness(
        "evaluate", "net.onnx", "--backend", "numpy", "--data", "theirs:images",
        "--certifier", "ibp", "--certifier", "crown", "--epsilon", "0.01", "--out", "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = Run.load(repository / "out")
    accuracies = {r.check: (r.status, r.bound) for r in run.records if r.epsilon is not None}
    assert accuracies == {
        "fgsm": ("measured", "upper"),
        "certified/ibp": ("measured", "lower"),
        "certified/crown": ("measured", "lower"),
    }


def test_an_evaluation_that_is_interrupted_says_what_is_kept_and_where(repository):
    (repository / "stopped.py").write_text(
        "import harness, theirs\n"
        "calls = []\n"
        "def load():\n"
        "    def function(images):\n"
        "        calls.append(len(images))\n"
        "        if len(calls) > 20:\n"
        "            raise KeyboardInterrupt\n"
        "        return theirs.scores(images)\n"
        "    return harness.wrap_function(function)\n",
        encoding="utf-8",
    )
    done = harness("evaluate", "stopped:load", "--data", "theirs:images", "--epsilon", "0.1",
                   "--out", "out")  # fmt: skip
    assert done.returncode == 130, done.stderr
    run = Run.load(repository / "out")
    assert run.records
    assert not run.finished
    (line,) = done.stderr.strip().splitlines()
    assert "interrupted" in line
    assert f"{len(run.records)} records in out" in line


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        (["theirs:laod", "--data", "theirs:images"], "did you mean load?"),
        (["thiers:load", "--data", "theirs:images"], "there is no module thiers"),
        (["theirs:breaks", "--data", "theirs:images"], "RuntimeError: no weights at all"),
        (["theirs:load", "--data", "theirs:image"], "did you mean images?"),
        (["theirs:load", "--data", "test.npz"], "test.npz"),
        (["net.onnx", "--data", "theirs:images"], "net.onnx"),
        (["net.pkl", "--data", "theirs:images"], "a pickle can run any code"),
        (["theirs:load", "--data", "theirs:images", "--epsilon", "8/0"], "--epsilon: '8/0'"),
        (["theirs:load", "--data", "theirs:images", "--attack", "sqare"], "did you mean square?"),
        (["theirs:load", "--data", "theirs:images", "--certifier", "crwn"], "did you mean crown?"),
        (["theirs:load", "--data", "theirs:images", "--suite", "all"], "suites: all"),
        (["theirs:load", "--data", "theirs:images", "--mean", "0.5"], "--mean and --std"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_line_and_exit_code_2(repository, arguments, finding):
    done = harness("evaluate", *arguments)
    assert done.returncode == 2
    assert finding in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stdout + done.stderr
    assert not (repository / "results" / "run.json").exists()


def test_from_an_empty_repository_to_a_gate_that_fails(repository):
    (repository / ".gitignore").write_text("*.pyc", encoding="utf-8")
    done = harness("init", "theirs:load", "theirs:images")
    assert done.returncode == 0, done.stderr
    assert (repository / ".gitignore").read_text(encoding="utf-8") == "*.pyc\nresults/\n"
    job = (repository / ".github" / "workflows" / "robustness.yml").read_text(encoding="utf-8")
    assert len(job.splitlines()) <= 20
    assert (repository / "baselines").is_dir()

    done = harness("run", "robustness.toml")
    assert done.returncode == 0, done.stdout
    done = harness("baseline", "accept", "results")
    assert done.returncode == 0, done.stderr
    (baseline,) = (repository / "baselines").glob("*/0001.json")
    done = harness("gate", "results", "--baseline", baseline.parent)
    assert done.returncode == 0, done.stdout

    spec = repository / "robustness.toml"
    text = spec.read_text(encoding="utf-8")
    line = 'load = "theirs:load"'
    spec.write_text(text.replace(line, f"{line}\noptions = {{ worse = true }}"), encoding="utf-8")
    harness("run", "robustness.toml", "--out", "worse", "-k", "clean or square")
    done = harness("gate", "worse", "--baseline", baseline.parent)
    assert done.returncode == 1
    assert "clean" in done.stdout

    again = harness("init", "theirs:load", "theirs:images")
    assert (again.returncode, "is there already" in again.stderr) == (2, True)


def test_a_job_for_gitlab(repository):
    (repository / "requirements.txt").write_text("numpy\n", encoding="utf-8")
    done = harness("init", "theirs:load", "theirs:images", "--ci", "gitlab")
    assert done.returncode == 0, done.stderr
    job = (repository / ".gitlab-ci.yml").read_text(encoding="utf-8")
    assert "-r requirements.txt" in job
    assert "harness gate results" in job


def test_the_suites_run_in_the_users_own_session(repository):
    harness("init", "theirs:load", "theirs:images")
    (repository / "test_theirs.py").write_text("def test_theirs(): pass\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "--robustness-spec", "robustness.toml", "-v",
               "-p", "no:cacheprovider", "-k", "theirs or clean or square"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "test_theirs.py::test_theirs PASSED" in done.stdout
    assert "test_clean_accuracy[callable-" in done.stdout
    # Where tests are named, they alone are run.
    done = subprocess.run([*command, "test_theirs.py"], capture_output=True, text=True, check=False)
    assert "test_clean_accuracy" not in done.stdout


def test_an_interrupted_evaluation_has_what_was_measured(repository):
    sys.path.insert(0, str(repository))
    try:
        import theirs

        import harness as library

        asked = []

        def function(images):
            asked.append(len(images))
            if len(asked) > 4:
                raise KeyboardInterrupt
            return theirs.scores(images)

        with pytest.raises(library.InterruptedRun) as stopped:
            library.evaluate(
                library.wrap_function(function), *theirs.images(), "square", [0.1, 0.2], out="out"
            )
    finally:
        sys.path.remove(str(repository))
        sys.modules.pop("theirs", None)
    run = stopped.value.run
    assert not run.finished
    stored = Run.load(Path("out"))
    assert not stored.finished
    assert stored.records == run.records
    assert {r.check for r in run.records} <= {"clean", "square"}
    assert np.isfinite([r.accuracy for r in run.records]).all()


def test_a_run_tells_where_the_model_is_from_and_where_the_data(repository):
    sys.path.insert(0, str(repository))
    try:
        import harness as library

        run = library.evaluate("theirs:load", "theirs:images", attacks="noise", epsilons=[0.1])
    finally:
        sys.path.remove(str(repository))
        sys.modules.pop("theirs", None)
    assert (run.models[0].source, run.data.source) == ("theirs:load", "theirs:images")


def test_files_of_another_folder_are_named_as_seen_from_there(repository):
    np.savez(repository / "test.npz", x=np.zeros((6, 4, 4, 2), np.float32), y=np.arange(6) % 3)
    done = harness("init", "theirs:load", "test.npz", "--folder", "sub/new")
    assert done.returncode == 0, done.stderr
    spec = load_spec("sub/new/robustness.toml")
    assert spec.data.file == "../../test.npz"
    assert len(load_dataset(spec.data, spec.home).test) == 6


def test_a_path_in_a_spec_may_begin_at_home(repository, monkeypatch):
    monkeypatch.setenv("HOME", str(repository))
    monkeypatch.setenv("USERPROFILE", str(repository))
    np.savez(repository / "test.npz", x=np.zeros((6, 4, 4, 2), np.float32), y=np.arange(6) % 3)
    data = DataSpec(file="~/test.npz")
    assert len(load_dataset(data, Path("elsewhere")).test) == 6
