"""Can the robustness numbers be trusted? The checks are those of ``harness.checks.validity``."""

import pytest

from harness.checks.validity import CHECKS


@pytest.mark.check("validity")
@pytest.mark.parametrize("rule", CHECKS)
def test_validity(model, rule, judge):
    judge(model.checked("validity", rule))
