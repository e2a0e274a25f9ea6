"""Accuracy under each attack of the spec, at each of its epsilons."""

import pytest


@pytest.mark.check("attack")
def test_accuracy_under(model, attack, epsilon, judge):
    judge(model.attacked(attack, epsilon))
