"""The pytest plugin: the suites on a tiny spec, in a pytest session inside the session."""

from __future__ import annotations

import errno
import re
import subprocess

import numpy as np
import pytest
import sklearn.datasets  # noqa: F401  # an inner session forgets what it was first to import, ...
from tiny_spec import EPSILONS, tiny_spec

import harness.bench
import harness.summary  # ... so that every one would import these anew
from backends.numpy_backend import NumpyTrainer
from harness import registry
from harness.attacks import ATTACKS
from harness.attacks.fgsm import FGSM
from harness.attacks.options import options_of
from harness.conformance import CHECKS
from harness.errors import DataError
from harness.records import Run
from harness.saliency.analysis import MEASURES
from harness.saliency.sanity import rules_for
from harness.spec import fingerprint, load_spec, suites_folder
from harness.testing.session import REFUSED
from harness.validity import CHECKS as VALIDITY

pytest_plugins = ["pytester"]
SANITY = rules_for("gradient")
MAPS = (*MEASURES, *SANITY)
"""What is asked of the maps of a method, besides the occlusion of all images."""
SUITES = suites_folder()
QUICK = (
    "-p", "no:hypothesispytest",  # which takes a second to sum up that there was nothing
    "--ignore-glob=*test_speed.py",  # which takes minutes, and measures no target
)  # fmt: skip


@pytest.fixture
def suites(pytester):
    """Run the suites, or tests of one's own, on a tiny spec; gives pytest's own result, and the run
    if there is one."""

    def run(*arguments, suites=SUITES, spec=None, option="--spec", **changes):
        if spec is None:
            spec = pytester.makefile(".toml", tiny=tiny_spec(**changes))
        result = pytester.runpytest_inprocess(
            suites, "-c", SUITES / "pytest.ini", "--rootdir", SUITES, "-p", "no:cacheprovider",
            *QUICK, option, spec, *arguments,
        )  # fmt: skip
        folder = pytester.path / "results"
        return result, Run.load(folder) if (folder / "run.json").is_file() else None

    return run


@pytest.fixture
def ghost(monkeypatch):
    """A backend of which the package is not installed."""
    entry = registry.BackendEntry("backends.ghost", "Ghost", ("no_such_package",))
    monkeypatch.setitem(registry.BACKENDS, "ghost", entry)


def outcomes(run, *fields):
    return [tuple(getattr(record, field) for field in fields) for record in run.records]


def of(run, check, epsilon=None, backend="numpy"):
    record = run.find(("mlp", backend, check, epsilon))
    assert record is not None
    return record


def one_error_line(result):
    """What a usage error says: one line, after which there is nothing."""
    lines = [line for line in result.stderr.lines if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("ERROR: ")
    return lines[0]


# A whole run


def test_a_run_measures_judges_and_stores_everything(suites, pytester):
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-qm", "x", "--allow-empty")):
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], check=True)
    result, run = suites()
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=1 + len(CHECKS) + len(EPSILONS) + 3 + len(VALIDITY) + len(MAPS))
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
        **{("mlp", "numpy", f"validity/{rule}", None): "passed" for rule in VALIDITY},
        **{("mlp", "numpy", f"saliency/gradient/{m}", None): "measured" for m in MEASURES},
        **{("mlp", "numpy", f"saliency-sanity/gradient/{r}", None): "passed" for r in SANITY},
    }
    assert (run.finished, run.verdict) == (True, "passed")

    # Where it came from.
    spec = load_spec("tiny.toml")
    for name, sweep in spec.attacks.items():
        assert run.spec["attacks"][name].pop("options") == options_of(sweep.made(name))
    assert (run.schema_, run.spec, run.spec_sha256) == (
        4, spec.model_dump(mode="json"), spec.sha256,
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
    assert (model.backend, model.target, len(model.history)) == ("numpy", "mlp", 2)

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
    result.stdout.fnmatch_lines([f"* {100 * of(run, 'clean').accuracy:.2f} *", "run: *run.json"])


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
    result, run = suites("-k", "clean", targets=("mlp", "mlp-2"))
    result.assert_outcomes(passed=2)
    assert outcomes(run, "target", "check") == [("mlp", "clean"), ("mlp-2", "clean")]


def test_retraining_is_asked_for(suites):
    for arguments, cached in (((), None), ((), True), (("--retrain",), False), ((), True)):
        _, run = suites("-k", "clean", *arguments)
        assert cached in (None, run.models[0].cached)


# What fails


def test_a_missed_threshold_fails_the_test_and_is_in_the_run(suites):
    result, run = suites(clean=(0.99, 1.0), fgsm=(0.0, 0.001))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=2, passed=14 + len(VALIDITY) + len(MAPS))
    result.stdout.fnmatch_lines(["numpy mlp clean: accuracy * is below 0.9900"])
    clean, attacked = of(run, "clean"), of(run, "fgsm", 0.1)
    assert (clean.status, clean.threshold) == ("failed", (0.99, 1.0))
    assert clean.reason == f"accuracy {clean.accuracy:.4f} is below 0.9900"
    assert (attacked.status, attacked.threshold) == ("failed", (0.0, 0.001))
    assert "is above 0.0010: the model looks too robust" in attacked.reason
    assert (run.finished, run.verdict) == (True, "failed")
    assert len(run.records) == 16 + len(VALIDITY) + len(MAPS)


def test_a_session_that_was_broken_off_is_not_finished(suites):
    result, run = suites("-x", fgsm=(0.0, 0.001))
    result.assert_outcomes(passed=1, failed=1)
    assert outcomes(run, "check", "epsilon", "status") == [
        ("fgsm", 0.0, "passed"), ("fgsm", 0.1, "failed"), ("fgsm", 0.3, "measured"),
    ]  # fmt: skip
    assert (run.finished, run.verdict) == (False, "failed")


def test_a_session_that_was_interrupted_keeps_what_it_measured(suites, pytester, monkeypatch):
    def interrupted(case):
        raise KeyboardInterrupt

    monkeypatch.setitem(CHECKS, "dtypes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        suites()
    run = Run.load(pytester.path / "results")
    assert outcomes(run, "check", "status") == [
        ("fgsm", "passed"), ("fgsm", "passed"), ("fgsm", "measured"), ("clean", "passed"),
        ("conformance/shapes", "passed"),
    ]  # fmt: skip
    assert (run.finished, run.verdict) == (False, "failed")


def test_an_attack_that_raises_is_an_error_and_the_rest_is_measured(suites, monkeypatch):
    class Crashing:
        name, norm, requires = "fgsm", "linf", frozenset()

        def perturb(self, model, x, y, epsilons, *, index):
            yield x
            raise RuntimeError("out of\nmemory")

    monkeypatch.setitem(ATTACKS, "fgsm", Crashing)
    result, run = suites()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    # Whether it moves an image at epsilon zero cannot be seen; that it breaks is said there too.
    result.assert_outcomes(failed=4, passed=11 + len(VALIDITY) + len(MAPS), skipped=1)
    for epsilon in EPSILONS:
        record = of(run, "fgsm", epsilon)
        assert (record.status, record.accuracy) == ("error", None)
        assert record.reason == "RuntimeError: out of memory"
    assert of(run, "clean").status == of(run, "saliency/top").status == "passed"
    assert run.verdict == "failed"


def test_a_check_that_raises_is_an_error_and_the_rest_is_measured(suites, monkeypatch):
    def raises(case):
        raise ZeroDivisionError("by zero")

    monkeypatch.setitem(CHECKS, "dtypes", raises)
    result, run = suites("-k", "conformance")
    result.assert_outcomes(failed=1, passed=len(CHECKS) - 1)
    broken = of(run, "conformance/dtypes")
    assert (broken.status, broken.reason) == ("error", "ZeroDivisionError: by zero")
    assert run.verdict == "failed"


def test_a_training_that_fails_is_one_line_and_an_error_everywhere(suites, monkeypatch):
    monkeypatch.setattr(NumpyTrainer, "step", lambda *_: (float("nan"), 0))
    result, run = suites("-k", "clean or fgsm", seed=99)
    result.assert_outcomes(errors=4)
    assert set(outcomes(run, "status")) == {("error",)}
    assert len(run.records) == 4
    reason = of(run, "clean").reason
    assert reason.startswith("training mlp in numpy: the loss became nan in epoch 1")
    assert "Traceback" not in result.stdout.str()
    assert "During handling" not in result.stdout.str()


# A test that fails after its record was put, or that has none


@pytest.mark.parametrize(
    ("body", "before"),
    [
        ("robustness_judge(robustness_target.clean())", "passed"),
        ("robustness_target.clean()", "measured"),
    ],
    ids=["judged", "measured"],
)
def test_a_test_that_fails_after_its_record_was_put_is_an_error(suites, pytester, body, before):
    text = """
        import pytest

        @pytest.mark.robustness_check("clean")
        def test_clean(robustness_target, robustness_judge):
            {}
            {}
        """
    for last, status in (("raise KeyError('oops')", "error"), ("pass", before)):
        path = pytester.makepyfile(test_mine=text.format(body, last))
        result, run = suites(suites=path, option="--robustness-spec")
        (record,) = run.records
        assert record.status == status
        assert record.accuracy > 0.5
        assert ("KeyError" in record.reason) is (status == "error")
    assert result.ret == pytest.ExitCode.OK


def test_the_reason_of_a_failed_record_is_not_replaced(suites, pytester):
    path = pytester.makepyfile(
        test_mine="""
        import pytest

        @pytest.mark.robustness_check("clean")
        def test_clean(robustness_target, robustness_judge):
            try:
                robustness_judge(robustness_target.clean())
            finally:
                raise KeyError("oops")
        """
    )
    _, run = suites(suites=path, option="--robustness-spec", clean=(0.99, 1.0))
    (record,) = run.records
    assert record.status == "failed"
    assert "is below 0.9900" in record.reason


def test_a_failure_that_no_record_tells_of_leaves_a_run_that_is_not_whole(suites, pytester):
    path = pytester.makepyfile(test_mine="def test_fails():\n    assert False\n")
    chosen = f"{SUITES / 'test_clean.py'}::test_clean_accuracy[numpy-mlp]"
    result, run = suites(str(path), suites=chosen)
    result.assert_outcomes(passed=1, failed=1)
    assert outcomes(run, "check", "status") == [("clean", "passed")]
    assert (run.finished, run.verdict) == (False, "failed")


# Orders


def test_failed_first_measures_once_and_keeps_the_verdict(suites, pytester, monkeypatch):
    """``--ff`` goes from target to target and back, so that pytest makes the fixture anew."""
    swept = []

    class Counted(FGSM):
        def perturb(self, model, x, y, epsilons, *, index):
            swept.append(list(epsilons))
            return super().perturb(model, x, y, epsilons, index=index)

    monkeypatch.setitem(ATTACKS, "fgsm", Counted)
    names = {"targets": ("mlp", "mlp-2"), "fgsm": (0.0, 0.001)}
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


# What goes wrong on disk


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_disk_that_is_full_for_a_moment_leaves_no_passed_verdict(suites, monkeypatch):
    save, calls = Run.save, []

    def once(run, folder):
        calls.append(folder)
        # The first is the empty run that takes the place of an earlier one.
        return full_disk() if len(calls) == 2 else save(run, folder)

    monkeypatch.setattr(Run, "save", once)
    result, run = suites("-k", "clean or fgsm")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    first = of(run, "fgsm", 0.0)
    assert (first.status, first.reason) == (
        "error", "OSError: [Errno 28] No space left on device",
    )  # fmt: skip
    assert of(run, "fgsm", 0.1).status == of(run, "clean").status == "passed"
    assert run.verdict == "failed"


def test_a_disk_that_stays_full_leaves_no_passed_verdict(suites, monkeypatch):
    save, calls = Run.save, []

    def then_no_more(run, folder):
        calls.append(folder)
        return full_disk() if len(calls) > 2 else save(run, folder)

    monkeypatch.setattr(Run, "save", then_no_more)
    result, run = suites("-k", "clean or fgsm")
    assert result.ret not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    assert "No space left" in result.stdout.str() + result.stderr.str()
    assert (run.finished, run.verdict) == (False, "failed")


def test_data_that_cannot_be_had_ends_the_session_with_a_code_of_its_own(suites, monkeypatch):
    def refuses(spec):
        raise DataError("digits: no data today")

    monkeypatch.setattr(harness.bench, "load_dataset", refuses)
    result, run = suites()
    assert result.ret == REFUSED == 64
    assert "digits: no data today" in result.stdout.str() + result.stderr.str()
    assert "Traceback" not in result.stdout.str()
    assert run is None or run.verdict == "failed"


# Backends


def test_a_framework_that_does_not_import_leaves_the_others_measured(suites, pytester, monkeypatch):
    pytester.makepyfile(broken_framework="raise ImportError('wrong engine:\\njax')")
    pytester.syspathinsert()
    entry = registry.BackendEntry("broken_framework", "Broken")
    monkeypatch.setattr(registry, "BACKENDS", {"broken": entry} | registry.BACKENDS)
    result, run = suites("-k", "clean or fgsm", backends=("broken", "numpy"))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4, errors=4)
    for check, epsilon in (("clean", None), *(("fgsm", epsilon) for epsilon in EPSILONS)):
        record = of(run, check, epsilon, "broken")
        assert record.status == "error"
        assert record.reason == (
            "backend broken: its framework does not import (ImportError: wrong engine: jax)"
        )
        assert of(run, check, epsilon).accuracy is not None
    assert of(run, "clean").status == "passed"
    assert (run.finished, run.verdict) == (True, "failed")


@pytest.mark.usefixtures("ghost")
def test_a_backend_of_the_spec_that_is_missing_is_skipped_with_its_reason(suites):
    result, run = suites("-k", "clean or fgsm", backends=("ghost", "numpy"))
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=4, skipped=4)
    reason = registry.missing("ghost")
    result.stdout.fnmatch_lines(
        ["robustness: spec tiny*backends numpy*", f"robustness: skipped: {reason}"]
    )
    assert any("SKIPPED" in line and reason in line for line in result.outlines)
    for check, epsilon in (("clean", None), *(("fgsm", epsilon) for epsilon in EPSILONS)):
        record = of(run, check, epsilon, "ghost")
        assert (record.status, record.reason) == ("skipped", reason)
        assert of(run, check, epsilon).accuracy is not None
    assert run.verdict == "passed"


@pytest.mark.usefixtures("ghost")
def test_a_run_in_which_everything_was_skipped_has_failed(suites):
    result, run = suites(backends=["ghost"])
    result.assert_outcomes(skipped=16 + len(VALIDITY) + len(MAPS))
    assert set(outcomes(run, "status")) == {("skipped",)}
    assert len(run.records) == 16 + len(VALIDITY) + len(MAPS)
    assert (run.finished, run.verdict) == (True, "failed")
    result.stdout.fnmatch_lines(["robustness: spec tiny*backends none"])


@pytest.mark.usefixtures("ghost")
def test_a_backend_that_is_named_must_be_there(suites):
    result, run = suites("--backend", "ghost")
    assert (result.ret, run) == (pytest.ExitCode.USAGE_ERROR, None)
    assert one_error_line(result) == f"ERROR: {registry.missing('ghost')}"


def test_a_backend_that_is_named_is_measured_alone(suites):
    result, run = suites("-k", "clean", "--backend", "numpy", backends=["torch", "keras"])
    result.assert_outcomes(passed=1)
    assert outcomes(run, "backend") == [("numpy",)]


def test_a_backend_nobody_knows_is_a_usage_error(suites):
    for arguments, changes in ((("--backend", "theano"), {}), ((), {"backends": ["theano"]})):
        result, run = suites(*arguments, **changes)
        assert (result.ret, run) == (pytest.ExitCode.USAGE_ERROR, None)
        line = one_error_line(result)
        assert "theano" in line
        assert "the backends are torch, keras, numpy" in line


# Specs


def test_a_spec_that_is_not_there_is_a_usage_error(suites):
    for spec in ("tinny", "tinny.toml"):
        result, run = suites(spec=spec)
        assert (result.ret, run) == (pytest.ExitCode.USAGE_ERROR, None)
        assert spec in one_error_line(result)


def test_a_spec_that_is_wrong_is_a_usage_error(suites):
    result, run = suites(clean=(0.9, 0.1))
    assert (result.ret, run) == (pytest.ExitCode.USAGE_ERROR, None)
    line = one_error_line(result)
    assert "tiny.toml" in line
    assert "clean" in line


def test_a_spec_without_attacks_is_measured_without_them(suites, pytester):
    text = re.sub(r"\[attacks\.fgsm\]\n[^\n]*\n", "[attacks]\n", tiny_spec())
    text = text.partition("[targets.mlp.expect.attacks")[0]
    result, run = suites(spec=pytester.makefile(".toml", bare=text))
    # No epsilon is out of proportion where there is none.
    result.assert_outcomes(passed=len(CHECKS) + 3 + len(VALIDITY) + len(MAPS), skipped=1)
    assert not [record for record in run.records if record.epsilon is not None]
    assert run.verdict == "passed"


def test_every_attack_of_the_spec_is_swept_and_only_defences_are_asked_for_a_collapse(suites):
    attacks = "[attacks.pgd]\nepsilons = [0.0, 0.1]\n"
    _, run = suites("-k", "clean or pgd or collapse or fgsm", attacks=attacks)
    assert outcomes(run, "check", "epsilon") == [
        *(("fgsm", epsilon) for epsilon in EPSILONS), ("pgd", 0.0), ("pgd", 0.1), ("clean", None),
    ]  # fmt: skip
    assert of(run, "pgd", 0.1).correct <= of(run, "fgsm", 0.1).correct
    assert of(run, "pgd", 0.0).correct == of(run, "clean").correct


DEFENCE = """
[targets.mlp.training]
recipe = "fgsm-at"
epochs = 2
batch_size = 32
adversary = {epsilon = 0.1}
"""


def test_a_defence_is_asked_whether_it_collapsed(suites, pytester):
    text = re.sub(r"\n\[targets\.mlp\.training\]\n(.+\n)+", DEFENCE, tiny_spec(clean=(0.0, 1.0)))
    spec = pytester.makefile(".toml", defence=text)
    result, run = suites("-k", "collapse or clean", spec=spec)
    result.assert_outcomes(passed=2)
    assert outcomes(run, "check", "status") == [
        ("clean", "passed"),
        ("training/collapse", "passed"),
    ]
    (model,) = run.models
    assert all(epoch.pgd_accuracy is not None for epoch in model.history)


def test_a_defence_that_collapsed_fails(suites, pytester, monkeypatch):
    monkeypatch.setattr(
        "harness.training.probe", lambda *_: {"fgsm_accuracy": 0.9, "pgd_accuracy": 0.25}
    )
    text = re.sub(r"\n\[targets\.mlp\.training\]\n(.+\n)+", DEFENCE, tiny_spec(seed=77))
    spec = pytester.makefile(".toml", defence=text)
    result, run = suites("-k", "collapse", spec=spec)
    result.assert_outcomes(failed=1)
    record = of(run, "training/collapse")
    assert record.status == "failed"
    assert "0.9000 under FGSM, but 0.2500 under PGD" in record.reason


# Several processes


def comparable(run):
    return {record.key: record for record in run.records}


def test_several_processes_give_the_same_run_as_one(suites, pytester):
    pytest.importorskip("xdist")
    names = {"targets": ("mlp", "mlp-2"), "clean": (0.99, 1.0)}
    select = ("-k", "clean or fgsm or parity")
    _, alone = suites(*select, **names)
    stale = pytester.path / "results" / ".parts" / "gw7"
    stale_run = alone.model_copy(deep=True)
    stale_run.put(of(alone, "clean").model_copy(update={"target": "old"}))
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
    assert {(m.target, m.fingerprint) for m in together.models} == {
        (m.target, m.fingerprint) for m in alone.models
    }
    assert not (pytester.path / "results" / ".parts").exists()


# Everybody else's tests


def test_other_tests_are_none_of_its_business(pytester):
    """The plugin is in every session of this environment; it must not touch tests that are not its
    own, though they say ``target`` and ``epsilon`` too."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("target", ["numpy", "torch"])
        @pytest.mark.parametrize("epsilon", [1, 2])
        def test_fails(target, epsilon):
            assert target == "numpy"
        """
    )
    result = pytester.runpytest_inprocess(*QUICK)
    result.assert_outcomes(passed=2, failed=2)
    assert "robustness: " not in result.stdout.str()
    assert not (pytester.path / "results").exists()
