"""Accuracy under each attack of the spec, at each of its epsilons."""

import pytest


@pytest.mark.check("attack")
def test_accuracy_under(target, attack, epsilon, judge):
    judge(target.attacked(attack, epsilon))
