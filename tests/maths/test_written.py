"""How epsilons are written for people."""

from __future__ import annotations

import pytest

from harness.maths.norms import written


@pytest.mark.parametrize(
    ("epsilon", "expected"),
    [
        (0.0, "0"),
        (0.1, "0.1"),
        (0.3, "0.3"),
        (0.0025, "0.0025"),
        (51 / 255, "0.2"),
        (8 / 255, "8/255"),
        (0.5 / 255, "0.5/255"),
        (255.0, "255"),
        (float("0.0313725"), "8/255"),
        (0.031373, "0.031373"),
        (1 / 3, "85/255"),
        (0.0123456, "0.0123456"),
        (3.14159, "3.14159"),
        (1e-9, "1e-09"),
        (1.23456e-9, "1.23456e-09"),
    ],
)
def test_an_epsilon_is_a_short_number_or_a_count_of_levels(epsilon, expected):
    assert written(epsilon) == expected
