"""Auto-PGD: its checks by hand, steps that halve where the loss stalls, and the way back."""

import math
from itertools import pairwise

import numpy as np
import pytest
from small_models import Counting, attacked, linear, small_images, small_net

from harness.attacks import make_attack
from harness.attacks.apgd import APGD, _checks
from harness.attacks.ball import Ball, BestSoFar
from harness.attacks.iterated import OBJECTIVES
from harness.attacks.pgd import PGD
from harness.maths.objectives import LogOdds

# Logits (9 + u, -9 - u, -10, -11) with u = x - 2y: every loss of class 0 grows as u decreases.
FOUR = [[1, -2], [-1, 2], [0, 0], [0, 0]], [9, -9, -10, -11]


def test_progress_is_checked_ever_more_often():
    # Croce & Hein 2020, section 3.1: shares 0.22, 0.41, 0.57, 0.70, 0.80, 0.87, 0.93, 0.99.
    assert list(_checks(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert list(_checks(100).values()) == [22, 19, 16, 13, 10, 7, 6, 6]
    assert list(_checks(1000)) == [220, 410, 570, 700, 800, 870, 930, 990]
    assert list(_checks(10)) == [3, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("steps", range(1, 60))
def test_checks_lie_within_the_steps_and_their_intervals_sum_up(steps):
    found = _checks(steps)
    assert all(0 < place < steps for place in found)
    assert np.cumsum(list(found.values())).tolist() == list(found)
    assert list(found)[:1] == [math.ceil(0.22 * steps)] * (steps > 1)


def climb(losses, slopes, epsilon=1.0, steps=10):
    """Positions and step sizes of a pixel at 0, of which losses and slopes are told."""
    ball = Ball(linear([[1], [-1]], bounds=(-9.0, 9.0)), np.zeros((1, 1)), epsilon)
    attack = APGD(steps=steps)
    state = attack.begin(ball, {"moving": np.zeros((1, 1))})
    places, sizes = [0.0], []
    for number in range(steps):
        loss, slope = losses(number), slopes(number)
        state = attack.advance(
            ball, state, lambda loss=loss: np.array([loss]), np.array([[slope]]), number
        )
        places.append(state["moving"].item())
        sizes.append(state["step"].item())
    return places, sizes


def test_the_first_step_is_plain_and_the_others_keep_a_quarter_of_the_last():
    slopes = [1.0, -1.0, 1.0]
    places, sizes = climb(float, lambda number: slopes[number], epsilon=1.0, steps=3)
    # 2ε to the right, which the ball cuts off at 1; then to max(1 - 2, -1) = -1, of which three
    # quarters, and a quarter of the last move: 1 - 0.75 · 2 + 0.25 · 1 = -0.25.
    assert places[:3] == pytest.approx([0.0, 1.0, -0.25])
    assert sizes[0] == 2.0


def test_a_loss_that_rises_all_the_time_keeps_its_step():
    _, sizes = climb(float, lambda number: 1.0, steps=100)
    assert sizes == [2.0] * 100


def test_a_loss_that_stands_still_halves_the_step_at_every_check():
    _, sizes = climb(lambda number: 5.0, lambda number: 1.0, steps=100)
    halvings = [number for number in range(1, 100) if sizes[number] == sizes[number - 1] / 2]
    assert halvings == [22, 41, 57, 70, 80, 87, 93, 99]
    assert sizes[-1] == 2.0 / 2**8


@pytest.mark.parametrize(("rises", "halved"), [(15, True), (16, True), (17, False)])
def test_three_quarters_of_the_steps_must_rise(rises, halved):
    """Of the 22 before the first check that is 16.5; the best comes last, so that none is idle."""
    values = [*range(rises), *[-1] * (22 - rises), 99]
    assert sum(b > a for a, b in pairwise(values)) == rises
    _, sizes = climb(lambda number: float(values[min(number, 22)]), lambda number: 1.0, steps=100)
    assert (sizes[22] == 1.0) is halved


def test_a_best_that_is_never_passed_halves_the_step_at_every_other_check():
    """The loss rises all the time, but from far below: at a check after a halving that is fine."""
    _, sizes = climb(lambda number: float(number or 1000), lambda number: 1.0, steps=100)
    halvings = [number for number in range(1, 100) if sizes[number] == sizes[number - 1] / 2]
    assert halvings == [22, 57, 80, 93]


def test_a_loss_that_rises_by_rounding_alone_has_not_risen():
    _, sizes = climb(lambda number: 5.0 + 1e-9 * number, lambda number: 1.0, steps=100)
    assert sizes[-1] == 2.0 / 2**8


def test_a_stalled_image_goes_back_to_its_best_point_and_gradient():
    """The best is after the first step, at 1; then all is worse, and the slope points elsewhere."""
    places, sizes = climb(
        lambda number: 9.0 if number == 1 else -float(number),
        lambda number: -1.0 if number == 1 else 1.0,
        steps=10,
    )
    assert next(iter(_checks(10))) == 3
    # From 1 on with the halved step along -1, and a quarter of what led here from before.
    last = 1.0 - places[2]
    assert sizes[2:4] == [2.0, 1.0]
    assert places[4] == pytest.approx(np.clip(1 + 0.75 * (0.0 - 1) + 0.25 * last, -1, 1))


def test_images_stall_on_their_own():
    ball = Ball(linear([[1], [-1]], bounds=(-9.0, 9.0)), np.zeros((2, 1)), 1.0)
    attack = APGD(steps=10)
    state = attack.begin(ball, {"moving": np.zeros((2, 1))})
    for number in range(4):
        reached = np.array([float(number), 0.0])
        state = attack.advance(ball, state, lambda r=reached: r, np.ones((2, 1)), number)
    assert state["step"].tolist() == [2.0, 1.0]


def test_a_radius_per_image_gives_a_step_per_image():
    radii = np.array([[0.5], [0.25]])
    ball = Ball(linear([[1], [-1]], bounds=(-9.0, 9.0)), np.zeros((2, 1)), radii)
    attack = APGD()
    state = attack.begin(ball, {"moving": np.zeros((2, 1))})
    assert state["step"].tolist() == [1.0, 0.5]
    state = attack.advance(ball, state, lambda: np.zeros(2), np.ones((2, 1)), 0)
    assert state["moving"].tolist() == [[0.5], [0.25]]


@pytest.mark.parametrize(("name", "options"), [("apgd", {}), ("apgd-t", {"targets": 1})])
def test_the_corner_of_the_ball_of_a_linear_model_is_reached(name, options):
    attack = make_attack(name, options=options)
    (found,) = attacked(attack, linear(*FOUR), [[0.5, 0.5]], [0], [0.125])
    np.testing.assert_allclose(found, [[0.375, 0.625]], atol=1e-9)


@pytest.mark.parametrize("loss", ["cross-entropy", "margin", "dlr"])
def test_images_that_stay_correct_end_where_the_loss_was_highest(loss):
    model, (x, y) = Counting(small_net()), small_images(40, wrong=0)
    attack = APGD(steps=9, losses=(loss,))
    (found,) = attacked(attack, model, x, y, [0.02])
    left = model.model.logits(found).argmax(axis=1) == y
    assert left.sum() > 20
    true = np.arange(5) == y[:, None]

    def losses(images):
        return OBJECTIVES[loss].value(np, model.model.logits(images), true)[left]

    # The clean images are asked for first; then each step, and the last point.
    path = [losses(images) for images in model.asked[1:] if len(images) == len(y)]
    assert len(path) >= 10
    np.testing.assert_allclose(losses(found), np.max(path, axis=0), rtol=1e-5)


def test_its_losses_are_no_lower_than_those_of_pgd():
    model, (x, y) = small_net(), small_images(60, wrong=0)
    true = np.arange(5) == y[:, None]
    means = []
    for attack in (
        PGD(steps=20, losses=("cross-entropy",)),
        APGD(steps=20, losses=("cross-entropy",)),
    ):
        (found,) = attacked(attack, model, x, y, [0.1])
        means.append((model.logits(found).argmax(axis=1) == y, found))
    left = means[0][0] & means[1][0]
    assert left.sum() > 20
    theirs, ours = (LogOdds().value(np, model.logits(a), true)[left].mean() for _, a in means)
    assert ours >= theirs - 1e-3
    assert means[1][0].sum() <= means[0][0].sum()


@pytest.mark.parametrize(("name", "enough"), [("apgd", 3), ("apgd-t", 4)])
def test_with_too_few_classes_for_the_ratio_the_margin_serves(name, enough):
    attack = make_attack(name)
    for classes in range(2, enough + 2):
        best = BestSoFar(linear(np.eye(classes)), np.eye(classes), np.arange(classes))
        losses = {loss for loss, _ in attack._attempts(best)}
        assert ("dlr" in losses) == (classes >= enough)
        assert ("margin" in losses) == (classes < enough)


def test_two_classes_are_attacked():
    model = linear([[1, -2], [-1, 2]], [0.1, -0.1])
    for name in ("apgd", "apgd-t"):
        (found,) = attacked(make_attack(name), model, [[0.5, 0.25]], [0], [0.1])
        assert found.tolist() == pytest.approx(np.array([[0.4, 0.35]]))
