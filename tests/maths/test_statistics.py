"""Intervals: Wilson's against values from his formula by hand."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.maths.statistics import wilson

Z95, Z99 = 1.9599639845400545, 2.5758293035489004


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        (50, 100, 0.4038, 0.5962),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 1, 0.2065, 1.0),
        (1, 10, 0.0179, 0.4042),
        (6860, 7000, 0.97645, 0.98303),
    ],
)
def test_wilson_intervals_known_by_hand(correct, total, low, high):
    assert wilson(correct, total) == pytest.approx((low, high), abs=5e-5)


def test_none_or_all_correct_have_the_closed_form():
    for n in (1, 10, 1000):
        for confidence, z in ((0.95, Z95), (0.99, Z99)):
            end = z * z / (n + z * z)
            assert wilson(0, n, confidence) == pytest.approx((0, end), abs=1e-12)
            assert wilson(n, n, confidence) == pytest.approx((1 - end, 1), abs=1e-12)


@pytest.mark.parametrize(("correct", "total"), [(0, 0), (-1, 10), (11, 10), (1, 0), (0, -1)])
def test_counts_that_are_no_proportion_are_refused_in_one_line(correct, total):
    with pytest.raises(ValueError, match=rf"^{correct} of {total} is not a proportion$"):
        wilson(correct, total)


proportions = st.integers(1, 100_000).flatmap(
    lambda total: st.tuples(st.integers(0, total), st.just(total))
)


@settings(deadline=None, max_examples=100, database=None)
@given(proportion=proportions)
def test_the_interval_holds_the_proportion_and_mirrors_its_complement(proportion):
    correct, total = proportion
    low, high = wilson(correct, total)
    assert 0 <= low <= high <= 1
    assert low - 1e-12 <= correct / total <= high + 1e-12
    assert wilson(total - correct, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)


@settings(deadline=None, max_examples=50, database=None)
@given(proportion=proportions)
def test_the_ends_are_where_the_score_test_just_rejects(proportion):
    # Wilson's interval holds each p with |correct / total - p| <= z * sqrt(p * (1 - p) / total).
    correct, total = proportion
    for end in wilson(correct, total):
        distance = abs(correct / total - end)
        assert distance == pytest.approx(Z95 * math.sqrt(end * (1 - end) / total), abs=1e-9)
