"""Saliency: maps of linear models by hand, exact pixel counts, and one pixel that decides all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from backends.numpy_backend import NumpyBackend
from harness.errors import MeasurementError
from harness.protocol import GRADIENT, Network, Wrapping, fully_connected
from harness.saliency.maps import pixel_count, top_pixels
from harness.saliency.methods import explain
from harness.saliency.occlusion import CHOICES, occluded_correct


def linear(matrix, bias, shape, bounds=(0.0, 1.0)):
    matrix = np.array(matrix)
    weights = {"layers.0.weight": matrix, "layers.0.bias": np.array(bias)}
    return NumpyBackend().build(
        Network(fully_connected(shape, (), len(matrix)), weights), Wrapping(bounds)
    )


# Maps


def test_the_map_of_a_linear_model_is_the_absolute_weights_of_the_class():
    model = linear([[1, -2, 3, -4], [0.5, 0, 0, -1], [0, 7, 0, 0]], [9, 9, 9], (2, 2))
    x = np.random.default_rng(0).random((4, 2, 2), dtype=np.float32)
    maps = np.abs(explain(model, x, np.array([1, 0, 2, 0])))
    assert maps.dtype == np.float32
    assert maps.tolist() == [
        [[0.5, 0], [0, 1]],
        [[1, 2], [3, 4]],
        [[0, 7], [0, 0]],
        [[1, 2], [3, 4]],
    ]


def test_maps_do_not_depend_on_the_batches():
    model = linear([[1, -2], [3, 4]], [0, 0], (2,))
    x, y = np.full((5, 2), 0.5, np.float32), np.array([0, 1, 1, 0, 1])
    whole = explain(model, x, y)
    for batch_size in (1, 2, 5, 6):
        np.testing.assert_array_equal(explain(model, x, y, batch_size=batch_size), whole)


def test_a_black_box_has_no_map():
    model = linear([[1, 2], [3, 4]], [0, 0], (2,))
    model.capabilities = model.capabilities - {GRADIENT}
    with pytest.raises(MeasurementError, match=r"^saliency needs gradient, which the model lacks$"):
        explain(model, np.zeros((1, 2), np.float32), np.array([0]))


def test_one_map_that_is_zero_everywhere_is_an_error():
    model = linear([[1, 2], [0, 0]], [0, 0], (2,))
    x = np.zeros((3, 2), np.float32)
    assert explain(model, x, np.array([0, 0, 0])).all()
    with pytest.raises(MeasurementError, match=r"^a saliency map is zero everywhere[^\n]*$"):
        explain(model, x, np.array([0, 0, 1]))


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_an_error(bad):
    model = linear([[1, 2], [bad, 1]], [0, 0], (2,))
    with pytest.raises(MeasurementError, match=r"^a saliency map holds NaN or infinity$"):
        explain(model, np.full((2, 2), 0.5, np.float32), np.array([0, 1]))


# The most salient pixels


@pytest.mark.parametrize(
    ("shape", "fraction", "count"),
    [
        ((28, 28), 0.15, 118),  # 117.6
        ((8, 8), 0.15, 10),  # 9.6
        ((3, 8, 8), 0.15, 29),  # 28.8
        ((8, 8), 1.0, 64),
        ((8, 8), 0.25, 16),
        ((8, 8), 0.001, 1),  # never none
        ((1,), 0.01, 1),
    ],
)
def test_a_fraction_of_the_pixels_is_rounded_and_at_least_one(shape, fraction, count):
    assert pixel_count(shape, fraction) == count
    scores = np.random.default_rng(0).random((3, *shape))
    mask = top_pixels(scores, fraction)
    assert mask.dtype == np.bool_
    assert mask.shape == scores.shape
    assert mask.reshape(3, -1).sum(axis=1).tolist() == [count] * 3


def test_the_highest_scores_of_each_image_are_chosen():
    scores = np.array([[[0.1, 0.9], [0.8, 0.2]], [[5.0, 1.0], [2.0, 4.0]]])
    mask = top_pixels(scores, 0.5)
    assert mask.tolist() == [[[False, True], [True, False]], [[True, False], [False, True]]]


def test_of_equal_scores_the_first_pixels_are_chosen():
    assert top_pixels(np.zeros((1, 2, 3)), 0.5).tolist() == [[[True] * 3, [False] * 3]]
    assert top_pixels(np.array([[1.0, 3, 2, 2, 2, 0]]), 0.5).tolist() == [
        [False, True, True, True, False, False]
    ]


images = array_shapes(min_dims=2, max_dims=4, max_side=5).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-4, 4, width=16))
)


@settings(deadline=None, max_examples=100, database=None)
@given(scores=images, fraction=st.floats(0.01, 1.0))
def test_no_pixel_left_out_scores_higher_than_one_chosen(scores, fraction):
    mask = top_pixels(scores, fraction)
    for image, chosen in zip(scores, mask, strict=True):
        assert chosen.sum() == pixel_count(scores.shape[1:], fraction)
        if not chosen.all():
            assert image[~chosen].max() <= image[chosen].min()


# Occlusion

# Class 1 if the first of four pixels is above one half; the others mean nothing.
ONE_PIXEL = [[0, 0, 0, 0], [1, 0, 0, 0]]
N = 400


def occlude(choice, *, fraction=0.25, draws=5, seed=0, bounds=(0.0, 1.0), bias=(0.5, 0.0), y=1):
    model = linear(ONE_PIXEL, bias, (2, 2), bounds)
    x = np.ones((N, 2, 2), np.float32)
    x.flags.writeable = False
    labels = np.full(N, y)
    maps = np.abs(explain(model, x, np.ones(N, int)))
    return occluded_correct(
        model, x, labels, maps, choice, fraction=fraction, draws=draws, seed=seed
    )


def test_covering_the_pixel_that_decides_destroys_every_answer():
    assert occlude("top") == (0, N)
    assert occlude("top", y=0) == (N, N)


def test_covering_the_least_salient_pixels_destroys_nothing():
    assert occlude("least") == (N, N)
    assert occlude("least", fraction=0.75) == (N, N)
    assert occlude("least", fraction=1.0) == (0, N)


def test_covering_random_pixels_destroys_their_share_of_the_predictions():
    for fraction, expected in ((0.25, 0.75), (0.5, 0.5)):
        correct, asked = occlude("random", fraction=fraction)
        assert asked == 5 * N
        assert correct / asked == pytest.approx(expected, abs=0.05)


def test_random_pixels_follow_the_seed_and_differ_from_draw_to_draw():
    assert occlude("random", seed=3) == occlude("random", seed=3)
    assert len({occlude("random", seed=seed, draws=1) for seed in range(8)}) > 1
    totals = [occlude("random", draws=draws)[0] for draws in range(1, 6)]
    single = np.diff([0, *totals])
    assert len(set(single.tolist())) > 1


def test_draws_are_for_random_pixels_only():
    assert {occlude(choice, draws=3)[1] for choice in ("top", "least")} == {N}
    assert occlude("random", draws=3)[1] == 3 * N


def test_covered_pixels_get_the_lower_end_of_the_bounds():
    # With this bias a pixel of 0 still says class 1, and one of -1 class 0.
    assert occlude("top", bias=(-0.5, 0.0)) == (N, N)
    assert occlude("top", bias=(-0.5, 0.0), bounds=(-1.0, 1.0)) == (0, N)


def test_an_unknown_choice_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"^best: choose one of top, random, least$"):
        occlude("best")
    assert CHOICES == ("top", "random", "least")
