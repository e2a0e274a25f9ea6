"""FAB, DDN, FMN and CW: the nearest adversarial image, known exactly on affine models."""

import numpy as np
import pytest
from backends_at_hand import NAMES
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import Counting, attacked, linear, right, small_images, small_net

from harness.attacks import make_attack
from harness.attacks.deepfool import DeepFool
from harness.attacks.fab import FAB
from harness.attacks.sweep import sweep
from harness.errors import MeasurementError
from harness.maths.norms import NORMS

# Three classes in the plane; (0.5, 0.5) is of class 0, with leads of 1 and 0.6 over the others: in
# L∞ class 1 is nearer, 1 / (3 + 4), and in L2 class 2, 0.6 / 4 against 1 / 5.
MATRIX, BIAS = [[3, 4], [0, 0], [3, 0]], [-2.5, 0.0, -1.1]
AT = np.array([[0.5, 0.5]])
NEAREST = {"linf": 1 / 7, "l2": 0.15}
# FMN goes to the likeliest other class, which is class 2: 0.6 / 4 in L∞ as well.
LIKELIEST = 0.15
# (0.1, 0.8) has to gain 1.7 along (3, 4); the second pixel has only 0.2 left, so it is (0.3, 0.2).
WALL, WALL_BIAS, BY_THE_WALL = [[0, 0], [3, 4]], [0, -5.2], np.array([[0.1, 0.8]])
BEYOND = {"linf": 0.3, "l2": np.hypot(0.3, 0.2)}

OPTIONS = {"cw-l2": {"searches": 6, "steps": 150, "initial_c": 0.1, "stepsize": 0.05}}
LINF = ("fab", "fab-t", "fmn")
NAMED = (*LINF, "fab-l2", "fab-t-l2", "fmn-l2", "ddn", "cw-l2")
EACH = {name: make_attack(name, options=OPTIONS.get(name, {})) for name in NAMED}
BRIEF = {"cw-l2": {"searches": 5, "steps": 60, "initial_c": 1.0, "stepsize": 0.05}}
QUICK = {name: make_attack(name, options=BRIEF.get(name, {"steps": 30})) for name in NAMED}


def least(attack):
    return LIKELIEST if attack.name == "fmn" else NEAREST[attack.norm]


def searched(attack, model, x, y):
    images, distance = attack.search(model, model.asarray(np.array(x)), model.asarray(np.array(y)))
    return model.numpy(images), distance


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("name", NAMED)
def test_the_distance_is_the_least_there_is(name, backend):
    attack, model = EACH[name], linear(MATRIX, BIAS, backend=backend)
    found, distance = searched(attack, model, AT, [0])
    assert least(attack) < distance[0] < 1.01 * least(attack)
    assert NORMS[attack.norm].length(np, found - AT) == pytest.approx(distance, rel=1e-12)
    assert right(model, found, [0]) == 0


@pytest.mark.parametrize("name", NAMED)
def test_where_the_box_is_in_the_way_the_other_pixels_go_further(name):
    attack, model = EACH[name], linear(WALL, WALL_BIAS)
    found, distance = searched(attack, model, BY_THE_WALL, [0])
    assert BEYOND[attack.norm] < distance[0] < 1.02 * BEYOND[attack.norm]
    assert right(model, found, [0]) == 0
    assert found.max() <= 1


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("bounds", [(0.0, 255.0), (-1.0, 1.0)])
def test_the_unit_of_the_pixels_does_not_matter(name, bounds):
    low, unit = bounds[0], bounds[1] - bounds[0]
    matrix = np.array(WALL) / unit
    model = linear(matrix, np.array(WALL_BIAS) - matrix @ [low, low], bounds=bounds)
    attack = EACH[name]
    _, distance = searched(attack, model, low + unit * BY_THE_WALL, [0])
    assert 1 < distance[0] / unit / BEYOND[attack.norm] < 1.02


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-20, 1e15])
@pytest.mark.parametrize("name", [name for name in NAMED if name != "cw-l2"])
def test_the_scale_of_the_logits_does_not_matter(name, scale, dtype):
    attack = EACH[name]
    model = linear(scale * np.array(MATRIX), scale * np.array(BIAS), dtype=dtype)
    _, distance = searched(attack, model, AT, [0])
    assert 1 < distance[0] / least(attack) < 1.01


@settings(deadline=None, max_examples=15, database=None)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 5), name=st.sampled_from(NAMED))
def test_on_affine_models_none_is_beaten_by_a_formula(seed, classes, name):
    """The box is far away; then the distance is the lead over the dual length of the slope."""
    random, attack = np.random.default_rng(seed), EACH[name]
    matrix = random.normal(size=(classes, 4))
    x = random.uniform(-0.5, 0.5, size=(1, 4))
    leads = matrix @ x[0]
    label = int(leads.argmax())
    slopes = np.delete(matrix, label, axis=0) - matrix[label]
    short = np.delete(leads, label) - leads[label]
    dual = NORMS[attack.norm].dual(np, slopes)
    model = linear(matrix, bounds=(-20.0, 20.0))
    _, distance = searched(attack, model, x, [label])
    nearest = (-short / dual).min()
    assert nearest <= distance[0] + 1e-9
    if name.startswith("fab"):  # the others begin with steps as long as the box is wide
        assert distance[0] <= 1.02 * nearest + 1e-3


@pytest.mark.parametrize("name", NAMED)
def test_what_is_found_is_in_the_box_misclassified_and_as_far_as_is_said(name):
    model, (x, y) = small_net(), small_images(wrong=3)
    found, distance = searched(QUICK[name], model, x.astype(float), y)
    assert found.min() >= 0
    assert found.max() <= 1
    np.testing.assert_array_equal(found[:3], x[:3])
    np.testing.assert_array_equal(distance[:3], 0)
    reached = np.isfinite(distance)
    assert reached.mean() > 0.8
    assert (model.logits(found).argmax(axis=1) != y)[reached].all()
    lengths = NORMS[QUICK[name].norm].length(np, found - x)
    np.testing.assert_allclose(distance[reached], lengths[reached], rtol=1e-12)


@pytest.mark.parametrize(("name", "share"), [("fab-l2", 0.7), ("fab-t-l2", 0.7), ("ddn", 0.3)])
def test_they_come_nearer_than_deepfool(name, share):
    model, (x, y) = small_net(), small_images(wrong=0)
    x = x.astype(float)
    _, distance = searched(EACH[name], model, x, y)
    deepfool = NORMS["l2"].length(np, DeepFool().search(model, x, y) - x)
    assert np.isfinite(distance).all()
    assert np.mean(distance) < np.mean(deepfool)
    assert np.mean(distance <= deepfool + 1e-9) > share


@pytest.mark.parametrize("name", NAMED)
def test_what_is_too_far_is_shortened_and_what_is_near_enough_is_left(name):
    attack, model = EACH[name], linear(MATRIX, BIAS)
    near, far = 0.9 * least(attack), 1.02 * least(attack)
    short, long, whole = attacked(attack, model, AT, [0], [near, far, 9.0])
    assert NORMS[attack.norm].length(np, short - AT) == pytest.approx(near)
    assert right(model, short, [0]) == 1
    assert right(model, long, [0]) == 0
    np.testing.assert_array_equal(long, whole)


@pytest.mark.parametrize("name", NAMED)
def test_one_search_serves_all_epsilons(name):
    counts, attack = [], QUICK[name]
    for epsilons in ([0.01], [0.0, 0.01, 0.1, 0.3]):
        model, (x, y) = Counting(small_net()), small_images(10)
        attacked(attack, model, x.astype(float), y, epsilons)
        counts.append(model.gradients)
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("name", NAMED)
def test_images_leave_once_they_are_within_the_smallest_epsilon(name):
    attack, (x, y) = QUICK[name], small_images(wrong=0)
    alone, model = Counting(small_net()), small_net()
    near = 0.2 if attack.norm == "linf" else 0.6
    (found,) = attacked(attack, alone, x.astype(float), y, [near])
    images, distance = searched(attack, model, x.astype(float), y)
    assert alone.rows[-2] < 0.9 * len(x)
    # What is within epsilon does not depend on when the search may end.
    np.testing.assert_array_equal(
        model.logits(found).argmax(axis=1)[distance <= near] != y[distance <= near], True
    )
    assert np.isfinite(images).all()


@pytest.mark.parametrize("name", NAMED)
def test_nan_is_not_hidden(name):
    class Broken(Counting):
        def logits_and_gradient(self, x, y, objective):
            logits, gradient = super().logits_and_gradient(x, y, objective)
            return logits, np.nan * gradient

    x, y = small_images()
    with pytest.raises(MeasurementError, match="NaN or infinity"):
        sweep(Broken(small_net()), QUICK[name], x, y, [0.1])


@pytest.mark.parametrize("name", NAMED)
def test_a_model_without_slopes_leaves_the_images_finite(name):
    flat = linear(np.zeros((3, 2)), [1, 0, 0])
    (found,) = attacked(QUICK[name], flat, AT, [0], [0.3])
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() <= 1


# FAB alone


def test_fab_takes_a_gradient_for_each_other_class_and_one_pass_more():
    model, (x, y) = Counting(small_net()), small_images(5, wrong=0)
    attacked(FAB(steps=3), model, x.astype(float), y, [1e-9])
    # Of five classes four; at the beginning and at the end what the images are classified as.
    assert (model.gradients, len(model.asked)) == (3 * 4, 3 * 5 + 2)
    model = Counting(small_net())
    attacked(FAB(steps=3, target="each", targets=2), model, x.astype(float), y, [1e-9])
    assert (model.gradients, len(model.asked)) == (2 * 3, 2 * 3 * 2 + 2)


def test_targeted_fab_aims_at_the_likeliest_classes_in_turn():
    # Class 2 has the larger logit, and class 1 the nearer boundary in L∞.
    model = linear(MATRIX, BIAS)
    found, distance = searched(FAB(target="each", targets=1), model, AT, [0])
    assert 0.15 < distance[0] < 0.1515
    assert right(model, found, [2]) == 1
    found, distance = searched(FAB(target="each", targets=2), model, AT, [0])
    assert 1 / 7 < distance[0] < 1.01 / 7
    assert right(model, found, [1]) == 1


def test_restarts_come_no_less_near_and_have_each_image_s_own_numbers():
    model, (x, y) = small_net(), small_images(20, wrong=0)
    x = x.astype(float)
    counts = (1, 2, 4)
    once, twice, often = (FAB(steps=5, restarts=n).search(model, x, y)[1] for n in counts)
    for fewer, more in ((once, twice), (twice, often)):  # each attempt has numbers of its own
        assert (more <= fewer).all()
        assert (more < fewer).any()
    some = np.array([3, 11, 17])
    alone = FAB(steps=5, restarts=4).search(model, x[some], y[some], index=some)[1]
    np.testing.assert_allclose(alone, often[some], atol=1e-9)
    other = FAB(steps=5, restarts=4, seed=1).search(model, x, y)[1]
    assert (other != often).any()


@pytest.mark.parametrize("norm", NORMS)
def test_each_restart_begins_half_as_far_as_the_largest_epsilon_somewhere_else(norm, monkeypatch):
    x, y = np.full((2, 30), 0.5), np.zeros(2, dtype=np.int64)
    model, seen, start = linear(np.zeros((3, 30)), [1, 0, 0]), [], FAB._start

    def told(self, *given):
        seen.append(start(self, *given))
        return seen[-1]

    monkeypatch.setattr(FAB, "_start", told)
    attacked(FAB(norm=norm, steps=1, restarts=3, target="each"), model, x, y, [0.1, 0.4])
    assert len(seen) == 2 * 2  # of two classes, and the first attempt begins at the image
    starts = np.concatenate(seen) - 0.5
    np.testing.assert_allclose(NORMS[norm].length(np, starts), 0.2, rtol=1e-6)
    assert len(np.unique(starts.round(9), axis=0)) == len(starts)
