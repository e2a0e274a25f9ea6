"""Clean accuracy: the share of unperturbed test images that are classified correctly."""

import pytest


@pytest.mark.check("clean")
def test_clean_accuracy(model, judge):
    judge(model.clean())
