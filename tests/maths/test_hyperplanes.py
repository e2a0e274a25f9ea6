"""The shortest way to a hyperplane within a box: by hand, by another method, and out of reach."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.maths.hyperplanes import shortest_change
from harness.maths.norms import NORMS
from harness.maths.pieces import Place

HERE = Place(None, on_host=True)


def change(x, normal, rise, norm, bounds=(0.0, 1.0)):
    x, normal = np.atleast_2d(np.array(x, float)), np.atleast_2d(np.array(normal, float))
    return shortest_change(HERE, x, normal, np.atleast_1d(np.array(rise, float)), bounds, norm)


@pytest.mark.parametrize(
    ("norm", "rise", "expected"),
    [
        # Without the box: both pixels by 7 / (3 + 4), or by 7 / 25 of the normal.
        ("linf", 0.7, [0.1, 0.1]),
        ("l2", 0.5, [0.06, 0.08]),
        ("linf", -0.7, [-0.1, -0.1]),
        ("l2", 0.0, [0.0, 0.0]),
        # The second pixel meets the box after 0.2, then the first goes on alone: 3 d = 1.7 - 0.8.
        ("linf", 1.4, [0.2, 0.2]),
        ("linf", 1.7, [0.3, 0.2]),
        ("l2", 1.7, [0.3, 0.2]),
        # Out of reach: to the corner.
        ("linf", 9.0, [0.9, 0.2]),
        ("l2", 9.0, [0.9, 0.2]),
    ],
)
def test_by_hand(norm, rise, expected):
    np.testing.assert_allclose(change([0.1, 0.8], [3, 4], rise, norm), [expected], atol=1e-12)


def test_a_pixel_at_the_end_of_the_box_stays_and_one_without_a_slope_too():
    np.testing.assert_allclose(
        change([1, 0.5, 0.5], [5, 1, 0], 0.25, "linf"), [[0, 0.25, 0]], atol=1e-12
    )
    np.testing.assert_allclose(
        change([1, 0.5, 0.5], [-5, 0, 0], 0.0, "l2"), [[0, 0, 0]], atol=1e-12
    )
    np.testing.assert_array_equal(change([0.5, 0.5], [0, 0], 1.0, "linf"), [[0, 0]])


def bisected(x, normal, rise, norm, bounds):
    """The same for one point by halving: each pixel's change follows from how far they go."""
    low, high = bounds
    direction = np.sign(rise) * (normal if norm == "l2" else np.sign(normal))

    def at(reach):
        return np.clip(x + reach * direction, low, high) - x

    ends = [0.0, 1e9]
    for _ in range(200):
        middle = sum(ends) / 2
        ends[int(abs(normal @ at(middle)) >= abs(rise))] = middle
    return at(ends[1])


@settings(deadline=None, max_examples=200, database=None)
@given(
    seed=st.integers(0, 2**32 - 1), norm=st.sampled_from(sorted(NORMS)),
    share=st.floats(-1.2, 1.2), bounds=st.sampled_from([(0.0, 1.0), (-1.0, 2.0), (0.0, 255.0)]),
    slope=st.sampled_from([1.0, 1e-20, 1e20]),
)  # fmt: skip
def test_it_is_what_halving_finds(seed, norm, share, bounds, slope):
    random = np.random.default_rng(seed)
    low, high = bounds
    x = random.uniform(low, high, size=(5, 12))
    x[random.random(x.shape) < 0.3] = low
    x[random.random(x.shape) < 0.1] = high
    normal = random.normal(size=x.shape) * slope
    normal[random.random(x.shape) < 0.2] = 0
    room = np.where(np.sign(share) * normal > 0, high - x, x - low)
    rise = share * np.sum(np.abs(normal) * room, axis=1)  # beyond one it is out of reach
    found = change(x, normal, rise, norm, bounds)
    expected = [
        bisected(*one, norm, bounds) for one in zip(x, normal / slope, rise / slope, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7 * (high - low))


def test_each_row_is_the_same_alone():
    random = np.random.default_rng(0)
    x, normal, rise = random.random((40, 9)), random.normal(size=(40, 9)), random.normal(size=40)
    for norm in NORMS:
        together = change(x, normal, rise, norm)
        alone = [change(*one, norm)[0] for one in zip(x, normal, rise, strict=True)]
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)


def test_nan_is_not_hidden():
    assert np.isnan(change([0.5, 0.5], [1, 2], np.nan, "linf")).any()
    assert np.isnan(change([0.5, 0.5], [np.nan, 2], 1.0, "l2")).any()
