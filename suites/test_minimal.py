"""How far must each image be moved until it falls? A distribution, recorded without a threshold."""

import pytest


@pytest.mark.check("minimal-epsilon")
def test_minimal_epsilon(model, method, judge):
    judge(model.smallest_epsilon(method))
