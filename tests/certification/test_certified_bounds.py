"""No logit and no margin leaves its bounds, which are as narrow as is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
from certified_networks import (
    CLASSES,
    RANDOM,
    around,
    dense,
    model_of,
    networks,
    pictures,
    tried,
    weighted,
)
from hypothesis import given
from hypothesis import strategies as st

from harness.certification import CROWN, bounds_of, certify
from harness.certification.bounding import margins, others, trailing
from harness.certification.crown import linear_bounds
from harness.certification.layers import steps_of
from harness.certification.numbers import Numbers
from harness.certification.own import numbers_for
from harness.certification.propagation import Propagation
from harness.certification.regions import Ball, Interval, Region, region_around
from harness.certification.relaxations import Bent, Peaked
from harness.errors import MeasurementError
from harness.protocol import (
    Architecture,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Network,
    ReLU,
    Residual,
    Scale,
)

EPSILONS = st.sampled_from([0.0, 1e-3, 0.02, 0.1, 0.3, 1.0])
WAYS = {"ibp": ("ibp", "crown"), "crown-ibp": ("crown", "ibp"), "crown": ("crown", "crown")}
SEEDS = st.integers(0, 2**32 - 1)


def numbers_of(network):
    return numbers_for(network, Numbers(np, 2.0**-53, model_unit=2.0**-53))


def margin_bounds(network, region, y, way):
    """Lower bounds of z_y - z_k, (b, k - 1)."""
    steps = steps_of(network, region.interval.numbers)
    if way == "ibp":
        known, path = Propagation(region.interval.numbers).network(steps, region)
        path, region = trailing(path, region, known.interval)
    else:
        _, path = linear_bounds(steps, region, WAYS[way][1])
    return margins(path, region, y, network.architecture.classes)


def margins_at(logits, y):
    rows = np.arange(len(y))[:, None]
    return logits[rows, y[:, None]] - logits[rows, others(y, CLASSES)]


def outside(network, x, epsilon, seed):
    """By how much logits or margins leave their bounds at most; below 0 if none does."""
    low, high = around(x, epsilon)
    model, y = model_of(network), np.arange(len(x)) % CLASSES
    flat = (end.reshape(len(x), -1) for end in (low, high))
    region = Region(Interval(numbers_of(network), *flat))
    found = {way: bounds_of(network, low, high, *how) for way, how in WAYS.items()}
    least = {way: margin_bounds(network, region, y, way) for way in WAYS}
    worst = -np.inf
    for images in tried(model, low, high, seed):
        logits = model.logits(images)
        for way in WAYS:
            worst = max(worst, np.max(found[way][0] - logits), np.max(logits - found[way][1]))
            worst = max(worst, np.max(least[way] - margins_at(logits, y)))
    return worst


@RANDOM
@given(networks(), EPSILONS, SEEDS)
def test_no_logit_and_no_margin_leaves_its_bounds(network, epsilon, seed):
    assert outside(network, pictures(network, 2, seed), epsilon, seed) <= 0


@RANDOM
@given(networks(), EPSILONS, SEEDS)
def test_crown_is_never_looser_than_intervals(network, epsilon, seed):
    low, high = around(pictures(network, 3, seed), epsilon)
    wide = bounds_of(network, low, high, "ibp")
    for intermediate in ("ibp", "crown"):
        narrow = bounds_of(network, low, high, "crown", intermediate)
        assert (narrow[0] >= wide[0]).all()
        assert (narrow[1] <= wide[1]).all()


@RANDOM
@given(networks(), st.sampled_from([0.01, 0.2, 1.0]), SEEDS)
def test_no_margin_leaves_its_bounds_in_a_ball_in_l2(network, epsilon, seed):
    x, random = pictures(network, 2, seed), np.random.default_rng(seed)
    model, y = model_of(network), np.arange(len(x)) % CLASSES
    flat = x.reshape(len(x), -1)
    region = region_around(numbers_of(network), flat, epsilon, "l2", (0.0, 1.0))
    least = {way: margin_bounds(network, region, y, way) for way in WAYS}
    for number in range(60):
        change = random.standard_normal(x.shape)
        if number % 2:  # a few pixels, by much
            change *= random.random(x.shape) < 0.2
        lengths = np.sqrt((change.reshape(len(x), -1) ** 2).sum(axis=1)) + 1e-300
        change *= (epsilon / lengths).reshape(-1, *[1] * (x.ndim - 1))
        there = margins_at(model.logits(np.clip(x + change, 0, 1)), y)
        for way in WAYS:
            assert (least[way] <= there).all()


@RANDOM
@given(networks(), EPSILONS, SEEDS)
def test_float32_is_no_further_from_exact_logits_than_its_error_bound(network, epsilon, seed):
    weights = {name: value.astype(np.float32) for name, value in network.weights.items()}
    network = Network(network.architecture, weights)
    low, high = around(pictures(network, 2, seed).astype(np.float32), epsilon)
    numbers = numbers_for(network, Numbers(np, 2.0**-53, model_unit=2.0**-24))
    flat = (end.reshape(len(low), -1).astype(float) for end in (low, high))
    region = Region(Interval(numbers, *flat))
    known, _ = Propagation(numbers).network(steps_of(network, numbers), region)
    exact, rounded = model_of(network), model_of(network, "float32")
    for images in tried(exact, low, high, seed, 10):
        held = images.astype(np.float32)
        off = np.abs(exact.logits(held.astype(float)) - rounded.logits(held))
        assert (off <= known.error).all()


@pytest.mark.parametrize("seed", range(6))
def test_no_point_of_a_fine_grid_in_two_dimensions_leaves_its_bounds(seed):
    network = dense(*[(6,), (5, 4), (4, 4, 4)][seed % 3], seed=seed)
    model, x = model_of(network), np.random.default_rng(seed).random((1, 2))
    for epsilon in (0.05, 0.2, 0.5):
        low, high = around(x, epsilon)
        axes = [np.linspace(low[0, axis], high[0, axis], 121) for axis in (0, 1)]
        logits = model.logits(np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2))
        for how in WAYS.values():
            bounds = bounds_of(network, low, high, *how)
            assert (bounds[0][0] <= logits.min(axis=0)).all()
            assert (logits.max(axis=0) <= bounds[1][0]).all()


def test_two_pixels_two_units_and_two_classes_by_hand():
    weights = {
        "layers.0.weight": np.array([[1.0, -1.0], [1.0, 1.0]]), "layers.0.bias": np.zeros(2),
        "layers.1.weight": np.array([[1.0, 1.0], [-1.0, 1.0]]), "layers.1.bias": np.zeros(2),
    }  # fmt: skip
    network = Network(Architecture((2,), (Dense(2), ReLU(), Dense(2)), 2), weights)
    low, high = np.array([[0.25, 0.0]]), np.array([[0.75, 0.5]])
    # The first unit is in [-0.25, 0.75], the second one in [0.25, 1.25].
    near = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(
        bounds_of(network, low, high, "ibp"), [[[0.25, -0.5]], [[2.0, 1.25]]], **near
    )
    # h ≤ relu(h) ≤ 0.75 (h + 0.25): the first logit is between 2 x1 and 1.75 x1 + 0.25 x2 + 0.1875,
    # the second one between 0.25 x1 + 1.75 x2 - 0.1875 and 2 x2.
    np.testing.assert_allclose(
        bounds_of(network, low, high), [[[0.5, -0.125]], [[1.625, 1.0]]], **near
    )
    # The difference of the logits is twice relu(h) of the first unit: at least 0 where it is folded
    # into the last layer, and at least 2 h ≥ -0.5 as it is carried back.
    region = Region(Interval(numbers_of(network), low, high))
    for way in ("ibp", "crown"):
        least = margin_bounds(network, region, np.array([0]), way)
        np.testing.assert_allclose(least, [[0.0 if way == "ibp" else -0.5]], **near)
    found = certify(
        CROWN(), network, model_of(network), np.array([[0.5, 0.25]]), np.array([0]), [0.1, 0.25]
    )
    assert [one.tolist() for one in found] == [[True], [False]]


def test_a_unit_that_is_rather_negative_is_bounded_by_zero_from_below():
    given = Interval(Numbers(np, 2.0**-53), np.array([[-3.0, -1.0]]), np.array([[1.0, 3.0]]))
    relaxed = Bent.on(given)
    np.testing.assert_allclose(relaxed.middle + relaxed.half, [[0.0, 1.0]])
    np.testing.assert_allclose(relaxed.middle - relaxed.half, [[0.25, 0.75]])
    np.testing.assert_allclose(2 * relaxed.above, [[0.75, 0.75]])


def test_a_maximum_that_is_known_is_that_number():
    network = Network(Architecture((2, 2), (MaxPool((2, 2), (2, 2)), Flatten(), Dense(2)), 2), {
        "layers.0.weight": np.array([[1.0], [-1.0]]), "layers.0.bias": np.zeros(2),
    })  # fmt: skip
    low = np.array([[[0.5, 0.0], [0.0, 0.0]]])
    high = np.array([[[1.0, 0.5], [0.25, 0.4]]])
    for how in WAYS.values():
        found = bounds_of(network, low, high, *how)
        np.testing.assert_allclose(found, [[[0.5, -1.0]], [[1.0, -0.5]]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_bounds_of_a_linear_network_are_exact(seed):
    same = Conv(3, (3, 3), padding=((1, 1), (1, 1)))
    layers = (Residual((same, Scale()), (Conv(3, (1, 1)),)), Conv(2, (2, 2), (2, 2)), Flatten())
    network = weighted(
        Architecture((2, 6, 6), (*layers, Dense(5), Dense(CLASSES)), CLASSES, 0), seed
    )
    model, x, epsilon = model_of(network), 0.3 + 0.4 * pictures(network, 1, seed), 0.25
    flat = np.eye(72).reshape(72, 2, 6, 6)
    zero = model.logits(np.zeros((1, 2, 6, 6)))
    matrix = (model.logits(flat) - zero).T
    reach = epsilon * np.abs(matrix).sum(axis=1)
    low, high = bounds_of(network, x - epsilon, x + epsilon)
    np.testing.assert_allclose(low, model.logits(x) - reach, atol=1e-10)
    np.testing.assert_allclose(high, model.logits(x) + reach, atol=1e-10)
    # In L2 by the dual norm, of the differences of two rows.
    numbers, y = numbers_of(network), np.array([1])
    inside = x.reshape(1, -1)
    region = Region(
        Interval(numbers, inside - epsilon, inside + epsilon), Ball(numbers, inside, 0.25)
    )
    distances = np.linalg.norm(matrix[1] - matrix[[0, 2]], axis=1)
    expected = margins_at(model.logits(x), y) - 0.25 * distances
    for way in ("crown", "crown-ibp"):
        np.testing.assert_allclose(margin_bounds(network, region, y, way), expected, atol=1e-10)


# That the checks above see what is wrong

FLAWS = {
    "the upper line of a ReLU below its chord": (
        Bent, lambda made: Bent(made.numbers, made.middle, made.half, -made.above, -made.above)),
    "the slopes of a ReLU exchanged": (
        Bent, lambda made: Bent(made.numbers, made.middle, -made.half, made.above, made.slack)),
    "the planes of a maximum exchanged": (
        Peaked, lambda made: Peaked(
            made.numbers, made.step, made.middle, -made.half, made.above, made.slack)),
}  # fmt: skip


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_sign_error_in_a_relaxation_is_seen(flaw, monkeypatch):
    kind, spoilt = FLAWS[flaw]
    make = kind.on.__func__
    monkeypatch.setattr(kind, "on", classmethod(lambda cls, *given: spoilt(make(cls, *given))))
    layers = (Conv(2, (2, 2)), MaxPool((2, 2), (1, 1)), Conv(2, (2, 2)), ReLU(), Flatten())
    net = Architecture((5, 5), (*layers, Dense(CLASSES)), CLASSES)
    nets = [weighted(net, seed) for seed in range(6)]
    nets += [dense(2, seed=seed, inputs=1) for seed in range(6)]
    found = [outside(network, pictures(network, 2, 0), 0.2, 0) for network in nets]
    assert max(found) > 1e-4


def test_what_has_no_bounds_is_said_in_one_line():
    network = dense(3)
    with pytest.raises(MeasurementError, match=r"images have shape \(3,\), and the network takes"):
        bounds_of(network, np.zeros((1, 3)), np.ones((1, 3)))
    with pytest.raises(MeasurementError, match="none is above the other"):
        bounds_of(network, np.ones((1, 2)), np.zeros((1, 2)))
    with pytest.raises(MeasurementError, match="'pgd' bounds no logits; crown and ibp do"):
        bounds_of(network, np.zeros((1, 2)), np.ones((1, 2)), "pgd")
    assert [end.shape for end in bounds_of(network, np.zeros((0, 2)), np.ones((0, 2)))] == [
        (0, 3)
    ] * 2
