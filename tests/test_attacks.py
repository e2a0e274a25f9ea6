"""Attacks: answers computed by hand on linear models, and the limits that hold for any model."""

import numpy as np
import pytest
import toy_training
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.numpy_backend import NumpyBackend
from harness.attacks import ATTACKS, make_attack
from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD, same_start
from harness.errors import SpecError
from harness.measure import correct_count, sweep
from harness.objectives import CrossEntropy
from harness.protocol import GRADIENT, Architecture
from harness.spec import TrainingSpec
from harness.training import initial_weights


def linear(matrix, bounds=(0.0, 1.0), dtype="float32"):
    """Logits ``matrix @ pixels``, without bias."""
    matrix = np.array(matrix, dtype)
    classes, pixels = matrix.shape
    weights = {"layers.0.weight": matrix, "layers.0.bias": np.zeros(classes)}
    return NumpyBackend().build(
        Architecture((pixels,), (), classes), weights, bounds=bounds, dtype=dtype
    )


# The second logit is minus the first, so a loss for class 0 grows along (-1, +1).
DIAGONAL = [[1, -2], [-1, 2]]


class Counting:
    """A model that counts what is asked of it."""

    def __init__(self, model):
        self.model = model
        self.gradients = 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def logits_and_gradient(self, x, y, objective):
        self.gradients += 1
        return self.model.logits_and_gradient(x, y, objective)


def fgsm(model, x, y, epsilons):
    return [a.tolist() for a in FGSM().perturb(model, np.array(x), np.array(y), epsilons)]


# FGSM


def test_fgsm_steps_by_epsilon_along_the_sign_of_the_gradient():
    model = linear(DIAGONAL, dtype="float64")
    (found,) = fgsm(model, [[0.5, 0.5], [0.5, 0.5]], [0, 1], [0.125])
    assert found == [[0.375, 0.625], [0.625, 0.375]]


def test_fgsm_yields_the_epsilons_in_their_order():
    model = linear(DIAGONAL, dtype="float64")
    found = fgsm(model, [[0.5, 0.5]], [0], [0.25, 0.0, 0.5, 0.125])
    assert found == [[[0.25, 0.75]], [[0.5, 0.5]], [[0.0, 1.0]], [[0.375, 0.625]]]


def test_fgsm_clips_to_the_box_of_the_model():
    x = [[0.0625, 0.9375]]
    assert fgsm(linear(DIAGONAL), x, [0], [0.125]) == [[[0.0, 1.0]]]
    assert fgsm(linear(DIAGONAL), x, [1], [0.125]) == [[[0.1875, 0.8125]]]
    assert fgsm(linear(DIAGONAL, bounds=(-1, 2)), x, [0], [0.125]) == [[[-0.0625, 1.0625]]]


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_epsilon_zero_returns_the_images_to_the_last_bit(name):
    x = np.random.default_rng(0).random((20, 2), dtype=np.float32)
    x[0], x[1] = 0, 1
    found, _ = make_attack(name).perturb(linear(DIAGONAL), x, np.arange(20) % 2, [0.0, 0.1])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, x)


def test_one_gradient_serves_all_epsilons():
    model = Counting(linear(DIAGONAL))
    x, y = np.full((3, 2), 0.5, np.float32), np.array([0, 1, 0])
    assert len(list(FGSM().perturb(model, x, y, [0.0, 0.1, 0.2, 0.3]))) == 4
    assert model.gradients == 1


def test_a_misclassified_image_moves_further_from_its_true_label():
    model = linear(DIAGONAL, dtype="float64")
    x, y = np.array([[0.25, 0.75]]), np.array([0])
    assert model.logits(x).argmax() == 1
    # With the predicted label the signs would be the other way round.
    assert fgsm(model, x, y, [0.125]) == [[[0.125, 0.875]]]


@pytest.mark.parametrize("margin", [1, 40, 80])
def test_a_confident_image_moves_as_far_as_any_other(margin):
    model = linear([[margin, 0], [0, margin]])
    x = np.array([[1, 0]], np.float32)
    assert fgsm(model, x, [0], [0.25]) == [[[0.75, 0.25]]]


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_the_images_are_not_changed(name):
    x = np.full((2, 2), 0.5, np.float32)
    x.flags.writeable = False
    list(make_attack(name).perturb(linear(DIAGONAL), x, np.array([0, 1]), [0.1, 0.2]))


# PGD


def centre(shape):
    """A start at the image itself."""
    return np.zeros(shape, np.float32)


def pgd(model, x, y, epsilons, **options):
    return [a.tolist() for a in PGD(**options).perturb(model, np.array(x), np.array(y), epsilons)]


def test_pgd_reaches_the_corner_of_the_ball_of_a_linear_model():
    model = linear(DIAGONAL, dtype="float64")
    found = pgd(model, [[0.5, 0.5], [0.5, 0.5]], [0, 1], [0.125, 0.25])
    assert found == [[[0.375, 0.625], [0.625, 0.375]], [[0.25, 0.75], [0.75, 0.25]]]


def test_pgd_projects_into_the_box_too():
    x = [[0.0625, 0.9375]]
    assert pgd(linear(DIAGONAL), x, [0], [0.125]) == [[[0.0, 1.0]]]
    assert pgd(linear(DIAGONAL, bounds=(-1, 2)), x, [0], [0.125]) == [[[-0.0625, 1.0625]]]


@pytest.mark.parametrize(
    ("start", "steps", "reach", "expected"),
    [
        (0.0, 1, 0.5, [0.5 - 0.0625, 0.5 + 0.0625]),  # half of 1/8, from the image itself
        (0.0, 4, 0.5, [0.5 - 0.0625, 0.5 + 0.0625]),  # in four steps as far as in one
        (1.0, 1, 1.0, [0.5, 0.625]),  # from the upper corner, which cannot be left
        (-0.5, 2, 1.0, [0.375, 0.5625]),
        (1.0, 2, 1.5, [0.4375, 0.625]),
    ],
)
def test_pgd_takes_steps_of_their_reach_from_its_start(start, steps, reach, expected):
    model = linear(DIAGONAL, dtype="float64")
    found = pgd(
        model, [[0.5, 0.5]], [0], [0.125], steps=steps, reach=reach,
        start=lambda shape: np.full(shape, start, np.float32),
    )  # fmt: skip
    np.testing.assert_allclose(found, [[expected]], atol=1e-9)


def test_pgd_follows_the_slope_where_it_is():
    """Where the pixel is dark the loss rises to the right, and beyond 0.55 to the left."""

    class Ridge:
        xp, bounds = np, (0.0, 1.0)

        def __init__(self):
            self.at = []

        def asarray(self, values):
            return np.asarray(values)

        def logits_and_gradient(self, x, y, objective):
            self.at.append(x.item())
            return None, np.where(x < 0.55, 1.0, -1.0)

    model = Ridge()
    attack = PGD(steps=4, reach=2.0, start=centre)
    (found,) = attack.perturb(model, np.array([[0.5]]), np.array([0]), [0.2])
    assert model.at == pytest.approx([0.5, 0.6, 0.5, 0.6])
    assert found.item() == pytest.approx(0.5)


def test_pgd_begins_every_batch_with_the_same_image():
    first, other = same_start((1, 2, 3)), same_start((7, 2, 3))
    assert (first.shape, first.dtype) == ((1, 2, 3), np.float32)
    np.testing.assert_array_equal(first, other)
    assert abs(same_start((1, 30, 30))).max() <= 1
    assert abs(same_start((1, 30, 30)).mean()) < 0.1
    assert same_start((1, 30, 30)).std() == pytest.approx(1 / np.sqrt(3), rel=0.05)


def test_pgd_takes_one_gradient_a_step_and_epsilon():
    model = Counting(linear(DIAGONAL))
    x, y = np.full((3, 2), 0.5, np.float32), np.array([0, 1, 0])
    assert len(list(PGD(steps=7).perturb(model, x, y, [0.0, 0.1]))) == 2
    assert model.gradients == 14


@pytest.fixture(scope="module")
def toy():
    """A network that was trained on the toy images, and such images."""
    recipe = TrainingSpec(epochs=8, batch_size=12, learning_rate=0.01)
    trained = toy_training.toy_train("numpy", recipe)
    model = NumpyBackend().build(toy_training.toy_net("numpy"), trained.weights)
    part = toy_training.toy_part(90, seed=9)
    return model, part.x, part.y


def test_pgd_is_at_least_as_strong_as_fgsm(toy):
    model, x, y = toy
    epsilons = [0.1, 0.15, 0.2, 0.25]
    true = np.arange(3) == y[:, None]
    lost = []
    for attack in (FGSM(), PGD()):
        results = sweep(model, attack, x, y, epsilons)
        right = [correct_count(result.answers, y) for result in results]
        images = attack.perturb(model, x, y, epsilons)
        losses = [CrossEntropy().value(np, model.logits(a), true).mean() for a in images]
        lost.append((right, losses))
    (fgsm_right, fgsm_loss), (pgd_right, pgd_loss) = lost
    assert 0 < sum(fgsm_right) < 4 * len(y)  # there is something to compare
    assert sum(pgd_right) < sum(fgsm_right)
    assert all(strong <= weak for strong, weak in zip(pgd_right, fgsm_right, strict=True))
    assert all(strong > weak for strong, weak in zip(pgd_loss, fgsm_loss, strict=True))


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_neither_the_batch_size_nor_the_call_matters(toy, name):
    model, x, y = toy
    keep = [0, 5, 89]
    first, *others = (
        sweep(model, make_attack(name), x, y, [0.1, 0.2], keep=keep, batch_size=size)
        for size in (90, 90, 7, 1)
    )
    for other in others:
        for ours, theirs in zip(first, other, strict=True):
            np.testing.assert_array_equal(ours.answers.labels, theirs.answers.labels)
            np.testing.assert_allclose(ours.kept, theirs.kept, atol=1e-6)
    # Asked again, it is the same to the last bit.
    np.testing.assert_array_equal(first[1].kept, others[0][1].kept)


# Any attack


@st.composite
def problems(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = draw(st.sampled_from([(1,), (5,), (2, 3)]))
    hidden = draw(st.sampled_from([(), (4,), (6, 3)]))
    classes = draw(st.integers(2, 4))
    low, high = draw(st.sampled_from([(0.0, 1.0), (-1.0, 1.0), (-0.5, 2.5)]))
    architecture = Architecture(shape, hidden, classes)
    weights = initial_weights(architecture, seed=int(rng.integers(1000)))
    scale = draw(st.sampled_from([1, 30]))
    weights = {name: scale * value for name, value in weights.items()}
    model = NumpyBackend().build(architecture, weights, bounds=(low, high))
    n = draw(st.integers(1, 6))
    x = rng.uniform(low, high, (n, *shape)).clip(low, high)
    x[rng.random(x.shape) < 0.2] = draw(st.sampled_from([low, high]))
    epsilons = draw(st.lists(st.floats(0, 3, width=32), min_size=1, max_size=4))
    return model, x.astype(np.float32), rng.integers(classes, size=n), epsilons


@pytest.mark.parametrize("name", sorted(ATTACKS))
@settings(deadline=None, max_examples=60, database=None)
@given(problem=problems())
def test_adversarial_images_stay_in_the_ball_and_the_box(name, problem):
    model, x, y, epsilons = problem
    found = list(make_attack(name).perturb(model, x, y, epsilons))
    assert len(found) == len(epsilons)
    for epsilon, adversarial in zip(epsilons, found, strict=True):
        assert adversarial.shape == x.shape
        assert np.abs(adversarial.astype(float) - x).max() <= epsilon + 1e-6
        assert adversarial.min() >= model.bounds[0] - 1e-6
        assert adversarial.max() <= model.bounds[1] + 1e-6


@settings(deadline=None, max_examples=60, database=None)
@given(
    matrix=st.lists(st.lists(st.integers(-3, 3), min_size=3, max_size=3), min_size=2, max_size=2),
    label=st.integers(0, 1),
    epsilon=st.sampled_from([0.01, 0.1, 0.4]),
)
def test_fgsm_reaches_the_highest_loss_in_the_ball_of_a_linear_model(matrix, label, epsilon):
    model = linear(matrix, bounds=(0.0, 1.0), dtype="float64")
    x, y = np.array([[0.5, 0.5, 0.5]]), np.array([label])
    true = np.arange(2) == label
    (adversarial,) = FGSM().perturb(model, x, y, [epsilon])
    found = CrossEntropy().value(np, model.logits(adversarial), true)
    corners = x + epsilon * (np.indices((2, 2, 2)).reshape(3, 8).T * 2 - 1)
    assert found >= CrossEntropy().value(np, model.logits(corners), true).max() - 1e-12


def test_attacks_are_made_by_name():
    attack = make_attack("fgsm")
    assert isinstance(attack, FGSM)
    assert attack.requires == {GRADIENT}
    assert all(make_attack(name).name == name for name in ATTACKS)


def test_an_unknown_attack_is_named_in_one_line_with_the_known_ones():
    with pytest.raises(SpecError, match=r"^fgms: no such attack; [^\n]*\bfgsm\b[^\n]*$"):
        make_attack("fgms")
