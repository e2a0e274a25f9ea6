"""Certificates in a session of the suites: a test per certifier and epsilon, if the spec asks."""

from __future__ import annotations

import numpy as np
import pytest
from inner_sessions import of, outcomes
from tiny_spec import tiny_spec

from harness.certification import ibp
from harness.results.run import Run

pytest_plugins = ["pytester"]
CERTIFIED = "[certified.ibp]\nepsilons = [0.0, 0.02, 0.05]\n"
RULE = "validity/certified-misclassified"


def test_a_spec_without_certificates_collects_none(suites):
    result, run = suites("-k", "test_certified")
    assert (result.ret, run) == (pytest.ExitCode.NO_TESTS_COLLECTED, None)


def test_each_epsilon_is_a_test_and_the_check_comes_after_them(suites):
    result, run = suites("-k", "certified or fgsm or pgd", attacks=CERTIFIED)
    result.assert_outcomes(passed=3 + 3 + 1)
    assert outcomes(run, "check", "epsilon", "status", "bound")[3:] == [
        ("certified/ibp", 0.0, "measured", "lower"),
        ("certified/ibp", 0.02, "measured", "lower"),
        ("certified/ibp", 0.05, "measured", "lower"),
        (RULE, None, "passed", None),
    ]
    for epsilon in (0.0, 0.02, 0.05):
        which = run.arrays[f"numpy/mlp/certified/ibp@{epsilon:g}/certified"]
        assert int(which.sum()) == of(run, "certified/ibp", epsilon).correct
    assert of(run, "certified/ibp", 0.02).accuracy > 0.1
    assert run.spec["certified"]["ibp"]["options"] == {"certifier": "IBP", "norm": "linf"}
    result.stdout.fnmatch_lines(["*certified accuracy in %*", "*certifier*", "* ibp *"])


def test_only_the_selected_epsilons_are_certified_in_one_call(suites, monkeypatch):
    calls = []
    certified = ibp.IBP.certified

    def noted(self, network, model, x, y, epsilons):
        calls.append(list(epsilons))
        return certified(self, network, model, x, y, epsilons)

    monkeypatch.setattr(ibp.IBP, "certified", noted)
    result, run = suites("-k", "ibp and not 05", attacks=CERTIFIED)
    result.assert_outcomes(passed=2)
    assert {tuple(call) for call in calls} == {(0.0, 0.02)}
    assert [record.epsilon for record in run.records] == [0.0, 0.02]


def test_a_certified_accuracy_out_of_its_range_fails(suites, pytester):
    text = tiny_spec(attacks=CERTIFIED)
    text += '[models.mlp.expect.certified.ibp]\n"0.02" = [0.999, 1.0]\n"0.05" = [0.0, 1.0]\n'
    spec = pytester.makefile(".toml", tiny=text)
    result, run = suites("-k", "test_certified", spec=spec)
    result.assert_outcomes(passed=2, failed=1)
    assert of(run, "certified/ibp", 0.05).status == "passed"
    failed = of(run, "certified/ibp", 0.02)
    assert (failed.status, failed.threshold) == ("failed", (0.999, 1.0))
    result.stdout.fnmatch_lines(["*numpy mlp certified/ibp eps=0.02: accuracy * is below 0.9990*"])


def test_several_processes_certify_as_one_does(suites):
    pytest.importorskip("xdist")
    arguments = {"attacks": CERTIFIED, "models": ("mlp", "mlp-2")}
    select = ("-k", "certified or fgsm")
    _, alone = suites(*select, **arguments)
    result, together = suites(*select, "-n", "2", **arguments)
    result.assert_outcomes(passed=14)
    assert {r.key: r for r in together.records} == {r.key: r for r in alone.records}
    for key, value in alone.arrays.items():
        np.testing.assert_array_equal(together.arrays[key], value)


def test_a_black_box_is_skipped_with_the_reason(suites, pytester):
    pytester.makepyfile(
        boxes="import harness\n\n\ndef box():\n"
        "    return harness.wrap_function(lambda x: x.reshape(len(x), -1)[:, :10], (0.0, 1.0))\n"
    )
    head = tiny_spec(attacks=CERTIFIED).partition("[models.")[0]
    spec = pytester.makefile(".toml", tiny=f'{head}[models.box]\nload = "boxes:box"\n')
    result, _ = suites("-k", "test_certified", "-rs", spec=spec)
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["*known layer by layer*"])
    run = Run.load(pytester.path / "results")
    assert {record.status for record in run.records} == {"skipped"}


def test_a_test_of_ones_own_is_asked_for_each_certifier_too(suites, pytester):
    own = pytester.makepyfile(
        test_mine="import pytest\n\n\n@pytest.mark.robustness_check('certified')\n"
        "def test_mine(robustness_model, certifier, epsilon, robustness_judge):\n"
        "    robustness_judge(robustness_model.certified(certifier, epsilon))\n"
    )
    result, run = suites("-k", "mine", suites=own, attacks=CERTIFIED, option="--robustness-spec")
    result.assert_outcomes(passed=3)
    assert outcomes(run, "check", "epsilon") == [
        ("certified/ibp", epsilon) for epsilon in (0.0, 0.02, 0.05)
    ]


def test_an_unknown_certifier_ends_the_session_before_anything_is_measured(suites):
    result, run = suites(attacks=CERTIFIED.replace("ibp", "ipb"))
    assert (result.ret, run) == (pytest.ExitCode.USAGE_ERROR, None)
    result.stderr.fnmatch_lines(["ERROR: *certified.ipb: no such certifier*did you mean ibp?"])
