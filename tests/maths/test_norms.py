"""Norms: lengths and projections by hand, and the same over the arrays of every backend."""

import numpy as np
import pytest
from backends_at_hand import NAMES
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_models import linear

from harness.maths.norms import NORMS, per_image

CHANGES = np.array([[[3.0, -4.0]], [[0.0, 0.0]], [[-0.5, 0.25]]])
LENGTHS = {"linf": [4, 0, 0.5], "l2": [5, 0, 0.3125**0.5]}


@pytest.fixture(params=NAMES)
def model(request):
    """Anything that has the backend's namespace."""
    return linear(np.eye(2), backend=request.param)


def batches(largest=100):
    return arrays(
        np.float64, st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),
        elements=st.floats(-largest, largest, width=32),
    )  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_lengths_of_small_changes(model, name):
    found = NORMS[name].length(model.xp, model.asarray(CHANGES))
    np.testing.assert_allclose(model.numpy(found), LENGTHS[name], rtol=1e-12)
    for sign in (1, -1):
        longest = NORMS[name].longest(model.xp, model.asarray(sign * CHANGES))
        assert float(longest) == pytest.approx(max(LENGTHS[name]), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "radius", "expected"),
    [
        ("linf", 1.0, [[1, -1], [0, 0], [-0.5, 0.25]]),
        ("linf", [2.0, 1.0, 0.125], [[2, -2], [0, 0], [-0.125, 0.125]]),
        ("linf", 0.0, [[0, 0]] * 3),
        ("l2", 1.0, [[0.6, -0.8], [0, 0], [-0.5, 0.25]]),
        ("l2", [2.5, 0.0, 0.3125**0.5 / 2], [[1.5, -2], [0, 0], [-0.25, 0.125]]),
        ("l2", 0.0, [[0, 0]] * 3),
    ],
)
def test_projections_of_small_changes(model, name, radius, expected):
    change = model.asarray(CHANGES)
    if not isinstance(radius, float):
        radius = per_image(model.xp, model.asarray(np.array(radius)), change)
    found = model.numpy(NORMS[name].within(model.xp, change, radius))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-12)


@pytest.mark.parametrize("name", NORMS)
@settings(deadline=None, max_examples=50, database=None)
@given(change=batches(), data=st.data())
def test_a_projection_is_within_the_radius_and_projecting_again_moves_nothing(name, change, data):
    norm = NORMS[name]
    radii = data.draw(arrays(np.float64, len(change), elements=st.floats(0, 50, width=32)))
    found = norm.within(np, change, per_image(np, radii, change))
    lengths = norm.length(np, change)
    assert (norm.length(np, found) <= radii * (1 + 1e-12)).all()
    again = norm.within(np, found, per_image(np, radii, change))
    np.testing.assert_allclose(again, found, rtol=1e-12, atol=1e-12)
    inside = lengths <= radii
    np.testing.assert_allclose(found[inside], change[inside], rtol=1e-12, atol=1e-12)
    # What was too long is as long as it may be.
    np.testing.assert_allclose(norm.length(np, found)[~inside], radii[~inside], rtol=1e-12)


@pytest.mark.parametrize("name", NORMS)
@settings(deadline=None, max_examples=50, database=None)
@given(gradient=batches(), seed=st.integers(0, 2**32 - 1))
def test_no_change_of_length_one_rises_more_than_the_steepest(name, gradient, seed):
    norm = NORMS[name]
    steepest = norm.steepest(np, gradient)
    flat = np.abs(gradient).max(axis=(1, 2)) == 0
    assert not steepest[flat].any()
    np.testing.assert_allclose(norm.length(np, steepest)[~flat], 1, rtol=1e-6)
    other = np.random.default_rng(seed).normal(size=gradient.shape)
    other = norm.within(np, 1e6 * other, 1.0)
    rises = [(gradient * change).sum(axis=(1, 2)) for change in (steepest, other)]
    assert (rises[0] >= rises[1] - 1e-9 * (1 + np.abs(rises[0]))).all()


@pytest.mark.parametrize("scale", [1.0, 1e-25, 1e-35])
@pytest.mark.parametrize("backend", NAMES)
def test_the_gradient_of_a_confident_image_is_as_steep_as_any(backend, scale):
    """In float32 the square of 1e-25 is zero."""
    model = linear(np.eye(2), backend=backend, dtype="float32")
    gradient = model.asarray((scale * np.array([[3.0, -4.0], [0.0, 0.0]])).astype(np.float32))
    for name, expected in (("linf", [1, -1]), ("l2", [0.6, -0.8])):
        found = model.numpy(NORMS[name].steepest(model.xp, gradient))
        np.testing.assert_allclose(found, [expected, [0, 0]], rtol=1e-5)


@pytest.mark.parametrize("name", NORMS)
def test_draws_fill_the_ball(name):
    random = np.random.default_rng(0)
    drawn = np.stack([NORMS[name].draw(random, (2, 1)) for _ in range(4000)])
    lengths = NORMS[name].length(np, drawn)
    assert drawn.dtype == np.float32
    assert lengths.max() <= 1 + 1e-6
    # In two dimensions a quarter of the ball lies within half its radius, on any side.
    assert (lengths < 0.5).mean() == pytest.approx(0.25, abs=0.02)
    assert (drawn > 0).mean() == pytest.approx(0.5, abs=0.02)
    assert NORMS[name].draw(random, (3, 2, 4)).shape == (3, 2, 4)
