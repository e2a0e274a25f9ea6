"""How far must each image be moved to be misclassified? A distribution, without a threshold."""

import pytest


@pytest.mark.check("minimal-epsilon")
def test_minimal_epsilon(model, method, judge):
    judge(model.smallest_epsilon(method))
