"""Measuring: sweeps counted by hand, batches that do not matter, attacks that cheat or break."""

import math

import numpy as np
import pytest
from backends_at_hand import NAMES
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import Counting, linear, small_images, small_net

from backends.numpy_backend import NumpyBackend
from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.attacks.sweep import check_perturbation, sweep
from harness.errors import MeasurementError
from harness.maths import pieces
from harness.maths.query import (
    Predictions,
    batch_size_for,
    batches,
    correct_count,
    logits_of,
    predictions_of,
)
from harness.protocol import GRADIENT, Network, Wrapping, fully_connected


def threshold_model(bounds=(0.0, 1.0)):
    """Of one pixel p; its logits are (1/2 - p, p - 1/2), so it says class 1 above one half."""
    weights = {"layers.0.weight": np.array([[-1], [1]]), "layers.0.bias": np.array([0.5, -0.5])}
    return NumpyBackend().build(Network(fully_connected((1,), (), 2), weights), Wrapping(bounds))


X = np.array([[0.1], [0.3], [0.6], [0.9]], np.float32)
Y = np.array([0, 0, 1, 1])


class BlackBox:
    """Logits and nothing else."""

    xp = np
    bounds = (0.0, 1.0)
    capabilities = frozenset()

    def __init__(self, logits):
        self.logits = logits

    def asarray(self, values):
        return np.asarray(values)

    def numpy(self, array):
        return np.asarray(array)


class Attack:
    """What a function makes of images and an epsilon; sees the images only."""

    name = "made-up"
    norm = "linf"
    requires = frozenset()

    def __init__(self, step, count=None):
        self.step = step
        self.count = count

    def perturb(self, model, x, y, epsilons, *, index):
        given = list(epsilons) if self.count is None else [0.0] * self.count
        return (self.step(x, epsilon) for epsilon in given)


def up(x, epsilon):
    """Every pixel higher, and wrapped around to the lower half rather than clipped."""
    return np.where(x + epsilon > 1, x - epsilon, x + epsilon).astype(np.float32)


# Answers


def test_answers_are_the_highest_logit_and_its_softmax():
    answers = predictions_of(threshold_model(), X)
    assert answers.labels.tolist() == [0, 0, 1, 1]
    assert (answers.labels.dtype, answers.confidence.dtype) == (np.int32, np.float32)
    margins = [0.8, 0.4, 0.2, 0.8]
    np.testing.assert_allclose(
        answers.confidence, [1 / (1 + math.exp(-m)) for m in margins], rtol=1e-6
    )


def test_confidence_of_extreme_logits_is_finite():
    answers = predictions_of(BlackBox(lambda x: np.array([[1e4, -1e4], [-1e4, 1e4]])), X[:2])
    assert answers.labels.tolist() == [0, 1]
    assert answers.confidence.tolist() == [1, 1]


def test_correct_answers_are_counted():
    labels = np.array([3, 1, 2, 2], np.int32)
    assert correct_count(Predictions(labels, np.ones(4, np.float32)), np.array([3, 2, 2, 1])) == 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_an_error(bad):
    def logits(x):
        return np.where(x > 0.8, bad, np.hstack([x, -x]))

    assert len(logits_of(BlackBox(logits), X[:3])) == 3
    for ask in (logits_of, predictions_of):
        with pytest.raises(MeasurementError, match=r"^a logit is NaN or infinite$"):
            ask(BlackBox(logits), X)
    with pytest.raises(MeasurementError, match=r"^a logit is NaN or infinite$"):
        sweep(BlackBox(logits), Attack(up), X[:3], Y[:3], [0.0, 0.3])


@pytest.mark.parametrize("shape", [(4,), (3, 2), (4, 1, 2)])
def test_logits_of_another_shape_are_an_error(shape):
    with pytest.raises(MeasurementError, match=r"^logits have shape \([^\n]*\) for 4 images$"):
        logits_of(BlackBox(lambda x: np.zeros(shape)), X)


def test_batches_cover_everything_in_order():
    assert list(batches(7, 3)) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert list(batches(6, 3)) == [slice(0, 3), slice(3, 6)]
    assert list(batches(0, 3)) == []


@pytest.mark.parametrize(
    ("shape", "dtype", "size"),
    [
        ((28, 28), np.float32, 1000),
        # 256 MiB, and 16 arrays of 4 (or 8) bytes a pixel.
        ((2**12,), np.float32, 1000),
        ((2**13,), np.float32, 512),
        ((2**13,), np.float64, 256),
        ((3, 224, 224), np.float32, 27),
        ((2**22,), np.float32, 1),
        ((2**25,), np.float32, 1),
    ],
)
def test_batches_are_as_large_as_memory_allows(shape, dtype, size):
    # None of the pixels is there but one.
    image = np.broadcast_to(np.zeros((), dtype), (5000, *shape))
    assert batch_size_for(object(), image) == size


def test_large_images_come_in_batches_that_fit(monkeypatch):
    # Copies that an attack keeps, and what the network keeps of an image, for two of them.
    room = 2 * (16 * 4 + threshold_model().footprint(X[:2]))
    monkeypatch.setattr("harness.maths.query.MEMORY", room)
    seen = []

    class Spy(Attack):
        def perturb(self, model, x, y, epsilons, *, index):
            seen.append(index.tolist())
            return super().perturb(model, x, y, epsilons, index=index)

    sweep(threshold_model(), Spy(up), X[:3], Y[:3], [0.1])
    sweep(threshold_model(), Spy(up), X[:3], Y[:3], [0.1], batch_size=3)
    assert seen == [[0, 1], [2], [0, 1, 2]]


# Sweeps


def test_a_sweep_of_fgsm_counted_by_hand():
    # 0.1 and 0.3 move up, 0.6 and 0.9 down; those that cross one half are lost.
    epsilons = [0.0, 0.05, 0.15, 0.25, 0.45]
    results = sweep(threshold_model(), FGSM(), X, Y, epsilons)
    assert [correct_count(r.predictions, Y) for r in results] == [4, 4, 3, 2, 0]
    assert results[3].predictions.labels.tolist() == [0, 1, 0, 1]


def test_a_sweep_keeps_the_order_of_the_epsilons():
    epsilons = [0.25, 0.0, 0.45]
    results = sweep(threshold_model(), FGSM(), X, Y, epsilons, keep=[0])
    assert [r.epsilon for r in results] == epsilons
    assert [correct_count(r.predictions, Y) for r in results] == [2, 4, 0]
    np.testing.assert_allclose([r.kept.item() for r in results], [0.35, 0.1, 0.55], rtol=1e-6)


@settings(deadline=None, max_examples=60, database=None)
@given(
    n=st.integers(1, 12),
    batch_size=st.integers(1, 14),
    data=st.data(),
    epsilons=st.lists(st.sampled_from([0.0, 0.1, 0.25]), min_size=1, max_size=3),
)
def test_batches_change_nothing_and_what_is_kept_comes_as_asked(n, batch_size, data, epsilons):
    x = ((np.arange(n * 4) * 7 % 40) / 40).astype(np.float32).reshape(n, 2, 2)
    model = BlackBox(lambda a: a.reshape(len(a), -1)[:, :3])
    keep = data.draw(st.lists(st.integers(0, n - 1), max_size=5))
    y = np.arange(n) % 3
    results = sweep(model, Attack(up), x, y, epsilons, keep=keep, batch_size=batch_size)
    assert [r.epsilon for r in results] == epsilons
    for result in results:
        whole = up(x, result.epsilon)
        expected = predictions_of(model, whole)
        np.testing.assert_array_equal(result.predictions.labels, expected.labels)
        np.testing.assert_array_equal(result.predictions.confidence, expected.confidence)
        assert result.kept.shape == (len(keep), 2, 2)
        np.testing.assert_array_equal(result.kept, whole[keep])


def test_the_attack_sees_the_true_labels_of_its_batch_and_where_it_lies():
    seen = []

    class Spy(Attack):
        def perturb(self, model, x, y, epsilons, *, index):
            seen.append((x[:, 0].tolist(), y.tolist(), index.tolist()))
            return super().perturb(model, x, y, epsilons, index=index)

    sweep(threshold_model(), Spy(up), X, Y, [0.0], batch_size=3)
    assert seen == [(X[:3, 0].tolist(), [0, 0, 1], [0, 1, 2]), (X[3:, 0].tolist(), [1], [3])]


def test_an_attack_on_a_black_box_names_what_the_model_lacks():
    with pytest.raises(MeasurementError, match=r"^fgsm needs gradient, which the model lacks$"):
        sweep(BlackBox(lambda x: x), FGSM(), X, Y, [0.1])
    needy = Attack(up)
    needy.requires = frozenset({GRADIENT, "weights"})
    with pytest.raises(MeasurementError, match=r"^made-up needs gradient, weights, which "):
        sweep(BlackBox(lambda x: x), needy, X, Y, [0.1])


@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_attack_yields_one_batch_per_epsilon(count):
    attack = Attack(lambda x, epsilon: x.copy(), count)
    with pytest.raises(MeasurementError, match=r"^made-up [^\n]*one batch per epsilon[^\n]*$"):
        sweep(threshold_model(), attack, X, Y, [0.0, 0.1])


def test_a_bad_image_in_the_last_batch_is_found():
    def step(x, epsilon):
        return x + np.where(x > 0.8, 3 * epsilon, epsilon)

    sweep(threshold_model((0, 2)), Attack(step), X[:3], Y[:3], [0.1], batch_size=1)
    with pytest.raises(MeasurementError, match=r"outside the L∞ ball of radius 0\.1$"):
        sweep(threshold_model((0, 2)), Attack(step), X, Y, [0.1], batch_size=1)


def test_an_attack_that_works_in_place_is_checked_against_the_images_as_they_were():
    def step(x, epsilon):
        x += 2 * epsilon
        return x

    x = X[:2].copy()
    with pytest.raises(MeasurementError, match=r"^an adversarial image is 0\.2 from its original"):
        sweep(threshold_model(), Attack(step), x, Y[:2], [0.1])
    np.testing.assert_array_equal(x, X[:2])


# Attacks that do nothing


def test_an_attack_that_changes_no_image_at_any_epsilon_is_an_error():
    with pytest.raises(MeasurementError, match=r"^made-up changed no image; [^\n]*$"):
        sweep(threshold_model(), Attack(lambda x, epsilon: x.copy()), X, Y, [0.0, 0.1, 0.2])


def test_where_every_image_is_wrong_already_there_is_nothing_to_change():
    results = sweep(threshold_model(), PGD(), X, 1 - Y, [0.0, 0.1])
    assert [correct_count(result.predictions, 1 - Y) for result in results] == [0, 0]


def test_one_changed_image_at_one_epsilon_will_do():
    def step(x, epsilon):
        return np.where((x == X[3]) & (epsilon > 0.1), x - 0.05, x).astype(np.float32)

    assert len(sweep(threshold_model(), Attack(step), X, Y, [0.0, 0.1, 0.2], batch_size=1)) == 3


def test_at_epsilon_zero_alone_nothing_need_change():
    (result,) = sweep(threshold_model(), Attack(lambda x, epsilon: x.copy()), X, Y, [0.0])
    assert correct_count(result.predictions, Y) == 4


# What is known already


@pytest.mark.parametrize("backend", NAMES)
def test_what_an_attack_asked_of_the_clean_images_is_not_asked_again(backend):
    model, (x, y) = Counting(small_net(backend, "float32")), small_images()
    clean, moved = sweep(model, FGSM(), x, y, [0.0, 0.1], batch_size=25)
    assert model.rows == [25, 25, 15, 15]  # each batch once with the gradient, and once at 0.1
    for epsilon, found in ((0.0, clean), (0.1, moved)):
        # In the same batches: a matrix product of another size may differ in its last bit.
        (alone,) = sweep(small_net(backend, "float32"), FGSM(), x, y, [epsilon], batch_size=25)
        np.testing.assert_array_equal(found.predictions.labels, alone.predictions.labels)
        np.testing.assert_array_equal(found.predictions.confidence, alone.predictions.confidence)


def test_images_that_an_attack_moved_before_it_asked_are_not_the_clean_ones():
    class Deceiving(Attack):
        def perturb(self, model, x, y, epsilons, *, index):
            x += 0.25
            model.logits(x)
            x -= 0.25
            return (x for _ in epsilons)

    (result,) = sweep(threshold_model(), Deceiving(None), X[1:], Y[1:], [0.0])
    assert result.predictions.labels.tolist() == [0, 1, 1]


def test_images_that_are_not_quite_the_clean_ones_are_asked_for():
    class Nudging(Attack):
        def perturb(self, model, x, y, epsilons, *, index):
            model.logits(x)
            return (x + np.float32(5e-7) for _ in epsilons)

    x = np.array([[0.5 - 2e-7]], np.float32)
    (result,) = sweep(threshold_model(), Nudging(None), x, Y[:1], [0.0])
    assert result.predictions.labels.tolist() == [1]


# Ball, box, finiteness


def check(adversarial, epsilon=0.1, x=(0.5, 0.5), bounds=(0.0, 1.0), norm="linf"):
    given, moved = np.array([x, x], np.float32), np.array(adversarial, np.float32)
    return check_perturbation(threshold_model(bounds), given, moved, epsilon, norm)


def test_in_l2_the_ball_is_round():
    moved = [[0.56, 0.42], [0.5, 0.5]]
    assert check(moved, norm="l2") == pytest.approx(0.1)
    complaint = r"is 0\.141421 from its original, outside the L2 ball of radius 0\.1"
    with pytest.raises(MeasurementError, match=rf"^an adversarial image {complaint}$"):
        check([[0.5, 0.5], [0.6, 0.4]], norm="l2")
    assert check([[0.5, 0.5], [0.6, 0.4]]) == pytest.approx(0.1)


def test_the_norm_is_that_of_the_attack():
    corner = Attack(lambda x, epsilon: (x + epsilon).astype(np.float32))
    x, model = np.zeros((1, 1, 4), np.float32), BlackBox(lambda a: a.reshape(len(a), -1))
    sweep(model, corner, x, Y[:1], [0.1])
    corner.norm = "l2"
    with pytest.raises(MeasurementError, match=r"is 0\.2 from [^\n]* L2 ball of radius 0\.1$"):
        sweep(model, corner, x, Y[:1], [0.1])


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (1, 1), (2, 0)])
def test_in_every_framework_a_pixel_that_is_not_finite_is_found(backend, bad, place):
    model = linear(np.eye(2), backend=backend, dtype="float32")
    x = np.full((3, 2), 0.5, np.float32)
    moved = x.copy()
    moved[place] = bad
    with pytest.raises(MeasurementError, match="an adversarial image holds NaN or infinity"):
        check_perturbation(model, model.asarray(x), model.asarray(moved), 0.1)


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("image", range(5))
def test_in_every_piece_of_a_batch_what_is_wrong_is_found(backend, image, monkeypatch):
    monkeypatch.setattr(pieces, "CACHED", 2 * 16 * 4)  # two images
    model, x = small_net(backend, "float32"), np.full((5, 4, 4), 0.5, np.float32)
    for bad, radius, complaint in ((np.nan, 9, "NaN"), (0.65, 0.1, "ball"), (1.5, 9, "box")):
        moved = x.copy()
        moved[image, 1, 2] = bad
        with pytest.raises(MeasurementError, match=complaint):
            check_perturbation(model, model.asarray(x), model.asarray(moved), radius)
    moved[image, 1, 2] = 0.45
    found = check_perturbation(model, model.asarray(x), model.asarray(moved), 0.1)
    assert found == pytest.approx(0.05)


def test_perturbations_on_the_border_of_ball_and_box_pass():
    check([[0.4, 0.6], [0.5, 0.6]])
    check([[0.5, 0.5], [0.5, 0.5]], epsilon=0.0)
    check([[0.0, 1.0], [1.0, 0.0]], epsilon=0.5)
    check([[-1.0, 2.0], [0.5, 0.5]], epsilon=1.5, bounds=(-1.0, 2.0))


def test_rounding_of_float32_is_tolerated():
    check([[-2.98e-8, 1 + 1.2e-7], [0.5, 0.5]], epsilon=0.5)
    check([[0.6 + 6e-8, 0.4 - 6e-8], [0.5, 0.5]])
    # A range of 255 has 255 times the rounding.
    check([[255 + 1e-4, 0], [0, 0]], 255.0, x=(0, 0), bounds=(0.0, 255.0))


@pytest.mark.parametrize(
    ("adversarial", "complaint"),
    [
        ([[0.5, np.nan], [0.5, 0.5]], "an adversarial image holds NaN or infinity"),
        ([[0.5, 0.5], [np.inf, 0.5]], "an adversarial image holds NaN or infinity"),
        ([[0.5, 0.5], [-np.inf, 0.5]], "an adversarial image holds NaN or infinity"),
        ([[np.nan, np.nan], [np.nan, np.nan]], "an adversarial image holds NaN or infinity"),
        ([[0.5, 0.5], [0.5, 0.601]], r"is 0\.101 from its original, .* ball of radius 0\.1"),
        ([[0.399, 0.5], [0.5, 0.5]], r"is 0\.101 from its original, .* ball of radius 0\.1"),
        ([[0.5, 0.5]], r"the attack returned shape \(1, 2\) for \(2, 2\)"),
        ([[0.5], [0.5]], r"the attack returned shape \(2, 1\) for \(2, 2\)"),
    ],
)
def test_what_is_not_finite_or_leaves_the_ball_or_has_another_shape_is_an_error(
    adversarial, complaint
):
    with pytest.raises(MeasurementError, match=rf"^[^\n]*{complaint}[^\n]*$"):
        check(adversarial)


@pytest.mark.parametrize(
    ("adversarial", "span"),
    [([[-0.01, 0.5], [0.5, 0.5]], r"\[-0\.01, 0\.5\]"), ([[1, 1.01], [1, 1]], r"\[1, 1\.01\]")],
)
def test_what_leaves_the_box_is_an_error(adversarial, span):
    with pytest.raises(
        MeasurementError, match=rf"^adversarial pixels span {span}, outside the box \[0, 1\]$"
    ):
        check(adversarial, epsilon=0.6)


def test_epsilon_zero_tolerates_no_more_than_rounding():
    with pytest.raises(MeasurementError, match="outside the L∞ ball of radius 0"):
        check([[0.5, 0.50001], [0.5, 0.5]], epsilon=0.0)


@pytest.mark.parametrize("backend", NAMES)
def test_an_attack_that_writes_to_what_it_is_given_changes_no_label_logit_or_kept_image(backend):
    """It works in the arrays of the model, as NumPy's views of them are."""

    class Writes:
        name, norm, requires = "writes", "linf", frozenset()

        def perturb(self, model, x, y, epsilons, *, index):
            host, labels, logits = (model.numpy(a) for a in (x, y, model.logits(x)))
            for part in (host, labels, logits):
                if part.flags.writeable:
                    part.fill(0)
            for epsilon in [*epsilons]:
                epsilons[0] = 7.0
                index[:] = 0
                yield model.asarray(np.array(clean[:25] if epsilon == 0 else moved[:25]))

    model, (x, y) = small_net(backend, "float32"), small_images(25)
    clean, moved, before = x.copy(), np.clip(x + 0.1, 0, 1), (x.copy(), y.copy())
    first, second = sweep(model, Writes(), x, y, [0.0, 0.1], keep=[0, 3])
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])
    assert correct_count(first.predictions, y) == 21  # small_images names four of them wrongly
    np.testing.assert_array_equal(first.kept, clean[[0, 3]])
    np.testing.assert_array_equal(second.kept, moved[[0, 3]])


def test_kept_images_are_those_of_their_epsilon_where_an_attack_yields_one_array_again_and_again():
    class SameArray(Attack):
        def perturb(self, model, x, y, epsilons, *, index):
            start = x.copy()
            for epsilon in epsilons:
                x[...] = up(start, epsilon)
                yield x

    first, second = sweep(threshold_model(), SameArray(up), X, Y, [0.0, 0.25], keep=[0, 3])
    np.testing.assert_array_equal(first.kept, X[[0, 3]])
    np.testing.assert_allclose(second.kept, [[0.35], [0.65]], atol=1e-6)
