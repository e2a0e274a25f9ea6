"""Published tables as tests: collected where they are named, and nowhere else."""

from __future__ import annotations

import json

import numpy as np
import pytest
from inner_sessions import SUITES
from safetensors.numpy import save_file

from harness.results.run import Run
from harness.spec import published

pytest_plugins = ("pytester",)
TABLE = """
name = "paper"
backends = ["numpy"]
[paper]
title = "On Halves"
authors = "Doe"
year = 2020
[data]
file = "test.npz"
[models.net]
file = "net.safetensors"
architecture = "mlp"
hidden = [2]
[[published]]
check = "clean"
percent = 50.0
images = 40
source = "table 1"
[[published]]
check = "noise"
epsilon = 0.1
percent = 0.0
images = 40
source = "table 1"
[attacks.noise]
epsilons = [0.1]
"""
PUBLISHED = SUITES / "published"


@pytest.fixture
def table(tmp_path, monkeypatch):
    """One table in place of those that ship: half of the images are of the class of all answers."""
    monkeypatch.delenv("HARNESS_MODELS_DIR", raising=False)
    monkeypatch.delenv("CI", raising=False)
    # The inner session is no worker of xdist, where the outer one may be.
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.setattr(published, "published_folder", lambda: tmp_path)
    x = np.full((40, 2, 2), 0.5, dtype=np.float32)
    np.savez(tmp_path / "test.npz", x=x, y=np.arange(40) % 2)
    weights = {"fc1.weight": np.ones((2, 4)), "fc2.weight": np.array([[1, 1], [0, 0]])}
    save_file({k: v.astype(np.float32) for k, v in weights.items()}, tmp_path / "net.safetensors")
    (tmp_path / "paper.toml").write_text(TABLE)
    return tmp_path


@pytest.mark.parametrize("arguments", [(), ("-k", "fgsm or trades or reproduced")])
def test_the_suites_leave_them_out(suites, arguments):
    result, run = suites("--collect-only", "-q", *arguments)
    assert result.ret == 0
    assert "test_clean.py" in result.stdout.str() or arguments
    assert "test_published" not in result.stdout.str()
    assert run is None


@pytest.mark.parametrize("named", [PUBLISHED, PUBLISHED / "test_published.py"])
def test_they_are_collected_where_they_are_named_a_test_a_number(suites, named):
    result, _ = suites("--collect-only", "-q", suites=named)
    assert result.ret == 0
    said = result.stdout.str()
    assert "test_reproduced[trades-pgd-40@0.3]" in said
    assert "test_reproduced[wong-kolter-mnist-certified/crown@0.1]" in said
    assert "test_accuracy_under" not in said


def test_one_that_is_named_by_its_identity_is_collected_too(suites):
    named = f"{PUBLISHED / 'test_published.py'}::test_reproduced[trades-clean]"
    result, _ = suites("--collect-only", "-q", suites=named)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*1 test collected*"])


def test_a_number_that_is_reproduced_passes_and_another_fails_with_the_verdict(
    suites, table, pytester
):
    result, _ = suites(suites=PUBLISHED)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*paper noise@0.1: not reproduced: weaker by 50.00 points"])
    run = Run.load(pytester.path / "results" / "published" / "paper")
    assert [(r.check, r.status) for r in run.records] == [("clean", "passed"), ("noise", "failed")]


def test_weights_that_are_nowhere_are_a_skip_and_in_ci_a_failure(suites, table, monkeypatch):
    (table / "net.safetensors").unlink()
    result, _ = suites("-rs", suites=PUBLISHED)
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        ["SKIPPED*there is no *net.safetensors; HARNESS_MODELS_DIR is not*"]
    )
    monkeypatch.setenv("HARNESS_MODELS_DIR", str(table))
    suites(suites=PUBLISHED)[0].assert_outcomes(skipped=2)
    monkeypatch.setenv("CI", "true")
    suites(suites=PUBLISHED)[0].assert_outcomes(failed=2)


def test_the_backend_is_the_one_that_is_named(suites, table, pytester):
    suites("--backend", "numpy", "-k", "clean", suites=PUBLISHED)[0].assert_outcomes(passed=1)
    document = json.loads((pytester.path / "results/published/paper/run.json").read_text())
    assert {info["backend"] for info in document["models"]} == {"numpy"}
