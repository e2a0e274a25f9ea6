"""The paired tests: against SciPy, published and hand-computed numbers, and by simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gate_runs import run_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from harness.gate import Baseline, compare
from harness.gate.paired import LEVEL, difference_interval, holm, mcnemar
from harness.gate.power import CHANGED, IMAGES, detectable_drop, power


def test_the_exact_p_value_is_scipys():
    for lost, gained in ((0, 0), (1, 0), (3, 3), (2, 9), (40, 12), (0, 700)):
        moved = lost + gained
        expected = binomtest(lost, moved).pvalue if moved else 1.0
        assert mcnemar(lost, gained) == pytest.approx(expected, rel=1e-9)


def test_p_values_are_computed_for_arrays_of_any_shape():
    lost, gained = np.array([[0, 1], [5, 0]]), np.array([[0, 1], [0, 5]])
    np.testing.assert_allclose(mcnemar(lost, gained), [[1, 1], [2 / 32, 2 / 32]])


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([[0.5, 0.9], [0.2, 0.001]]), [[1.0, 1.0], [0.2, 0.002]])
    assert holm([]).size == 0


@pytest.mark.parametrize(
    ("both", "lost", "gained", "neither", "low", "high"),
    [
        # Newcombe 1998b, method 10, for the opposite difference.
        (20, 12, 2, 16, -0.3292, -0.0562),
        (36, 12, 2, 0, -0.3404, -0.0569),
    ],
)
def test_the_interval_is_the_published_one(both, lost, gained, neither, low, high):
    found = difference_interval(both, lost, gained, neither)
    assert found == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


counts = st.integers(0, 200)


@settings(deadline=None, database=None, max_examples=60)
@given(counts, counts, counts, counts)
def test_the_interval_holds_the_difference_and_turns_with_the_sides(both, lost, gained, neither):
    n = both + lost + gained + neither
    if n == 0:
        with pytest.raises(ValueError, match="0"):
            difference_interval(both, lost, gained, neither)
        return
    low, high = difference_interval(both, lost, gained, neither)
    assert -1 <= low <= (gained - lost) / n <= high <= 1
    assert low < high
    assert difference_interval(both, gained, lost, neither) == pytest.approx((-high, -low))


def test_the_interval_covers_the_true_difference_as_often_as_it_says():
    random = np.random.default_rng(0)
    shares = np.array([0.6, 0.06, 0.02, 0.32])
    drawn = random.multinomial(150, shares, size=600)
    held = [
        low <= -0.04 <= high for low, high in (difference_interval(*map(int, d)) for d in drawn)
    ]
    assert 0.93 <= np.mean(held) <= 0.99


# By simulation

CHECKS = 30


def drawn_pairs(random, gates, images, change, drop=0.0):
    """Lost and gained images of so many gates, (gates, checks); only the first check drops."""
    drops = np.where(np.arange(CHECKS) == 0, drop, 0.0)
    moved = random.binomial(images, change, size=(gates, CHECKS))
    lost = random.binomial(moved, (1 + drops / change) / 2)
    return lost, moved - lost


@pytest.mark.parametrize("images", [100, 1000, 7000])
@pytest.mark.parametrize("change", [0.005, 0.02, 0.1])
def test_false_alarms_are_at_most_one_in_a_hundred_gates(images, change):
    """Even without a tolerance, and over both directions and all checks of a gate together."""
    lost, gained = drawn_pairs(np.random.default_rng(images), 4000, images, change)
    alarms = (holm(mcnemar(lost, gained)) <= LEVEL).any(axis=1)
    assert alarms.mean() <= 0.01


def test_false_alarms_of_the_gate_as_a_whole(monkeypatch):
    """The same through ``compare``, 500 pairs of runs, with correlated checks."""
    monkeypatch.setattr("harness.gate.significance.difference_interval", lambda *_: (0.0, 0.0))
    random, failed = np.random.default_rng(1), 0
    for _ in range(500):
        hard = random.random(500)
        first, second = hard + 0.03 * random.standard_normal((2, 500))
        checks = {"clean": 0.9, "fgsm@0.1": 0.6, "pgd@0.1": 0.5, "fgsm@0.2": 0.2}
        old = run_of({name: first < share for name, share in checks.items()})
        new = run_of({name: second < share for name, share in checks.items()})
        failed += not compare(new, Baseline.of(old), tolerance=0.0).passed
    assert failed <= 5


@pytest.mark.parametrize("change", [0.01, 0.015, 0.02])
def test_a_drop_of_a_point_on_7000_images_is_caught(change):
    lost, gained = drawn_pairs(np.random.default_rng(2), 2000, 7000, change, drop=0.01)
    significant = holm(mcnemar(lost, gained))[:, 0] <= LEVEL
    caught = significant & (lost[:, 0] - gained[:, 0] > 0.005 * 7000)
    assert caught.mean() >= 0.95


def test_the_computed_power_is_the_simulated_one():
    lost, gained = drawn_pairs(np.random.default_rng(3), 4000, 1000, 0.05, drop=0.03)
    caught = (mcnemar(lost, gained)[:, 0] <= LEVEL / CHECKS) & (lost - gained > 5)[:, 0]
    assert power(0.03, 1000, 0.05, checks=CHECKS) == pytest.approx(caught.mean(), abs=0.03)


def test_the_detectable_drop_is_the_smallest_that_is_caught():
    found = detectable_drop(7000, 0.02)
    assert found < 0.01  # a point, as promised
    assert power(found, 7000, 0.02) >= 0.95 > power(found - 1e-4, 7000, 0.02)
    assert detectable_drop(100, 0.05) is None
    assert detectable_drop(50_000, 0.02) < found
    assert detectable_drop(7000, 0.02, tolerance=0.02) is None


def test_a_drop_needs_as_many_images_to_change():
    with pytest.raises(ValueError, match=r"not 0\.01"):
        power(0.02, 100, 0.01)


def test_the_documented_table_is_the_computed_one():
    text = (Path(__file__).parents[2] / "docs" / "gate.md").read_text(encoding="utf-8")
    table = text.partition("| images | 0.5 %")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) == len(IMAGES)
    for images, line in zip(IMAGES, table, strict=True):
        first, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        drops = [detectable_drop(images, share) for share in CHANGED]
        assert first == f"{images:,}"
        assert cells == ["-" if drop is None else f"{100 * drop:.2f}" for drop in drops]
