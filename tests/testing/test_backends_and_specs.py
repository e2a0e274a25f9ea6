"""Backends and specs that a session is given: missing, wrong, bare, and with defences."""

from __future__ import annotations

import re

import pytest
from inner_sessions import MAPS, of, one_error_line, outcomes
from tiny_spec import EPSILONS, tiny_spec

from harness import registry
from harness.checks.conformance import CHECKS
from harness.checks.validity import CHECKS as VALIDITY

pytest_plugins = ["pytester"]


# Backends


def test_a_framework_that_does_not_import_leaves_the_others_measured(suites, pytester, monkeypatch):
    pytester.makepyfile(broken_framework="raise ImportError('wrong engine:\\njax')")
    pytester.syspathinsert()
    entry = registry.BackendEntry("broken_framework", "Broken")
    monkeypatch.setattr(registry, "BACKENDS", {"broken": entry, **registry.BACKENDS})
    result, run = suites("-k", "clean or fgsm", backends=("broken", "numpy"))
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4, failed=4)
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
        assert "the backends are torch, keras, jax, numpy" in line


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
    text = text.partition("[models.mlp.expect.attacks")[0]
    result, run = suites(spec=pytester.makefile(".toml", bare=text))
    # No epsilon is out of proportion where there is none, and nothing is certified.
    result.assert_outcomes(passed=len(CHECKS) + 3 + len(VALIDITY) - 1 + len(MAPS), skipped=2)
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
[models.mlp.training]
recipe = "fgsm-at"
epochs = 2
batch_size = 32
adversary = {epsilon = 0.1}
"""


def test_a_defence_is_asked_whether_it_collapsed(suites, pytester):
    text = re.sub(r"\n\[models\.mlp\.training\]\n(.+\n)+", DEFENCE, tiny_spec(clean=(0.0, 1.0)))
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
        "harness.training.loop.probe", lambda *_: {"fgsm_accuracy": 0.9, "pgd_accuracy": 0.25}
    )
    text = re.sub(r"\n\[models\.mlp\.training\]\n(.+\n)+", DEFENCE, tiny_spec(seed=77))
    spec = pytester.makefile(".toml", defence=text)
    result, run = suites("-k", "collapse", spec=spec)
    result.assert_outcomes(failed=1)
    record = of(run, "training/collapse")
    assert record.status == "failed"
    assert "0.9000 under FGSM, but 0.2500 under PGD" in record.reason
