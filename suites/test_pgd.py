"""Accuracy under projected gradient descent, 40 steps, at each epsilon of the spec."""

import pytest


@pytest.mark.check("pgd")
def test_pgd_accuracy(target, epsilon, judge):
    judge(target.attacked("pgd", epsilon))
