"""Checks as tests of an author's own: each by its name, what is known to fail, what cannot be."""

from __future__ import annotations

import pytest

from harness.checks import conformance
from harness.checks.conformance import CHECKS
from harness.errors import HarnessError
from harness.testing import parametrize_with_checks

pytest_plugins = ["pytester"]
HEAD = """
import numpy as np
from backends.numpy_backend import NumpyBackend
from harness.checks import conformance
from harness.networks.initial import initial_weights
from harness.protocol import Network, fully_connected
from harness.testing import parametrize_with_checks

NET = fully_connected((4, 4), (8,), 3)
MODEL = NumpyBackend().build(Network(NET, initial_weights(NET, seed=0)))
X = np.random.default_rng(0).random((16, 4, 4), dtype=np.float32)
Y = np.arange(16) % 3


class Forgets:
    def __getattr__(self, name):
        return getattr(MODEL, name)

    def logits(self, x):
        return MODEL.logits(x)[:, :1]


"""


@pytest.fixture
def outcomes(pytester):
    def run(model, options=""):
        pytester.makepyfile(
            HEAD + f"@parametrize_with_checks([conformance.Evidence({model}, X, Y)]{options})\n"
            "def test_mine(evidence, check):\n    check(evidence)\n"
        )
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-rfsxX")

    return run


def test_each_check_is_a_test_and_what_cannot_be_compared_is_skipped(outcomes):
    result = outcomes("MODEL")
    # Without float64 weights and an oracle three of the checks have nothing to compare with.
    result.assert_outcomes(passed=len(CHECKS) - 3, skipped=3)
    result.stdout.fnmatch_lines(["*SKIPPED*the network cannot be rebuilt in float64"])


def test_a_check_that_fails_says_so_in_one_line(outcomes):
    result = outcomes("Forgets()")
    result.stdout.fnmatch_lines(["*FAILED*test_mine*shapes*"])
    assert "Traceback" not in result.stdout.str()
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_what_is_known_to_fail_is_expected_to(outcomes):
    result = outcomes("MODEL", ", expected_failed_checks={'shapes': 'not yet'}")
    result.assert_outcomes(failed=1, passed=len(CHECKS) - 4, skipped=3)  # since it passes
    result.stdout.fnmatch_lines(["*XPASS(strict)*not yet*"])


def test_a_name_that_no_check_has_and_what_is_no_evidence_are_one_line():
    with pytest.raises(HarnessError, match=r"shape: no such check; did you mean shapes\?$"):
        parametrize_with_checks(
            [conformance.Evidence(None, None, None)], expected_failed_checks={"shape": "x"}
        )
    with pytest.raises(
        HarnessError, match=r"^int is not the evidence of a suite; pass conformance.Evidence, "
    ):
        parametrize_with_checks([3])
