"""Objectives: values and logit gradients computed by hand, finite differences, confident logits."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_models import linear

from harness.errors import MeasurementError
from harness.maths.objectives import (
    ClassLogit,
    CrossEntropy,
    Divergence,
    LogitRatio,
    LogOdds,
    Margin,
    TemperedLogOdds,
    Towards,
)

OBJECTIVES = (CrossEntropy(), LogOdds(), ClassLogit())


def mask(labels, classes):
    return np.arange(classes) == np.asarray(labels)[:, None]


def value(objective, logits, labels):
    logits = np.asarray(logits)
    return objective.value(np, logits, mask(labels, logits.shape[1]))


def gradient(objective, logits, labels):
    logits = np.asarray(logits)
    return objective.logit_gradient(np, logits, mask(labels, logits.shape[1]))


@st.composite
def batches(draw):
    n, k = draw(st.integers(1, 4)), draw(st.integers(2, 5))
    logits = draw(arrays(np.float64, (n, k), elements=st.floats(-5, 5, width=16)))
    return logits, draw(arrays(np.int64, n, elements=st.integers(0, k - 1)))


# Softmax of these logits is (1/6, 2/6, 3/6).
SIXTHS = np.log([1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("logits", "label", "loss", "slope"),
    [
        ([0.0, 0.0], 0, math.log(2), [-1 / 2, 1 / 2]),
        (SIXTHS, 0, math.log(6), [-5 / 6, 2 / 6, 3 / 6]),
        (SIXTHS, 1, math.log(3), [1 / 6, -4 / 6, 3 / 6]),
        (SIXTHS, 2, math.log(2), [1 / 6, 2 / 6, -3 / 6]),
        (SIXTHS + 100, 1, math.log(3), [1 / 6, -4 / 6, 3 / 6]),
    ],
)
def test_cross_entropy_of_small_examples(logits, label, loss, slope):
    np.testing.assert_allclose(value(CrossEntropy(), [logits], [label]), [loss], rtol=1e-12)
    np.testing.assert_allclose(gradient(CrossEntropy(), [logits], [label]), [slope], rtol=1e-12)


@pytest.mark.parametrize(
    ("logits", "label", "loss", "slope"),
    [
        ([0.0, 3.0], 0, 3.0, [-1, 1]),
        ([0.0, 3.0], 1, -3.0, [1, -1]),
        (SIXTHS, 0, math.log(5), [-1, 2 / 5, 3 / 5]),
        (SIXTHS, 2, math.log(3 / 3), [1 / 3, 2 / 3, -1]),
    ],
)
def test_log_odds_of_small_examples(logits, label, loss, slope):
    np.testing.assert_allclose(value(LogOdds(), [logits], [label]), [loss], atol=1e-12)
    np.testing.assert_allclose(gradient(LogOdds(), [logits], [label]), [slope], rtol=1e-12)


@settings(deadline=None, max_examples=50, database=None)
@given(batch=batches())
def test_log_odds_rise_in_the_direction_of_the_cross_entropy(batch):
    odds, loss = value(LogOdds(), *batch), value(CrossEntropy(), *batch)
    np.testing.assert_allclose(loss, np.log1p(np.exp(odds)), rtol=1e-9)
    slope = 1 / (1 + np.exp(-odds))
    np.testing.assert_allclose(
        gradient(CrossEntropy(), *batch), slope[:, None] * gradient(LogOdds(), *batch), atol=1e-12
    )


@pytest.mark.parametrize("margin", [1, 100, 1e4, 1e30])
def test_log_odds_stay_steep_however_confident_the_model_is(margin):
    logits = np.array([[margin, 0.0, math.log(3)]], dtype=np.float32)
    np.testing.assert_allclose(gradient(LogOdds(), logits, [0]), [[-1, 1 / 4, 3 / 4]], rtol=1e-6)


# Of these the softmax has 0.94 of the largest entropy; of twice as large ones 0.80.
SMALL = [0.9, 0.4, 0.1, 0.0]


def test_tempered_log_odds_of_a_small_example():
    # Their mean lies 0.55 below the first, so they are divided by T = 0.55 / 10: the others are
    # 80/11, 20/11 and 0.
    others = np.exp([80 / 11, 20 / 11, 0])
    expected = 0.55 / 10 * math.log(others.sum()) - 0.9
    np.testing.assert_allclose(value(TemperedLogOdds(), [SMALL], [0]), [expected], rtol=1e-9)
    slope = [[-1, *(others / others.sum())]]
    np.testing.assert_allclose(gradient(TemperedLogOdds(), [SMALL], [0]), slope, rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_where_the_softmax_is_not_nearly_uniform_they_are_the_log_odds_to_the_last_bit(dtype):
    random = np.random.default_rng(0)
    logits = (random.normal(size=(500, 10)) * 3 + 100).astype(dtype)
    labels = random.integers(10, size=500)
    for ask in (value, gradient):
        np.testing.assert_array_equal(
            ask(TemperedLogOdds(), logits, labels), ask(LogOdds(), logits, labels)
        )


@pytest.mark.parametrize("factor", [1e-3, 1e-6, 1e-20, 1e-37])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_logits_have_the_direction_of_their_shape_alone(factor, dtype):
    random = np.random.default_rng(0)
    logits, labels = random.normal(size=(50, 10)).astype(dtype), random.integers(10, size=50)
    first, smaller = (
        gradient(TemperedLogOdds(), dtype(f) * logits, labels) for f in (1e-2, factor)
    )
    np.testing.assert_allclose(smaller, first, atol=1e-4)
    assert smaller.dtype == dtype
    # In float64, since 7.001 in float32 keeps three digits only of what is not the 7.
    shifted = gradient(TemperedLogOdds(), 1e-3 * logits.astype(np.float64) + 7, labels)
    np.testing.assert_allclose(shifted, first, atol=1e-4)


@pytest.mark.parametrize("dead", [-1e2, -2e3, -1e9, -1e30])
@pytest.mark.parametrize("count", [1, 5, 50])
@pytest.mark.parametrize("factor", [1e-2, 1e-6])
def test_classes_that_cannot_win_do_not_change_the_direction_of_small_logits(dead, count, factor):
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(200, 10)), random.integers(10, size=200)
    masked = np.hstack([logits, np.full((200, count), dead)])
    alone = gradient(TemperedLogOdds(), factor * logits, labels)
    beside = gradient(TemperedLogOdds(), factor * masked, labels)
    # Three logits that nearly tie make others of the ten seem out of reach, too: rarely.
    same = np.abs(beside[:, :10] - alone).max(axis=1) < 1e-6
    assert same.mean() > 0.9
    np.testing.assert_allclose(beside[:, 10:], 0, atol=1e-4)


def test_the_class_logit_is_that_logit_and_its_gradient_one_hot():
    logits = [[1.5, -2.5, 4.0], [7.0, 8.0, 9.0]]
    assert value(ClassLogit(), logits, [1, 2]).tolist() == [-2.5, 9.0]
    assert gradient(ClassLogit(), logits, [1, 2]).tolist() == [[0, 1, 0], [0, 0, 1]]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
def test_examples_of_a_batch_do_not_touch_each_other(objective):
    logits, labels = np.array([[1.0, 2.0, -1.0], [30.0, 0.0, 3.0], [-5.0, 5.0, 0.0]]), [2, 1, 0]
    for row in range(3):
        alone = logits[[row]], labels[row : row + 1]
        assert value(objective, *alone)[0] == value(objective, logits, labels)[row]
        np.testing.assert_array_equal(
            gradient(objective, *alone)[0], gradient(objective, logits, labels)[row]
        )


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
@settings(deadline=None, max_examples=50, database=None)
@given(batch=batches())
def test_gradients_are_those_of_finite_differences(objective, batch):
    logits, labels = batch
    step = 1e-6
    expected = np.empty_like(logits)
    for column in range(logits.shape[1]):
        nudge = step * (np.arange(logits.shape[1]) == column)
        ahead, behind = (value(objective, logits + s * nudge, labels) for s in (1, -1))
        expected[:, column] = (ahead - behind) / (2 * step)
    np.testing.assert_allclose(gradient(objective, logits, labels), expected, atol=1e-8)


@settings(deadline=None, max_examples=50, database=None)
@given(batch=batches(), scale=st.sampled_from([1, 10, 1000]))
def test_rows_of_the_cross_entropy_gradient_sum_to_zero_and_only_the_true_class_falls(batch, scale):
    logits, labels = batch
    slope = gradient(CrossEntropy(), (scale * logits).astype(np.float32), labels)
    true = mask(labels, logits.shape[1])
    np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-6)
    assert np.all(slope[true] <= 0)
    assert np.all(slope[~true] >= 0)


@pytest.mark.parametrize("margin", [1, 10, 17, 40, 80])
def test_a_confident_example_keeps_an_accurate_gradient_in_float32(margin):
    # Beyond a margin of about 17, one minus the probability of the true class is exactly zero.
    slope = gradient(CrossEntropy(), np.array([[margin, 0, 0]], np.float32), [0])
    other = math.exp(-margin) / (1 + 2 * math.exp(-margin))
    assert slope.dtype == np.float32
    np.testing.assert_allclose(slope.astype(float), [[-2 * other, other, other]], rtol=1e-6)


def test_a_confidently_wrong_example_has_the_full_gradient_and_the_margin_as_loss():
    logits = np.array([[0, 40, 0]], np.float32)
    np.testing.assert_allclose(value(CrossEntropy(), logits, [0]), [40])
    np.testing.assert_allclose(gradient(CrossEntropy(), logits, [0]), [[-1, 1, 0]], atol=1e-7)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_overflow_nothing(objective, dtype):
    logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        values, slope = value(objective, logits, [0] * 4), gradient(objective, logits, [0] * 4)
    assert np.isfinite(values).all()
    assert np.isfinite(slope).all()
    assert values.dtype == slope.dtype == dtype
    if objective == CrossEntropy():
        np.testing.assert_allclose(values, [0, 2e4, math.log(3), math.log(3)], rtol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.name)
def test_logits_are_not_changed(objective):
    logits = np.array([[1.0, 2.0, 3.0]])
    logits.flags.writeable = False
    value(objective, logits, [0])
    gradient(objective, logits, [0])


# Margins and their ratios, and what pulls towards a class


def signs(labels, goals, classes):
    """1 at the goal, -1 at the true class."""
    return mask(goals, classes) * 1.0 - mask(labels, classes)


@st.composite
def distinct(draw):
    """Logits of which no two are alike, so that the objectives have a slope; labels and goals."""
    n, k = draw(st.integers(1, 4)), draw(st.integers(4, 6))
    rows = [draw(st.permutations(range(k))) for _ in range(n)]
    noise = draw(arrays(np.float64, (n, k), elements=st.floats(0, 0.5, width=16)))
    labels = draw(arrays(np.int64, n, elements=st.integers(0, k - 1)))
    further = draw(arrays(np.int64, n, elements=st.integers(1, k - 1)))
    return np.array(rows) + noise, labels, (labels + further) % k


def masks(objective, labels, goals, classes):
    if isinstance(objective, Towards):
        return signs(labels, goals, classes)
    return mask(labels, classes)


LEADS = (
    Margin(), LogitRatio(), Towards("cross-entropy"), Towards("margin"), Towards("dlr"),
    TemperedLogOdds(), Towards("tempered-cross-entropy"),
)  # fmt: skip
LOGITS = [3.0, 5.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("objective", "label", "goal", "lead", "slope"),
    [
        (Margin(), 0, None, 2.0, [-1, 1, 0, 0]),
        (Margin(), 1, None, -2.0, [1, -1, 0, 0]),
        (LogitRatio(), 1, None, -2 / 4, [1 / 4, -2 / 16, -2 / 16, 0]),
        (LogitRatio(), 0, None, 2 / 4, [-1 / 4, 2 / 16, 2 / 16, 0]),
        (Towards("margin"), 1, 2, -4.0, [0, -1, 1, 0]),
        # The scale is 5 - (1 + 0) / 2.
        (Towards("dlr"), 1, 0, -2 / 4.5, [1 / 4.5, -2.5 / 4.5**2, -1 / 4.5**2, -1 / 4.5**2]),
        (Towards("cross-entropy"), 1, 3, -math.log(math.exp(3) + math.exp(5) + math.e),
         [*(-np.exp([3, 5, 1]) / np.exp([3, 5, 1]).sum()), 1]),
    ],
)  # fmt: skip
def test_leads_of_a_small_example(objective, label, goal, lead, slope):
    logits, given_ = np.array([LOGITS]), masks(objective, [label], [goal or 0], 4)
    np.testing.assert_allclose(objective.value(np, logits, given_), [lead], rtol=1e-9)
    found = objective.logit_gradient(np, logits, given_)
    np.testing.assert_allclose(found, [slope], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", LEADS, ids=lambda o: o.name)
@settings(deadline=None, max_examples=50, database=None)
@given(batch=distinct())
def test_gradients_of_leads_are_those_of_finite_differences(objective, batch):
    logits, labels, goals = batch
    given_ = masks(objective, labels, goals, logits.shape[1])
    step = 1e-6
    expected = np.empty_like(logits)
    for column in range(logits.shape[1]):
        nudge = step * (np.arange(logits.shape[1]) == column)
        ahead, behind = (objective.value(np, logits + s * nudge, given_) for s in (1, -1))
        expected[:, column] = (ahead - behind) / (2 * step)
    found = objective.logit_gradient(np, logits, given_)
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert found.dtype == objective.value(np, logits, given_).dtype == np.float64


@settings(deadline=None, max_examples=50, database=None)
@given(batch=distinct())
def test_a_margin_is_positive_exactly_where_the_answer_is_wrong(batch):
    logits, labels, _ = batch
    wrong = logits.argmax(axis=1) != labels
    for objective in (Margin(), LogitRatio(), LogOdds()):
        found = value(objective, logits, labels) > 0
        assert (found[wrong]).all()  # log-odds are positive below one half, too
        assert objective == LogOdds() or (found == wrong).all()


@pytest.mark.parametrize("objective", [LogitRatio(), Towards("dlr")], ids=lambda o: o.name)
@settings(deadline=None, max_examples=50, database=None)
@given(batch=distinct(), shift=st.floats(-10, 10), scale=st.floats(0.01, 100))
def test_a_ratio_does_not_change_when_logits_are_shifted_or_scaled(objective, batch, shift, scale):
    logits, labels, goals = batch
    given_ = masks(objective, labels, goals, logits.shape[1])
    before = objective.value(np, logits, given_)
    after = objective.value(np, scale * logits + shift, given_)
    np.testing.assert_allclose(after, before, rtol=1e-8, atol=1e-9)


def test_where_rivals_tie_they_share_the_slope():
    found = gradient(Margin(), [[0.0, 2.0, 2.0, 1.0]], [0])
    assert found.tolist() == [[-1, 0.5, 0.5, 0]]


@pytest.mark.parametrize("objective", LEADS, ids=lambda o: o.name)
@pytest.mark.parametrize("row", [[0.0] * 4, [1e4, -1e4, 0, 0], [-1e4, 1e4, 1e4, 1e4]])
def test_leads_of_extreme_and_of_equal_logits_are_finite(objective, row):
    logits = np.array([row], np.float32)
    given_ = masks(objective, [0], [1], 4)
    given_ = given_ if given_.dtype == bool else given_.astype(np.float32)
    assert np.isfinite(objective.value(np, logits, given_)).all()
    assert np.isfinite(objective.logit_gradient(np, logits, given_)).all()
    assert objective.logit_gradient(np, logits, given_).dtype == np.float32


@pytest.mark.parametrize(
    ("objective", "classes", "least"),
    [(LogitRatio(), 2, "three"), (Towards("dlr"), 3, "four")],
    ids=["dlr", "targeted-dlr"],
)
def test_a_ratio_needs_enough_classes(objective, classes, least):
    logits = np.zeros((1, classes))
    given_ = masks(objective, [0], [1], classes)
    for ask in (objective.value, objective.logit_gradient):
        with pytest.raises(MeasurementError, match=rf"dlr needs {least} classes or more; use mar"):
            ask(np, logits, given_)


@pytest.mark.parametrize("backend", ["torch", "keras", "jax"])
@pytest.mark.parametrize("objective", LEADS, ids=lambda o: o.name)
def test_leads_are_the_same_in_every_framework(backend, objective):
    """A linear model of the identity, whose input gradient is that of its logits."""
    model = linear(np.eye(4), bounds=(-9, 9), backend=backend)
    exact = linear(np.eye(4), bounds=(-9, 9))
    x, labels = np.array([LOGITS, [0.5, -1.5, 2.0, 2.5]]), np.array([1, 3])
    given_ = signs(labels, [0, 2], 4) if isinstance(objective, Towards) else labels
    found = model.logits_and_gradient(model.asarray(x), model.asarray(given_), objective)
    expected = exact.logits_and_gradient(x, given_, objective)
    for ours, theirs in zip(map(model.numpy, found), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-15)


# Divergence, of which the given is a distribution instead of a mask


THIRD = 1 / 3
KL_OF_THIRDS = -math.log(3) - (math.log(1 / 6) + math.log(2 / 6) + math.log(3 / 6)) / 3


@pytest.mark.parametrize(
    ("logits", "given_", "divergence", "slope"),
    [
        (SIXTHS, [1 / 6, 2 / 6, 3 / 6], 0.0, [0, 0, 0]),
        (SIXTHS, [THIRD] * 3, KL_OF_THIRDS, [-1 / 6, 0, 1 / 6]),
        (SIXTHS, [1, 0, 0], math.log(6), [-5 / 6, 2 / 6, 3 / 6]),
        (SIXTHS - 100, [0, 0.5, 0.5], math.log(1.5) / 2, [1 / 6, -1 / 6, 0]),
    ],
)
def test_divergence_of_small_examples(logits, given_, divergence, slope):
    logits, given_ = np.array([logits]), np.array([given_], float)
    np.testing.assert_allclose(Divergence().value(np, logits, given_), [divergence], atol=1e-12)
    np.testing.assert_allclose(Divergence().logit_gradient(np, logits, given_), [slope], atol=1e-12)


@settings(deadline=None, max_examples=50, database=None)
@given(batch=batches(), seed=st.integers(0, 2**32 - 1))
def test_the_gradient_of_the_divergence_is_that_of_finite_differences(batch, seed):
    logits, _ = batch
    given_ = np.random.default_rng(seed).dirichlet(np.ones(logits.shape[1]), len(logits))
    step = 1e-6
    expected = np.empty_like(logits)
    for column in range(logits.shape[1]):
        nudge = step * (np.arange(logits.shape[1]) == column)
        ahead, behind = (Divergence().value(np, logits + s * nudge, given_) for s in (1, -1))
        expected[:, column] = (ahead - behind) / (2 * step)
    found = Divergence().logit_gradient(np, logits, given_)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    assert (Divergence().value(np, logits, given_) >= -1e-12).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_divergence_of_extreme_logits_overflows_nothing(dtype):
    logits = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4]], dtype)
    given_ = np.array([[0, 1, 0], [0.5, 0.5, 0]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        values = Divergence().value(np, logits, given_)
        slope = Divergence().logit_gradient(np, logits, given_)
    np.testing.assert_allclose(values, [2e4, math.log(1.5)], rtol=1e-6)
    np.testing.assert_allclose(slope, [[1, -1, 0], [-1 / 6, -1 / 6, 1 / 3]], atol=1e-6)
    assert values.dtype == slope.dtype == dtype
