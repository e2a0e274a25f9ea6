"""A whole session of the suites, of all or of some tests, in another order or several processes."""

from __future__ import annotations

import re
import subprocess

import numpy as np
import pytest
from inner_sessions import MAPS, QUICK, SANITY, SUITES, comparable, of, outcomes
from tiny_spec import EPSILONS

from harness.attacks import ATTACKS
from harness.attacks.fgsm import FGSM
from harness.attacks.options import options_of
from harness.checks.conformance import CHECKS
from harness.checks.validity import CHECKS as VALIDITY
from harness.evaluation.resolve import attack_of, open_spec
from harness.files import fingerprint
from harness.results.run import SCHEMA
from harness.saliency.analysis import MEASURES

pytest_plugins = ["pytester"]
UNCERTIFIED = "certified-misclassified"
"""The check that says nothing where nothing is certified."""


# A whole run


def test_a_run_measures_judges_and_stores_everything(suites, pytester):
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-qm", "x", "--allow-empty")):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True)
    result, run = suites()
    assert result.ret == pytest.ExitCode.OK
    judged = [rule for rule in VALIDITY if rule != UNCERTIFIED]
    result.assert_outcomes(
        passed=1 + len(CHECKS) + len(EPSILONS) + 3 + len(judged) + len(MAPS), skipped=1
    )
    result.stdout.fnmatch_lines(["robustness: spec tiny (*), data digits 70-20-10, backends num*"])
    assert {r.key: r.status for r in run.records} == {
        ("mlp", "numpy", "clean", None): "passed",
        **{("mlp", "numpy", f"conformance/{rule}", None): "passed" for rule in CHECKS},
        ("mlp", "numpy", "fgsm", 0.0): "passed",
        ("mlp", "numpy", "fgsm", 0.1): "passed",
        ("mlp", "numpy", "fgsm", 0.3): "measured",  # the spec expects nothing of it
        ("mlp", "numpy", "saliency/top", None): "passed",
        ("mlp", "numpy", "saliency/random", None): "measured",
        ("mlp", "numpy", "saliency/least", None): "passed",
        **{("mlp", "numpy", f"validity/{rule}", None): "passed" for rule in judged},
        ("mlp", "numpy", f"validity/{UNCERTIFIED}", None): "skipped",
        **{("mlp", "numpy", f"saliency/gradient/{m}", None): "measured" for m in MEASURES},
        **{("mlp", "numpy", f"saliency-sanity/gradient/{r}", None): "passed" for r in SANITY},
    }
    assert (run.finished, run.verdict) == (True, "passed")

    # Where it came from.
    spec = open_spec("tiny.toml")
    for name in spec.attacks:
        assert run.spec["attacks"][name].pop("options") == options_of(attack_of(spec, name))
    defaults = {key: run.spec["models"]["mlp"].pop(key) for key in ("dropout", "batch_norm")}
    assert defaults == {"dropout": 0.0, "batch_norm": False}
    assert run.spec["saliency"].pop("cover") == "black"
    assert (run.schema_, run.spec, run.spec_sha256) == (
        SCHEMA, spec.model_dump(mode="json"), spec.sha256,
    )  # fmt: skip
    assert fingerprint(run.spec) == run.spec_sha256
    assert re.fullmatch("[0-9a-f]{64}", run.data_sha256)
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert (run.commit, run.dirty) == (head.stdout.strip(), True)  # tiny.toml is not committed
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", run.created)
    assert run.versions.keys() == {"python", "robustness-harness", "numpy"}
    assert run.versions["numpy"] == np.__version__
    assert run.machine.keys() == {"system", "processor", "cores"}
    assert run.classes == tuple("0123456789")
    (model,) = run.models
    assert (model.backend, model.model, len(model.history)) == ("numpy", "mlp", 2)

    # The numbers are those of the stored predictions, of 180 test images.
    labels = run.arrays["labels"]
    for check in ("clean", "fgsm@0", "fgsm@0.1", "fgsm@0.3"):
        name, _, epsilon = check.partition("@")
        record = of(run, name, float(epsilon) if epsilon else None)
        correct = int((run.arrays[f"numpy/mlp/{check}/predictions"] == labels).sum())
        assert (record.correct, record.total) == (correct, 180)
        assert record.accuracy == correct / 180
        assert record.ci_low < record.accuracy < record.ci_high or correct == 0
    assert of(run, "clean").threshold == (0.5, 1.0)
    assert of(run, "saliency/random").total == 5 * 180

    # Nothing else is left behind, and the summary shows the numbers.
    assert {path.name for path in (pytester.path / "results").iterdir()} == {
        "run.json", "arrays.npz",
    }  # fmt: skip
    result.stdout.fnmatch_lines([f"* {100 * of(run, 'clean').accuracy:.2f} *"])
    assert max(len(line) for line in table_of(result)) <= 80
    # What pytest-benchmark says is left out, and the last that is said is where the run is.
    assert not [line for line in result.outlines if line.startswith("benchmark:")]
    *_, where, draw = result.outlines
    assert where == f"run: {pytester.path / 'results' / 'run.json'}"
    assert draw == "draw its report: harness report results"


def table_of(result):
    """The lines of the summary that hold accuracies."""
    begin = next(n for n, line in enumerate(result.outlines) if line.startswith("accuracy in %"))
    return result.outlines[begin : begin + 4]


def test_ids_are_readable(suites):
    result, run = suites("--collect-only", "-q")
    assert run is None
    ids = {line.partition("::")[2] for line in result.outlines if "::" in line}
    assert ids == {
        "test_clean_accuracy[numpy-mlp]",
        *(f"test_conformance[numpy-mlp-{rule}]" for rule in CHECKS),
        *(f"test_accuracy_under[numpy-mlp-fgsm-eps={e}]" for e in ("0", "0.1", "0.3")),
        *(f"test_saliency_occlusion[numpy-mlp-{c}]" for c in ("top", "random", "least")),
        *(f"test_saliency_measure[numpy-mlp-gradient-{measure}]" for measure in MEASURES),
        *(f"test_saliency_sanity[numpy-mlp-gradient-{rule}]" for rule in SANITY),
        *(f"test_validity[numpy-mlp-{rule}]" for rule in VALIDITY),
    }


# Selecting


def test_only_what_is_selected_is_measured(suites):
    result, run = suites("-k", "fgsm")
    assert result.ret == pytest.ExitCode.OK
    assert outcomes(run, "check", "epsilon") == [("fgsm", epsilon) for epsilon in EPSILONS]


def test_one_id_measures_one_epsilon(suites):
    chosen = f"{SUITES / 'test_attacks.py'}::test_accuracy_under[numpy-mlp-fgsm-eps=0.1]"
    result, run = suites(suites=chosen)
    result.assert_outcomes(passed=1)
    assert outcomes(run, "check", "epsilon", "status") == [("fgsm", 0.1, "passed")]
    assert [key for key in run.arrays if "fgsm" in key and "predictions" in key] == [
        "numpy/mlp/fgsm@0.1/predictions"
    ]


def test_each_target_is_measured_on_its_own(suites):
    result, run = suites("-k", "clean", models=("mlp", "mlp-2"))
    result.assert_outcomes(passed=2)
    assert outcomes(run, "model", "check") == [("mlp", "clean"), ("mlp-2", "clean")]


def test_retraining_is_asked_for(suites):
    for arguments, cached in (((), None), ((), True), (("--retrain",), False), ((), True)):
        _, run = suites("-k", "clean", *arguments)
        assert cached in (None, run.models[0].cached)


# Orders


def test_failed_first_measures_once_and_keeps_the_verdict(suites, pytester, monkeypatch):
    """``--ff`` goes from model to model and back, so that pytest makes the fixture anew."""
    swept = []

    class Counted(FGSM):
        def perturb(self, model, x, y, epsilons, *, index):
            swept.append(list(epsilons))
            return super().perturb(model, x, y, epsilons, index=index)

    monkeypatch.setitem(ATTACKS, "fgsm", Counted)
    names = {"models": ("mlp", "mlp-2"), "fgsm": (0.0, 0.001)}
    cache = ("-p", "cacheprovider", "-o", f"cache_dir={pytester.path / 'cache'}", "-k",
             "clean or fgsm")  # fmt: skip
    results = []
    for arguments in ((), ("--ff", "-v")):
        swept.clear()
        result, run = suites(*cache, *arguments, **names)
        result.assert_outcomes(passed=6, failed=2)
        assert swept == [list(EPSILONS)] * 2
        results.append(comparable(run))
    assert results[0] == results[1]
    order = [line.partition("[")[2].partition("]")[0] for line in result.outlines
             if re.search(r"(PASSED|FAILED) +\[", line)]  # fmt: skip
    assert order[:2] == ["numpy-mlp-fgsm-eps=0.1", "numpy-mlp-2-fgsm-eps=0.1"]
    assert {"numpy-mlp", "numpy-mlp-fgsm-eps=0"} <= set(order[2:])


# Several processes


def test_several_processes_give_the_same_run_as_one(suites, pytester):
    pytest.importorskip("xdist")
    names = {"models": ("mlp", "mlp-2"), "clean": (0.99, 1.0)}
    select = ("-k", "clean or fgsm or parity")
    _, alone = suites(*select, **names)
    stale = pytester.path / "results" / ".parts" / "gw7"
    stale_run = alone.model_copy(deep=True)
    stale_run.put(of(alone, "clean").model_copy(update={"model": "old"}))
    stale_run.save(stale)
    result, together = suites(*select, "-n", "2", **names)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=8, failed=2)
    assert comparable(together) == comparable(alone)
    assert together.arrays.keys() == alone.arrays.keys()
    for key, value in alone.arrays.items():
        np.testing.assert_array_equal(together.arrays[key], value)
    assert together.finished
    assert together.data_sha256 == alone.data_sha256
    assert together.classes == alone.classes
    assert {(m.model, m.fingerprint) for m in together.models} == {
        (m.model, m.fingerprint) for m in alone.models
    }
    assert not (pytester.path / "results" / ".parts").exists()


# Everybody else's tests


def test_other_tests_are_none_of_its_business(pytester):
    """The plugin is in every session of this environment; it must not touch tests that are not its
    own, though they say ``model`` and ``epsilon`` too."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("model", ["numpy", "torch"])
        @pytest.mark.parametrize("epsilon", [1, 2])
        def test_fails(model, epsilon):
            assert model == "numpy"
        """
    )
    result = pytester.runpytest_inprocess(*QUICK)
    result.assert_outcomes(passed=2, failed=2)
    assert "robustness: " not in result.stdout.str()
    assert not (pytester.path / "results").exists()
