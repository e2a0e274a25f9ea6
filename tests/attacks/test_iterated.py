"""Iterated attacks: paths computed by hand, linear models of known optimum, starts and targets."""

import numpy as np
import pytest
from backends_at_hand import NAMES
from small_models import Counting, attacked, linear, right, small_images, small_net

from harness.attacks import make_attack
from harness.attacks.pgd import MIM, PGD
from harness.attacks.sweep import sweep
from harness.errors import MeasurementError
from harness.maths.norms import NORMS

# The second logit is minus the first, so a loss for class 0 grows along (-1, +1); this cannot win.
DIAGONAL, ALWAYS = [[1, -2], [-1, 2]], [9, -9]
HALF = np.array([[0.5, 0.5]])
ONE = ("cross-entropy",)
"""Losses of an attack that makes one attempt."""


def one(attack, x=HALF, epsilon=0.125, bounds=(0.0, 1.0)):
    """The adversarial image of class 0, of which nothing leads to another class."""
    (found,) = attacked(attack, linear(DIAGONAL, ALWAYS, bounds=bounds), x, [0], [epsilon])
    return found.tolist()


@pytest.mark.parametrize("name", ["pgd", "mim", "i-fgsm"])
def test_the_corner_of_the_ball_of_a_linear_model_is_reached(name):
    assert one(make_attack(name)) == pytest.approx(np.array([[0.375, 0.625]]))
    assert one(make_attack(name), epsilon=0.25) == pytest.approx(np.array([[0.25, 0.75]]))


@pytest.mark.parametrize("name", ["pgd", "mim", "i-fgsm"])
def test_the_box_holds_too(name):
    x = np.array([[0.0625, 0.9375]])
    assert one(make_attack(name), x) == pytest.approx(np.array([[0.0, 1.0]]))
    wide = one(make_attack(name), x, bounds=(-1, 2))
    assert wide == pytest.approx(np.array([[-0.0625, 1.0625]]))


def test_pgd_in_l2_reaches_the_point_along_the_gradient():
    model = linear([[3, -4], [-3, 4]], ALWAYS)
    for start, close in (("clean", 1e-9), ("random", 5e-3)):
        (found,) = attacked(PGD(norm="l2", start=start), model, HALF, [0], [0.25])
        np.testing.assert_allclose(found, [[0.5 - 0.15, 0.5 + 0.2]], atol=close)
        assert np.linalg.norm(found - HALF) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("steps", "rel_stepsize", "length"),
    [(1, 0.5, 0.5), (4, 0.125, 0.5), (1, 1.0, 1.0), (4, 0.25, 1.0), (2, 1.0, 1.0)],
)
@pytest.mark.parametrize("kind", [PGD, MIM])
def test_each_step_from_a_clean_start_has_the_relative_size(kind, steps, rel_stepsize, length):
    found = one(kind(steps=steps, rel_stepsize=rel_stepsize, start="clean"))
    moved = 0.125 * length
    np.testing.assert_allclose(found, [[0.5 - moved, 0.5 + moved]], atol=1e-9)


class Path:
    """A model of one pixel that is always right, and the slopes that it answers in turn."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset({"gradient"})

    def __init__(self, slope):
        self.slope = slope
        self.at = []

    def asarray(self, values):
        return np.asarray(values)

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        return np.hstack([x + 1, 0 * x])

    def logits_and_gradient(self, x, y, objective):
        self.at.append(x.item())
        return self.logits(x), self.slope(x, len(self.at))


def test_pgd_follows_the_slope_where_it_is():
    """Where the pixel is dark the loss rises to the right, and beyond 0.55 to the left."""
    model = Path(lambda x, call: np.where(x < 0.55, 1.0, -1.0))
    attack = PGD(steps=4, rel_stepsize=0.5, start="clean", losses=ONE)
    (found,) = attacked(attack, model, [[0.5]], [0], [0.2])
    assert model.at == pytest.approx([0.5, 0.6, 0.5, 0.6])
    assert found.item() == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("decay", "path"),
    [
        # Each slope counts as ±1: the sums are 1, 2, 1, 0, -1; or with half of it 1, 1.5, -0.25.
        (1.0, [0.5, 0.54, 0.58, 0.62, 0.62]),
        (0.5, [0.5, 0.54, 0.58, 0.54, 0.5]),
        (0.0, [0.5, 0.54, 0.58, 0.54, 0.5]),
    ],
)
def test_mim_goes_along_the_gathered_slopes(decay, path):
    model = Path(lambda x, call: np.full_like(x, 7.0 if call <= 2 else -1e-3))
    (found,) = attacked(MIM(steps=5, decay=decay, losses=ONE), model, [[0.5]], [0], [0.2])
    assert model.at == pytest.approx(path)
    assert found.item() == pytest.approx(path[-1] - 0.04)


def test_one_random_step_of_fgsm_rs_goes_five_quarters_of_epsilon():
    model = linear(np.eye(4) * 0.01, [9, 0, 0, 0], bounds=(-9.0, 9.0))
    x, y = np.zeros((200, 4)), np.zeros(200, int)
    (found,) = attacked(make_attack("fgsm-rs"), model, x, y, [0.1])
    # Of starts that are even in [-ε, ε] five in eight are led to -ε, and no other beyond -ε/4.
    assert found[:, 0].min() >= -0.1 - 1e-9
    assert (found[:, 0] < -0.1 + 1e-9).mean() == pytest.approx(5 / 8, abs=0.08)
    assert found[:, 0].max() == pytest.approx(-0.025, abs=0.005)


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("name", ["pgd", "mim", "apgd", "apgd-t"])
def test_a_gradient_that_is_not_a_number_is_not_hidden(name, backend):
    class Broken(Counting):
        def logits_and_gradient(self, x, y, objective):
            logits, gradient = super().logits_and_gradient(x, y, objective)
            return logits, gradient * float("nan")

    model, (x, y) = Broken(small_net(backend, "float32")), small_images(wrong=0)
    with pytest.raises(MeasurementError, match=r"^an adversarial image holds NaN or infinity$"):
        sweep(model, make_attack(name, options={"steps": 3, "restarts": 1}), x, y, [0.001])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball_and_each_restart_has_its_own(norm):
    model = Counting(linear(np.eye(4), [9, 0, 0, 0], bounds=(-9.0, 9.0)))
    x, y = np.zeros((300, 4)), np.zeros(300, int)
    attack = PGD(norm=norm, steps=1, restarts=2, losses=ONE)
    attacked(attack, model, x, y, [0.1])
    first, second = model.asked[1], model.asked[3]  # after the clean images, and the end of one
    for starts in (first, second):
        lengths = NORMS[norm].length(np, starts)
        assert lengths.max() <= 0.1 + 1e-9
        assert (lengths < 0.05).mean() == pytest.approx(1 / 16, abs=0.05)
    assert not np.isclose(first, second).any(axis=1).all()


def test_an_attempt_takes_one_gradient_a_step_and_there_is_one_for_each_loss_and_restart():
    model = Counting(linear([[1, -2], [-1, 2], [0, 0]], [9, -9, -9]))
    attacked(PGD(steps=7, losses=ONE), model, HALF, [0], [0.0, 0.1])
    assert model.gradients == 7
    attack = PGD(steps=3, restarts=2, losses=("cross-entropy", "margin", "dlr"))
    attacked(attack, model, HALF, [0], [0.1])
    assert model.gradients == 7 + 3 * 2 * 3


def test_more_restarts_break_no_fewer_images():
    model, (x, y) = small_net(), small_images()
    counts = []
    for restarts in (1, 4):
        (found,) = attacked(PGD(steps=4, rel_stepsize=0.25, restarts=restarts), model, x, y, [0.15])
        counts.append(right(model, found, y))
    assert counts[1] <= counts[0]


# Targets. Every pixel is a class of its own; the first is the true one.
PIXELS = np.array([[0.5, 0.3, 0.4, 0.2]])


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "dlr"])
@pytest.mark.parametrize(("target", "goal"), [("next", 1), ("runner-up", 2), ("least-likely", 3)])
def test_a_target_is_what_the_image_is_taken_for(backend, loss, target, goal):
    model = linear(10 * np.eye(4), backend=backend)
    attack = PGD(steps=20, target=target, losses=(loss,), start="clean")
    (found,) = attacked(attack, model, PIXELS, [0], [0.25])
    assert model.numpy(model.logits(model.asarray(found))).argmax() == goal


def test_the_class_next_to_the_last_is_the_first():
    model = linear(10 * np.eye(4))
    (found,) = attacked(PGD(target="next"), model, PIXELS[:, ::-1], [3], [0.3])
    assert model.logits(found).argmax() == 0


def test_a_targeted_image_goes_on_until_it_is_taken_for_its_target():
    """Another class leads from 0.05 on, and the least likely from 0.2 on."""
    model = linear(10 * np.eye(4))
    attack = PGD(target="least-likely", start="clean", losses=("margin",))
    found = attacked(attack, model, PIXELS, [0], [0.04, 0.18, 0.21])
    assert model.logits(found[0]).argmax() == 0
    assert model.logits(found[1]).argmax() == 2  # misses its target, and is attacked again
    assert model.logits(found[2]).argmax() == 3


def test_each_tries_the_likely_classes_in_turn_and_any_serves():
    seen = []

    class Spy(Counting):
        def logits_and_gradient(self, x, y, objective):
            seen.append(y[0].tolist())
            return super().logits_and_gradient(x, y, objective)

    attack = PGD(target="each", targets=2, steps=1, losses=ONE)
    model = linear(10 * np.eye(4), [9, 0, 0, 0])
    attacked(attack, Spy(model), PIXELS, [0], [0.1])
    assert seen == [[-1, 0, 1, 0], [-1, 1, 0, 0]]
    seen.clear()
    attacked(PGD(target="each", steps=1, losses=ONE), Spy(model), PIXELS, [0], [0.1])
    assert seen == [[-1, 0, 1, 0], [-1, 1, 0, 0], [-1, 0, 0, 1]]
    (found,) = attacked(PGD(target="each"), linear(10 * np.eye(4)), PIXELS, [0], [0.06])
    assert linear(np.eye(4)).logits(found).argmax() == 2


@pytest.mark.parametrize("target", ["next", "runner-up", "least-likely"])
def test_what_a_targeted_attack_has_made_wrong_or_hit_stays_so_at_larger_epsilons(target):
    model, (x, y) = small_net(), small_images(60)
    attack = PGD(steps=5, target=target)
    goals = attack.goals(model.logits(x), y)
    before = np.zeros((2, len(y)), bool)
    for found in attacked(attack, model, x, y, [0.0, 0.02, 0.05, 0.1, 0.2, 0.4]):
        labels = model.logits(found).argmax(axis=1)
        now = np.array([labels != y, labels == goals])
        assert (now >= before).all()
        before = now
    assert before[1].any()
    assert before[0].sum() > 8


def test_an_image_that_is_wrong_already_is_still_led_to_its_target():
    model = linear(10 * np.eye(4))
    attack = PGD(target="next", start="clean")
    (found,) = attacked(attack, model, PIXELS, [2], [0.2])  # it is taken for 0, and meant to be 3
    assert model.logits(found).argmax() == 3


def test_of_several_attempts_at_a_target_the_best_is_kept():
    """Of one seed the first attempt is the same, whatever comes after it."""
    model, (x, y) = small_net(), small_images(60, wrong=0)
    goals = PGD(target="least-likely").goals(model.logits(x), y)
    rows = np.arange(len(y))

    def reached(restarts, epsilon):
        attack = PGD(steps=3, rel_stepsize=1 / 3, target="least-likely", restarts=restarts)
        (found,) = attacked(attack, model, x, y, [epsilon])
        logits = model.logits(found)
        goal = logits[rows, goals]
        logits[rows, goals] = -np.inf
        rank = np.where(goal > logits.max(axis=1), 2, logits.argmax(axis=1) != y)
        return rank, goal - logits.max(axis=1)

    for epsilon in (0.05, 0.15):
        (few, short), (many, far) = reached(1, epsilon), reached(5, epsilon)
        assert (many >= few).all()
        same = (many == few) & (many < 2)
        assert same.sum() > 20
        assert (far[same] >= short[same]).all()


def test_an_attack_that_aims_at_no_single_class_has_no_goals():
    logits, labels = np.array([[3.0, 2.0, 1.0]]), np.array([0])
    assert PGD().goals(logits, labels) is None
    assert PGD(target="each").goals(logits, labels) is None
    assert PGD(target="runner-up").goals(logits, labels).tolist() == [1]
