"""The three suites of checks are found in one way."""

import pytest

from harness.checks import conformance, sanity, validity


@pytest.mark.parametrize("suite", [conformance, validity, sanity])
def test_a_suite_has_its_evidence_and_its_checks(suite):
    assert isinstance(suite.Evidence, type)
    assert suite.CHECKS
