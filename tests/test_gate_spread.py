"""Where a further run is expected: by hand, by simulation, and what makes the interval narrow."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import polygamma
from scipy.stats import norm

from harness.gate.paired import LEVEL, holm
from harness.gate.spread import _inverse_trigamma, predictions


def rows(*counts, images=100):
    """Outcomes (runs, images) of which so many are right, the first ones."""
    return np.array([np.arange(images) < count for count in counts])


def test_one_check_alone_is_the_textbook_interval():
    """mean ± t·s·√(1 + 1/n), where s is more than the floor: 60, 70 and 80 of 100."""
    (found,) = predictions([rows(60, 70, 80)])
    assert found.mean == pytest.approx(0.7)
    assert found.freedom == 2
    assert found.scale == pytest.approx(0.1 * np.sqrt(4 / 3))
    assert found.half_width(0.05) == pytest.approx(4.303 * 0.1 * np.sqrt(4 / 3), rel=1e-3)
    assert found.p_value(0.7 - found.half_width(0.05)) == pytest.approx(0.05)


def test_equal_accuracies_by_luck_do_not_make_the_interval_narrow():
    """Both runs have 50 of 100, but of other images: half of the variance of each is 1/2."""
    outcomes = np.array([np.arange(100) < 50, np.arange(100) >= 50])
    (found,) = predictions([outcomes])
    assert found.scale == pytest.approx(np.sqrt(0.5 / 100 * 1.5))


def test_where_no_image_ever_changed_one_still_may():
    (found,) = predictions([rows(100, 100, 100)])
    assert found.scale == pytest.approx(0.01 * np.sqrt(4 / 3))
    assert found.p_value(0.99) > 0.3


def test_a_spread_needs_two_runs():
    assert predictions([]) == []
    with pytest.raises(ValueError, match="two runs"):
        predictions([rows(50)])


def test_trigamma_is_inverted():
    for x in (1e-3, 0.3, 2.0, 50.0, 1e4):
        assert _inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x, rel=1e-6)


# By simulation: images are more or less hard, and a seed moves each on its own and all together.

PASSED = norm.ppf(np.linspace(0.05, 0.95, 12))[:, None, None] * np.sqrt(1 + 0.35**2)


def seeds(random, runs, images, moved, common):
    """Outcomes (12 checks, runs, images)."""
    shape = (len(PASSED), runs, images)
    of_all, own = random.standard_normal((1, runs, images)), random.standard_normal(shape)
    flips = np.sqrt(common) * of_all + np.sqrt(1 - common) * own
    all_images, each = random.standard_normal((1, runs, 1)), random.standard_normal((*shape[:2], 1))
    shift = moved * (np.sqrt(common) * all_images + np.sqrt(1 - common) * each)
    return random.standard_normal(images) + 0.35 * flips + shift < PASSED


@pytest.mark.parametrize("moved", [0.0, 0.05, 0.2])
@pytest.mark.parametrize("common", [0.0, 0.9])
def test_false_alarms_beside_five_seeds_are_at_most_one_in_a_hundred(moved, common):
    random = np.random.default_rng(int(100 * moved + 10 * common))
    alarms = 0
    for _ in range(400):
        outcomes = seeds(random, 6, 150, moved, common)
        expected = predictions(list(outcomes[:, :5]))
        found = [p.p_value(new.mean()) for p, new in zip(expected, outcomes[:, 5], strict=True)]
        alarms += bool((holm(found) <= LEVEL).any())
    assert alarms <= 4


def test_checks_that_are_alike_add_degrees_of_freedom_and_common_shifts_do_not():
    def median_freedom(moved):
        random = np.random.default_rng(0)
        found = [predictions(list(seeds(random, 5, 1000, moved, common=0.5)))[0] for _ in range(30)]
        return np.median([prediction.freedom for prediction in found])

    assert median_freedom(0.0) > 12
    assert 4 <= median_freedom(0.3) < 5


def test_the_same_check_many_times_over_tells_nothing_new():
    random = np.random.default_rng(1)
    one = seeds(random, 5, 400, 0.0, common=0.0)[5]
    alone, *many = predictions([one]) + predictions([one] * 20)
    # To the last bit or two, which hang on the version of NumPy.
    assert [p.freedom for p in (alone, *many)] == pytest.approx([4.0] * 21, rel=1e-12)
    assert many[0].scale == pytest.approx(alone.scale, rel=0.5)


def test_what_the_checks_tell_of_each_other_narrows_the_intervals():
    random = np.random.default_rng(2)
    outcomes = list(seeds(random, 5, 1000, 0.0, common=0.5))
    together = predictions(outcomes)
    alone = [predictions([runs])[0] for runs in outcomes]
    widths = [sum(p.half_width(LEVEL / 12) for p in them) for them in (together, alone)]
    assert widths[0] < 0.6 * widths[1]
