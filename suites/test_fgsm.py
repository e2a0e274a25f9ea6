"""Accuracy under the fast gradient sign method, at each epsilon of the spec."""

import pytest


@pytest.mark.check("fgsm")
def test_fgsm_accuracy(target, epsilon, judge):
    judge(target.attacked("fgsm", epsilon))
