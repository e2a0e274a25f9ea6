"""Sessions in which something fails: a threshold, a test, an attack, the training, the disk."""

from __future__ import annotations

import errno

import pytest
from inner_sessions import MAPS, SUITES, of, outcomes
from tiny_spec import EPSILONS

import harness.evaluation.benchmark
from backends.numpy_backend import NumpyTrainer
from harness.attacks import ATTACKS
from harness.checks.conformance import CHECKS
from harness.checks.validity import CHECKS as VALIDITY
from harness.errors import DataError
from harness.evaluation.request import REFUSED
from harness.results.run import Run

pytest_plugins = ["pytester"]


# What fails


def test_a_missed_threshold_fails_the_test_and_is_in_the_run(suites):
    result, run = suites(clean=(0.99, 1.0), fgsm=(0.0, 0.001))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    # There are no certificates to hold attacks against.
    result.assert_outcomes(failed=2, passed=13 + len(VALIDITY) + len(MAPS), skipped=1)
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
    result.assert_outcomes(failed=4, passed=10 + len(VALIDITY) + len(MAPS), skipped=2)
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
    result.assert_outcomes(failed=4)
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
        ("robustness_judge(robustness_model.clean())", "passed"),
        ("robustness_model.clean()", "measured"),
    ],
    ids=["judged", "measured"],
)
def test_a_test_that_fails_after_its_record_was_put_is_an_error(suites, pytester, body, before):
    text = """
        import pytest

        @pytest.mark.robustness_check("clean")
        def test_clean(robustness_model, robustness_judge):
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
        def test_clean(robustness_model, robustness_judge):
            try:
                robustness_judge(robustness_model.clean())
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
    def refuses(*asked):
        raise DataError("digits: no data today")

    monkeypatch.setattr(harness.evaluation.benchmark, "load_dataset", refuses)
    result, run = suites()
    assert result.ret == REFUSED == 64
    assert "digits: no data today" in result.stdout.str() + result.stderr.str()
    assert "Traceback" not in result.stdout.str()
    assert run is None or run.verdict == "failed"
