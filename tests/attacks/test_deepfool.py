"""DeepFool: exact on affine models, as its authors prove, and no longer than each epsilon."""

import numpy as np
import pytest
from backends_at_hand import NAMES
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import Counting, attacked, linear, right, small_images, small_net

from harness.attacks.deepfool import DeepFool

# Three classes in the plane; (0.5, 0.5) is of class 0, with leads of 1 and 0.6 over the others.
MATRIX, BIAS = [[3, 4], [0, 0], [3, 0]], [-2.5, 0.0, -1.1]
AT = np.array([[0.5, 0.5]])


def distances(x, matrix, bias, label):
    """From x to each boundary of the class, by the formula for a point and a plane."""
    matrix, bias = np.asarray(matrix, float), np.asarray(bias, float)
    lead = (matrix[label] - matrix) @ x + bias[label] - bias
    length = np.linalg.norm(matrix[label] - matrix, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(length > 0, lead / length, np.inf)


@pytest.mark.parametrize("backend", NAMES)
def test_it_goes_straight_to_the_nearest_boundary(backend):
    # To class 1 it is 1 / 5, along (-3, -4) / 5; to class 2 it is 0.6 / 4, along (0, -1).
    assert distances(AT[0], MATRIX, BIAS, 0)[1:] == pytest.approx([0.2, 0.15])
    model = linear(MATRIX, BIAS, backend=backend)
    (found,) = attacked(DeepFool(), model, AT, [0], [9.0])
    # A ten-thousandth beyond, as in the authors' code, and then the overshoot.
    np.testing.assert_allclose(found, [[0.5, 0.5 - 1.02 * 0.1501]], atol=1e-9)
    assert right(model, found, [2]) == 1


@settings(deadline=None, max_examples=50, database=None)
@given(
    seed=st.integers(0, 2**32 - 1), overshoot=st.sampled_from([0.02, 0.1, 0.5]),
    classes=st.integers(2, 5),
)  # fmt: skip
def test_on_an_affine_model_the_distance_is_the_least_there_is(seed, overshoot, classes):
    random = np.random.default_rng(seed)
    matrix, bias = random.normal(size=(classes, 4)), random.normal(size=classes) / 10
    x = random.normal(size=(1, 4))
    label = int((matrix @ x[0] + bias).argmax())
    model = linear(matrix, bias, bounds=(-1e3, 1e3))
    least = np.delete(distances(x[0], matrix, bias, label), label).min()
    (found,) = attacked(DeepFool(overshoot=overshoot), model, x, [label], [1e6])
    moved = np.linalg.norm(found - x)
    assert least <= moved
    assert moved <= (least + 1e-3) * (1 + overshoot) + 1e-4
    assert right(model, found, [label]) == 0


def test_what_is_too_long_is_shortened_and_what_fits_is_left():
    model = linear(MATRIX, BIAS)
    short, long, whole = attacked(DeepFool(), model, AT, [0], [0.05, 0.16, 9.0])
    np.testing.assert_allclose(short, [[0.5, 0.45]], atol=1e-9)
    np.testing.assert_array_equal(long, whole)
    assert right(model, short, [0]) == 1
    assert right(model, long, [0]) == 0


def test_one_search_serves_all_epsilons():
    counts = []
    for epsilons in ([0.2], [0.0, 0.1, 0.2, 0.3]):
        model, (x, y) = Counting(small_net()), small_images()
        attacked(DeepFool(), model, x, y, epsilons)
        counts.append(model.gradients)
    assert counts[0] == counts[1] > 0


def test_steps_bound_the_search_and_misclassified_images_leave_it():
    model, (x, y) = Counting(small_net()), small_images()
    attacked(DeepFool(steps=2), model, x, y, [0.1])
    # In each step one gradient for the true class, and one for every class.
    assert model.gradients == 2 * 6
    model = Counting(small_net())
    attacked(DeepFool(), model, x, y, [0.1])
    assert model.rows[0] == len(x)
    assert model.rows[1] == len(x) - 4
    assert model.rows[-1] < len(x) / 2


def test_its_images_are_nearer_than_those_of_one_gradient():
    model, (x, y) = small_net(), small_images(wrong=0)
    (found,) = attacked(DeepFool(), model, x, y, [99.0])
    misclassified = model.logits(found).argmax(axis=1) != y
    lengths = np.linalg.norm((found - x).reshape(len(x), -1), axis=1)
    assert misclassified.mean() > 0.9
    for epsilon in (0.1, 0.3):
        (shortened,) = attacked(DeepFool(), model, x, y, [epsilon])
        lost = model.logits(shortened).argmax(axis=1) != y
        assert lost[misclassified & (lengths <= epsilon)].all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slope", [1e-8, 1e-15, 1e-25, 1e-38])
def test_a_boundary_beyond_all_boxes_leads_nowhere_and_breaks_nothing(slope, dtype):
    model = linear(slope * np.array([[1, -2], [-1, 2], [3, 1]]), [1, 0, -1], dtype=dtype)
    (found,) = attacked(DeepFool(steps=5), model, AT, [0], [9.0])
    assert np.isfinite(found).all()


def test_a_class_without_a_boundary_is_passed_over():
    """Class 1 has the gradient of class 0, so no step leads there."""
    model = linear([[1, 0], [1, 0], [0, 1]], [0.5, 0, 0])
    (found,) = attacked(DeepFool(), model, AT, [0], [9.0])
    assert right(model, found, [2]) == 1
    flat = linear(np.zeros((3, 2)), [1, 0, 0])
    (found,) = attacked(DeepFool(), flat, AT, [0], [9.0])
    np.testing.assert_array_equal(found, AT)
