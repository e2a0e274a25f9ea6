"""Top-k analysis: one pixel that decides all, curves and areas by hand, sets and intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from small_models import linear, small_images, small_net

from harness.saliency import analysis, topk
from harness.saliency.maps import top_pixels
from harness.saliency.methods import explain
from harness.saliency.topk import FILLERS, GRID, SHARES
from harness.spec.measures import SaliencySpec

# Of ten pixels the first decides: class 1 if it is above one half.
DECIDES = np.zeros((2, 10))
DECIDES[1, 0] = 40.0
N = 8


def one_pixel():
    model = linear(DECIDES, [20.0, 0.0])
    x, y = np.ones((N, 10)), np.ones(N, int)
    x[4:, 0], y[4:] = 0.0, 0
    maps = np.zeros((N, 10))
    maps[:, 0] = 1.0
    return model, x, y, maps


def test_covering_the_pixel_that_decides_changes_half_of_the_predictions():
    model, x, y, maps = one_pixel()
    found = topk.covered(model, x, y, maps)
    assert found.accuracy.shape == found.confidence.shape == (len(FILLERS), len(SHARES))
    # Black where it was black changes nothing. The mean is 0.95, which says class 1 of all.
    assert found.accuracy.tolist() == [[0.5] * 5] * 2
    np.testing.assert_allclose(found.confidence, 0.5, atol=1e-6)
    kept = topk.covered(model, x, y, -maps)
    assert kept.accuracy.tolist() == [[1.0] * 5] * 2


def test_the_fillers_are_black_and_the_mean_of_all_pixels():
    model, x, y, maps = one_pixel()
    found = topk.covered(model, x[:6], y[:6], maps[:6])  # four of class 1, two of class 0
    np.testing.assert_allclose(found.accuracy[:, 0], [2 / 6, 4 / 6])  # all become 0, all 1


def test_confidence_is_the_softmax_of_the_true_class():
    model = linear([[0.0, 0.0], [np.log(3), 0.0]])
    x, y = np.ones((2, 2)), np.array([1, 0])
    found = topk.covered(model, x, y, np.array([[0.0, 1.0]] * 2))
    np.testing.assert_allclose(found.confidence[0, 0], (0.75 + 0.25) / 2)
    np.testing.assert_allclose(topk.covered(model, x[:1], y[:1], 1 - x[:1]).confidence[0, 0], 0.5)


def test_random_pixels_follow_the_seed_and_differ_from_draw_to_draw():
    model, x, y, _ = one_pixel()
    x, y = np.tile(x, (25, 1)), np.tile(y, 25)
    first, again, other = (
        topk.covered_at_random(model, x, y, draws=3, seed=s).accuracy for s in (1, 1, 2)
    )
    assert first.shape == (3, len(FILLERS), len(SHARES))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(set(first[:, 0, 4].tolist())) > 1
    # Three of ten pixels are covered: of the half that it turns, three tenths.
    assert first[:, 0, 4].mean() == pytest.approx(1 - 0.5 * 0.3, abs=0.04)


def test_the_interval_over_draws_is_students():
    low, high = topk.interval(np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
    reach = 4.302652729911275 / np.sqrt(3)  # t of 2 degrees of freedom; the deviation is one
    np.testing.assert_allclose([low, high], [[2 - reach, 5], [2 + reach, 5]])
    assert np.isnan(topk.interval(np.ones((1, 2)))).all()


# Deletion and insertion


def test_a_pixel_that_decides_ends_the_curves_at_once():
    model, x, y, maps = one_pixel()
    # The first four are of class 1.
    deleted, inserted = (f(model, x[:4], y[:4], maps[:4]) for f in (topk.deletion, topk.insertion))
    # Ten pixels: the first goes at a share of 0.1, since half of a pixel is rounded to none.
    expected = [1.0 if share < 0.1 else 0.0 for share in GRID]
    np.testing.assert_allclose(deleted, expected, atol=1e-6)
    np.testing.assert_allclose(inserted, 1 - np.array(expected), atol=1e-6)
    assert topk.area(deleted) == pytest.approx(0.075)
    assert topk.area(inserted) == pytest.approx(0.925)


def test_curves_begin_and_end_with_the_image_and_with_black():
    model, (x, y) = small_net(), small_images()
    scores = np.random.default_rng(0).random(x.shape)
    deleted, inserted = (
        f(model, x.astype(float), y, scores) for f in (topk.deletion, topk.insertion)
    )
    assert deleted[0] == pytest.approx(inserted[-1])
    assert deleted[-1] == pytest.approx(inserted[0])


def test_the_best_order_has_the_smallest_area_of_deletion():
    model, (x, y) = small_net(), small_images()
    x = x.astype(float)
    maps = x * explain(model, x, y)
    areas = [
        topk.area(topk.deletion(model, x, y, s))
        for s in (maps, topk.random_scores(x.shape, 0, 0), -maps)
    ]
    assert areas[0] < areas[1] < areas[2]


def test_an_area_is_that_of_trapezoids():
    assert topk.area(np.linspace(1, 0, len(GRID))) == pytest.approx(0.5)
    assert topk.area(np.ones(len(GRID))) == 1.0


# Sets of pixels


def test_the_jaccard_index_by_hand():
    a = np.array([[[1, 1], [0, 0]], [[1, 1], [0, 0]], [[1, 1], [0, 0]]], bool)
    b = np.array([[[1, 1], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [1, 1]]], bool)
    np.testing.assert_allclose(topk.jaccard(a, b), [1, 1 / 3, 0])


def test_strokes_are_pixels_above_half_of_the_range():
    x = np.array([[-1.0, 0.9, 1.1, 3.0]])
    for chosen, share in (([0, 0, 1, 1], 1), ([1, 1, 0, 0], 0), ([0, 1, 1, 0], 0.5)):
        assert topk.on_strokes(np.array([chosen], bool), x, (-1.0, 3.0)).tolist() == [share]


scores_of_images = arrays(np.float32, (3, 2, 5), elements=st.floats(-4, 4, width=16))


@settings(deadline=None, max_examples=60, database=None)
@given(scores=scores_of_images, fraction=st.floats(0.05, 1.0))
def test_the_first_ranks_are_the_top_pixels(scores, fraction):
    ranks = topk.ranks(scores)
    assert all(sorted(image.ravel()) == list(range(10)) for image in ranks)
    top = top_pixels(scores, fraction)
    np.testing.assert_array_equal(ranks < top[0].sum(), top)


# All of it


def test_the_analysis_holds_what_a_run_documents():
    model, (x, y) = small_net(dtype="float32"), small_images()
    x[x < 0.6] = 0.0  # strokes on black
    spec = SaliencySpec(random_draws=3)
    moved = analysis.under_fgsm(model, x, y, 0.1)
    assert np.abs(moved - x).max() == pytest.approx(0.1, abs=1e-6)
    found = analysis.analysed(model, x, y, moved, "gradient", spec)
    assert {name: values.shape for name, values in found.items()} == {
        "deletion": (21,), "insertion": (21,), "stability": (40,), "strokes": (40,),
        "top/accuracy": (2, 5), "top/confidence": (2, 5),
        "least/accuracy": (2, 5), "least/confidence": (2, 5),
    }  # fmt: skip
    assert all((values >= 0).all() and (values <= 1).all() for values in found.values())
    same = analysis.analysed(model, x, y, x, "gradient", spec)
    assert same["stability"].tolist() == [1.0] * 40
    assert 0 < analysis.summary("stability", found) < 1
    drawn = analysis.analysed_at_random(model, x, y, spec, seed=0)
    assert {name: values.shape for name, values in drawn.items()} == {
        "deletion": (21,), "insertion": (21,), "accuracy": (3, 2, 5), "confidence": (3, 2, 5),
        "accuracy/interval": (2, 2, 5), "confidence/interval": (2, 2, 5),
    }  # fmt: skip
