"""Certified accuracy by each certifier of the spec, at each of its epsilons: a lower bound."""

import pytest


@pytest.mark.check("certified")
def test_certified_accuracy(model, certifier, epsilon, judge):
    judge(model.certified(certifier, epsilon))
