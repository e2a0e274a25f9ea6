"""Does each model keep the protocol? The checks are those of ``harness.checks.conformance``."""

import pytest

from harness.checks.conformance import CHECKS


@pytest.mark.check("conformance")
@pytest.mark.parametrize("rule", CHECKS)
def test_conformance(model, rule, judge):
    judge(model.checked("conformance", rule))
