"""The command: exit codes, one line for each wrong request, and what is not imported."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import sklearn.datasets  # noqa: F401  # not in the time of the first test
from tiny_spec import tiny_spec

from harness import cli, registry
from harness.errors import DataError
from harness.registry import Registry
from harness.results.run import Run

FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "array_api_compat"}
SLOW = {
    "numpy", "pandas", "matplotlib", "sklearn", "scipy", "pydantic", "jinja2", "safetensors",
    "optuna", "sqlalchemy",
}  # fmt: skip


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def line(self):
        """What a wrong request says: exit code 2, and one line."""
        assert self.code == 2, self
        assert "Traceback" not in self.out + self.err
        (line,) = self.err.splitlines()
        return line


@pytest.fixture
def command(capfd, monkeypatch, tmp_path):
    """Run the command in this process, exactly as its entry point does."""
    monkeypatch.chdir(tmp_path)
    # It takes a second to sum up that there was nothing.
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Done(end.value.code or 0, *capfd.readouterr())

    return run


def subprocess_of(*arguments, cwd, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=cwd,
        env=os.environ | environment, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A whole run in a process of its own: its folder, and what was said."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.toml").write_text(tiny_spec(seed=4))
    done = subprocess_of("-m", "harness", "run", "tiny.toml", "--out", "out", cwd=folder)
    return folder, done


@pytest.fixture
def spec(finished):
    """The spec of that run, so that its model is found stored."""
    return finished[0] / "tiny.toml"


# What is imported


MODULE = """
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", *sys.modules, file=sys.stderr))
name, *sys.argv[1:] = sys.argv[1:]
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


def loaded_by(module, *arguments, cwd):
    """Top-level packages in memory at the end of ``python -m MODULE ...``, and how it ended."""
    done = subprocess_of("-c", MODULE, module, *arguments, cwd=cwd)
    *_, last = done.err.splitlines()
    assert last.startswith("loaded: ")
    return {name.partition(".")[0] for name in last.split()[1:]}, done


def test_help_answers_without_importing_a_framework_or_anything_slow(tmp_path):
    packages, done = loaded_by("harness", "--help", cwd=tmp_path)
    assert done.code == 0
    for name in ("run", "train", "search", "data", "report", "gate", "baseline"):
        assert re.search(rf"\b{name}\b", done.out)
    assert not packages & (FRAMEWORKS | SLOW | {"backends", "pytest", "reports", "suites"})
    assert "harness" in packages


def test_collecting_the_suites_imports_no_framework(tmp_path):
    from harness.spec.reading import suites_folder

    packages, done = loaded_by(
        "pytest", suites_folder(), "--collect-only", "-q", "-p", "no:cacheprovider",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0
    assert "test_accuracy_under[torch-mlp-fgsm-eps=0.1]" in done.out or registry.missing("torch")
    assert "test_accuracy_under[keras-mlp-fgsm-eps=0.1]" in done.out or registry.missing("keras")
    assert not packages & (FRAMEWORKS | {"backends"})
    assert {"harness", "suites"} <= packages


# harness run


def test_a_run_that_passes(finished):
    folder, done = finished
    assert done.code == 0, done
    assert {path.name for path in (folder / "out").iterdir()} == {
        "run.json", "arrays.npz", "report.html", ".pieces",
    }  # fmt: skip
    run = Run.load(folder / "out")
    assert run.verdict == "passed"
    assert len(run.records) == 57
    assert not run.models[0].cached
    assert done.out.splitlines()[-2:] == [
        f"report: {folder / 'out' / 'report.html'}", "verdict: passed",
    ]  # fmt: skip
    assert "<html" in (folder / "out" / "report.html").read_text(encoding="utf-8")
    assert done.err == ""


def test_a_second_run_finds_the_model_and_a_retraining_does_not(command, spec, tmp_path):
    for arguments, cached in (((), True), (("--retrain",), False)):
        done = command("run", spec, "--out", "new", "-k", "clean", *arguments)
        assert done.code == 0, done
        run = Run.load(tmp_path / "new")
        assert [(r.check, r.status) for r in run.records] == [("clean", "passed")]
        assert run.models[0].cached is cached


def test_a_threshold_that_is_missed_is_exit_code_1_and_a_report(command, tmp_path):
    (tmp_path / "strict.toml").write_text(tiny_spec(clean=(0.99, 1.0)))
    done = command("run", "strict.toml", "--out", "here", "-k", "clean or fgsm")
    assert done.code == 1
    assert done.out.splitlines()[-1] == "verdict: failed"
    assert "is below 0.9900" in (tmp_path / "here" / "report.html").read_text(encoding="utf-8")
    assert Run.load(tmp_path / "here").verdict == "failed"


def test_a_run_in_which_everything_is_skipped_is_exit_code_1(command, tmp_path, monkeypatch):
    entry = registry.BackendEntry("backends.ghost", "Ghost", ("no_such_package",))
    monkeypatch.setitem(registry.BACKENDS, "ghost", entry)
    (tmp_path / "ghost.toml").write_text(tiny_spec(backends=["ghost"]))
    done = command("run", "ghost.toml")
    assert done.code == 1
    assert done.out.splitlines()[-1] == "verdict: failed"


def test_a_run_that_is_interrupted_is_exit_code_130_and_a_report_of_what_there_is(
    command, spec, tmp_path, monkeypatch
):
    from harness.checks.validity import CHECKS

    def interrupted(case):
        raise KeyboardInterrupt

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("an older report")
    monkeypatch.setitem(CHECKS, "breaks", interrupted)
    done = command("run", spec, "--out", "out")
    assert done.code == 130
    run = Run.load(tmp_path / "out")
    assert (run.finished, run.verdict) == (False, "failed")
    assert run.records
    assert "an older report" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert done.out.splitlines()[-1] == "verdict: failed"
    assert "Traceback" not in done.err


def test_data_that_is_lost_during_a_run_is_exit_code_2(command, spec, monkeypatch):
    from harness.errors import DataError
    from harness.evaluation import benchmark

    def refuses(spec, home):
        raise DataError("digits: no data today")

    monkeypatch.setattr(benchmark, "load_dataset", refuses)
    done = command("run", spec, "--out", "out")
    assert done.code == 2
    assert "digits: no data today" in done.out + done.err
    assert "Traceback" not in done.out + done.err


def test_data_that_cannot_be_had_is_one_line_before_anything_is_written(
    command, tmp_path, monkeypatch
):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("HARNESS_DATA_DIR", raising=False)
    (tmp_path / "real.toml").write_text(tiny_spec().replace('"digits"', '"mnist"'))
    assert command("run", "real.toml", "--out", "out").line.startswith("harness: ")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_line(command, spec, monkeypatch):
    def full(run, folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Run, "save", full)
    done = command("run", spec, "--out", "out", "-k", "clean")
    assert done.code == 2
    assert done.err.splitlines()[-1] == "harness: No space left on device"
    assert "verdict: passed" not in done.out


def test_a_place_that_cannot_be_written_to_is_one_line_before_anything_is_trained(
    command, spec, tmp_path, monkeypatch
):
    monkeypatch.setattr(pytest, "main", None)  # what would run the suites
    (tmp_path / "file").write_text("not a folder")
    for out in ("file", "file/deep/out"):
        line = command("run", spec, "--out", out).line
        assert line == "harness: --out: file is a file; name a folder"


def test_a_report_that_cannot_be_written_is_one_line(command, finished, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    line = command("report", finished[0] / "out", "--out", "file/page.html").line
    assert line.startswith("harness: ")
    assert "file" in line


@pytest.mark.parametrize("jobs", ["0", "-1", "two", ""])
def test_jobs_are_a_number_or_auto(command, spec, tmp_path, jobs):
    line = command("run", spec, "--jobs", jobs, "--out", "out").line
    assert line == f"harness: --jobs: {jobs!r} is no number from 1, nor auto"
    assert not (tmp_path / "out").exists()


def test_jobs_and_a_cluster_exclude_each_other(command, spec, tmp_path):
    for order in (["--jobs", "2", "--cluster", "local:2"], ["--cluster", "x", "--jobs", "auto"]):
        line = command("run", spec, *order, "--out", "out").line
        assert line == ("harness: --jobs and --cluster: each says where to measure; leave one out")
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_is_none_is_one_line(command, spec):
    done = command("run", spec, "--cluster", "nothere:8786", "--out", "out")
    assert done.code == 2
    assert "harness: nothere:8786: for a scheduler of Dask write tcp://nothere:8786" in done.err
    assert "Traceback" not in done.out + done.err


def test_an_expression_that_matches_nothing_is_one_line(command, spec, tmp_path):
    done = command("run", spec, "-k", "no_such_test")
    assert done.line == "harness: -k no_such_test: no test of the suites matches"
    assert not (tmp_path / "results").exists()


def test_an_expression_that_is_none_is_exit_code_2(command, spec):
    done = command("run", spec, "-k", "clean and")
    assert done.code == 2
    assert "clean and" in done.out + done.err
    assert "Traceback" not in done.out + done.err


@pytest.fixture
def kept(finished, tmp_path):
    """A copy of a finished run, and the contents of its files."""
    shutil.copytree(finished[0] / "out", tmp_path / "out")
    folder = tmp_path / "out"
    return lambda: {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "wrong",
    [
        ("-k", "(("), ("-k", "no_such_test"), ("-m", "nothere"), ("-m", "(("), ("--no-such",),
        ("--collect-only",), ("--setup-plan", "-k", "clean"),
        ("no_such_file.py",), ("-k", "((", "-n", "2"),
    ],
)  # fmt: skip
def test_a_request_that_measures_nothing_leaves_an_earlier_run_as_it_was(
    wrong, spec, tmp_path, kept
):
    from harness.spec.reading import suites_folder

    before = kept()
    done = subprocess_of(
        "-m", "pytest", suites_folder(), "--spec", spec, "--results", "out", *wrong,
        "-p", "no:cacheprovider", cwd=tmp_path,
    )  # fmt: skip
    assert done.code != 1
    assert kept() == before


@pytest.mark.usefixtures("kept")
def test_suites_judge_what_a_run_has_left_and_measure_nothing(spec, tmp_path, monkeypatch):
    from harness.spec.reading import suites_folder

    before = Run.load(tmp_path / "out")
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "no_models"))
    done = subprocess_of(
        "-m", "pytest", suites_folder(), "--spec", spec, "--results", "out",
        "-p", "no:cacheprovider", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 0, done
    assert not (tmp_path / "no_models").exists()
    assert Run.load(tmp_path / "out").records == before.records


def test_a_second_run_measures_nothing_and_a_fresh_one_everything(
    command, spec, tmp_path, monkeypatch
):
    from harness.attacks.fgsm import FGSM

    assert command("run", spec, "--out", "twice", "-k", "fgsm").code == 0
    first = Run.load(tmp_path / "twice")

    def broken(*args, **kwargs):
        raise RuntimeError("attacked")

    monkeypatch.setattr(FGSM, "perturb", broken)
    assert command("run", spec, "--out", "twice", "-k", "fgsm").code == 0
    assert Run.load(tmp_path / "twice").records == first.records
    assert command("run", spec, "--out", "twice", "-k", "fgsm", "--fresh").code == 1
    reasons = {record.reason for record in Run.load(tmp_path / "twice").records}
    assert reasons == {"RuntimeError: attacked"}


def test_a_mistyped_expression_leaves_an_earlier_run_as_it_was(command, spec, kept):
    before = kept()
    assert command("run", spec, "--out", "out", "-k", "((").code == 2
    assert kept() == before


@pytest.mark.parametrize(
    ("address", "said", "anew"),
    [
        ("nonsense", "nonsense: no such executor", []),
        ("nonsense", "nonsense: no such executor", ["--fresh"]),
        ("local:0", "local:0: say how many workers", []),
        ("tcp://there", "tcp://there: say which scheduler", ["--fresh"]),
        ("tcp://127.0.0.1:99999", "say which scheduler", []),
        ("", "no such executor", []),
        ("theirs", "there are none today", ["--fresh"]),  # said only when it is asked
    ],
)
def test_workers_that_cannot_be_had_cost_nothing(
    command, spec, kept, tmp_path, monkeypatch, address, said, anew
):
    from harness.executors import opening

    def theirs(rest, stamp):
        raise DataError("there are none today")

    monkeypatch.setitem(opening.OWN, "theirs", theirs)
    monkeypatch.setattr(
        opening, "EXECUTORS", Registry("executor", "harness.executors", opening.OWN)
    )
    before, pieces = kept(), sorted((tmp_path / "out" / ".pieces").glob("*"))
    found = command("run", spec, "--out", "out", "--cluster", address, *anew)
    assert found.code == 2
    assert said in found.err
    assert kept() == before
    assert sorted((tmp_path / "out" / ".pieces").glob("*")) == pieces


# harness train


def test_train_says_how_well_the_models_do(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path / "cache"))  # where no test trained before
    (tmp_path / "other.toml").write_text(tiny_spec(seed=5))
    for word in ("trained", "stored"):
        done = command("train", "other.toml")
        assert done.code == 0, done
        (row,) = [line for line in done.out.splitlines() if "numpy" in line]
        assert word in row
        assert re.search(r"\d\d\.\d\d%", row)
    assert "trained" in command("train", "other.toml", "--retrain").out


def test_a_training_that_diverges_is_one_line(command, tmp_path, monkeypatch):
    from backends.numpy_backend import NumpyTrainer

    monkeypatch.setattr(NumpyTrainer, "step", lambda *_: (float("nan"), 0))
    (tmp_path / "new.toml").write_text(tiny_spec(seed=6))
    line = command("train", "new.toml").line
    assert line.startswith("harness: training mlp in numpy: the loss became nan")


def test_training_with_no_backend_at_hand_says_what_to_install(command, tmp_path, monkeypatch):
    entry = registry.BackendEntry("backends.ghost", "Ghost", ("no_such_package",))
    monkeypatch.setitem(registry.BACKENDS, "ghost", entry)
    (tmp_path / "ghost.toml").write_text(tiny_spec(backends=["ghost"]))
    assert command("train", "ghost.toml").line == f"harness: {registry.missing('ghost')}"


# harness report


def test_the_report_of_a_stored_run(command, finished, tmp_path):
    folder = finished[0] / "out"
    before = (folder / "report.html").read_bytes()
    done = command("report", folder)
    assert (done.code, done.err) == (0, "")
    assert (folder / "report.html").read_bytes() == before
    done = command("report", folder, "--out", tmp_path / "deep" / "page.html")
    assert done.out.strip() == f"report: {tmp_path / 'deep' / 'page.html'}"
    assert (tmp_path / "deep" / "page.html").read_bytes() == before


def test_the_report_of_a_run_that_failed_is_still_a_report(command, finished, tmp_path):
    run = Run.load(finished[0] / "out")
    run.put(run.records[0].judged("failed", "for a test"))
    run.save(tmp_path / "failed")
    assert command("report", "failed").code == 0


# harness gate


def test_a_run_is_accepted_then_held(command, finished, tmp_path):
    folder = finished[0] / "out"
    gate = ("gate", folder, "--baseline", "baselines")
    assert "harness baseline accept RUN --baseline baselines" in command(*gate).line
    assert not (tmp_path / "baselines").exists()
    assert command("baseline", "accept", folder, "--baseline", "baselines").code == 0
    held = command(*gate)
    assert held.code == 0
    assert "passed" in held.out

    run = Run.load(folder)
    (clean,) = [record for record in run.records if record.check == "clean"]
    right = np.flatnonzero(run.arrays["numpy/mlp/clean/predictions"] == run.arrays["labels"])
    wrong = (run.arrays["labels"][right[:20]] + 1) % len(run.classes)
    run.arrays["numpy/mlp/clean/predictions"][right[:20]] = wrong
    correct = clean.correct - 20
    run.put(clean.model_copy(update={"accuracy": correct / clean.total, "correct": correct}))
    run.save(tmp_path / "worse")
    worse = ("gate", "worse", "--baseline", "baselines")
    done = command(*worse)
    assert done.code == 1
    assert "regressed" in done.out
    # The same model, image by image: no tolerance forgives it.
    assert command(*worse, "--tolerance", "0.2").code == 1


def test_a_seed_of_the_command_line_is_the_runs(command, finished, tmp_path, spec):
    done = command("run", spec, "--seed", "5", "--out", "other", "-k", "clean")
    assert done.code == 0, done
    assert Run.load(tmp_path / "other").spec["seed"] == 5
    assert "--seed: -1" in command("run", spec, "--seed", "-1").line


# Wrong requests


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


WRONG = {
    "spec": (["run", "tinny"], ["tinny", "digits"]),
    "spec-file": (["run", "tinny.toml"], ["tinny.toml"]),
    "spec-of-train": (["train", "tinny"], ["tinny", "digits"]),
    "spec-not-toml": (["run", "not.toml"], ["not.toml", "TOML"]),
    "spec-with-a-typo": (["run", "typo.toml"], ["typo.toml", "sead", "unknown key"]),
    "spec-of-unknown-data": (["train", "data.toml"], ["cifar", "digits"]),
    "backend": (["run", "--backend", "theano"], ["theano", "torch, keras, jax, numpy"]),
    "backend-of-train": (["train", "--backend", "theano"], ["theano"]),
    "backend-of-spec": (["train", "theano.toml"], ["theano"]),
    "data": (["data", "nope"], ["nope", "mnist"]),
    "report-of-nothing": (["report", "nowhere"], ["nowhere", "run.json", "missing"]),
    "report-of-two-without-a-file": (["report", "half", "damaged"], ["--out", "several runs"]),
    "report-of-one-twice": (["report", "half", "./half", "--out", "a.html"], ["half", "twice"]),
    "report-of-no-json": (["report", "damaged"], ["damaged", "run.json"]),
    "report-of-another-schema": (["report", "newer"], ["newer", "schema 999", "upgrade"]),
    "report-without-arrays": (["report", "half"], ["half", "arrays.npz"]),
    "gate-of-nothing": (["gate", "nowhere", "--baseline", "b.json"], ["nowhere", "run.json"]),
    "gate-tolerance": (["gate", "half", "--baseline", "b.json", "--tolerance", "7"], ["7"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_request_is_one_line_and_exit_code_2(command, wrong, finished, tmp_path):
    write(tmp_path, "not.toml", "name = ")
    write(tmp_path, "typo.toml", tiny_spec().replace("seed", "sead"))
    write(tmp_path, "data.toml", tiny_spec().replace('"digits"', '"cifar"'))
    write(tmp_path, "theano.toml", tiny_spec(backends=["theano"]))
    stored = (finished[0] / "out" / "run.json").read_text()
    write(tmp_path / "damaged", "run.json", stored[:500])
    write(tmp_path / "newer", "run.json", json.dumps(json.loads(stored) | {"schema": 999}))
    write(tmp_path / "half", "run.json", stored)
    arguments, words = WRONG[wrong]
    line = command(*arguments).line
    assert line.startswith("harness: ")
    for word in words:
        assert word in line
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["fly"], "fly"),
        (["run", "--fast"], "--fast"),
        (["run", "-n", "0"], "-n"),
        (["gate", "results"], "--baseline"),
    ],
)
def test_a_command_line_that_cannot_be_read_is_exit_code_2(command, arguments, word):
    done = command(*arguments)
    assert done.code == 2
    assert word in done.err
    assert "Traceback" not in done.err


def test_a_spec_of_the_suites_with_an_unknown_backend_is_refused_by_run(command, tmp_path):
    write(tmp_path, "theano.toml", tiny_spec(backends=["theano"]))
    done = command("run", "theano.toml")
    assert done.line == (
        "harness: theano.toml: backends: theano: no such backend; "
        "the backends are torch, keras, jax, numpy"
    )


def test_data_that_comes_with_a_package(command):
    done = command("data", "digits")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("digits: ")
