"""What an attack aims at, and what it says of itself, asked of ours and of those of a user."""

import numpy as np
import pytest
from small_models import small_images, small_net

import harness
from harness.attacks import ATTACKS, make_attack
from harness.attacks.options import options_of
from harness.attacks.pgd import PGD
from harness.protocol import Attack, goals_of, is_targeted

LOGITS = np.array([[3.0, 2.0, 1.0], [0.0, 4.0, 5.0]])


class Plain:
    """All that a user's attack needs."""

    name, norm, requires = "plain", "linf", frozenset()

    def perturb(self, model, x, y, epsilons, *, index):
        return (model.xp.clip(x + e, *model.bounds) for e in epsilons)


class Aiming(Plain):
    name = "aiming"

    def goals(self, logits, labels):
        return (labels + 1) % logits.shape[1]


class Derived(Attack):
    name, norm, requires = "derived", "linf", frozenset()
    strength = 3
    perturb = Plain.perturb


class Inherited(PGD):
    strength = 3


def test_goals_by_hand():
    labels = np.array([0, 2])
    assert goals_of(PGD(target="runner-up"), LOGITS, labels).tolist() == [1, 1]
    assert goals_of(PGD(target="least-likely"), LOGITS, labels).tolist() == [2, 0]
    assert goals_of(Aiming(), LOGITS, labels).tolist() == [1, 0]
    assert all(goals_of(one, LOGITS, labels) is None for one in (PGD(), Plain(), Derived()))


@pytest.mark.parametrize("name", ATTACKS)
def test_none_of_the_presets_aims_at_one_class(name):
    assert not is_targeted(make_attack(name))


def test_an_attack_that_aims_at_one_class_is_told_by_its_goals():
    assert is_targeted(PGD(target="next"))
    assert not is_targeted(PGD(target="each"))
    assert [is_targeted(one) for one in (Plain(), Aiming(), Derived())] == [False, True, False]


def test_the_success_of_an_attack_of_a_user_is_counted_by_its_goals():
    x, y = small_images(30)
    model = small_net()
    run = harness.evaluate(model, x, y, [Plain(), Aiming()], [0.2])
    plain, aiming = (
        next(record for record in run.records if record.check == name)
        for name in ("plain", "aiming")
    )
    predicted = model.logits(np.clip(x + np.float32(0.2), 0, 1).astype(float)).argmax(axis=1)
    assert plain.value is None
    assert plain.correct == np.sum(predicted == y)
    assert aiming.value == pytest.approx(np.mean(predicted == (y + 1) % 5))


@pytest.mark.parametrize(
    ("goals", "reason"),
    [
        (lambda logits, labels: labels[1:], "int64 of shape (29,), not integers of shape (30,)"),
        (lambda logits, labels: np.stack([labels, labels], 1), "int64 of shape (30, 2), not"),
        (lambda logits, labels: 3, "int64 of shape (), not integers"),
        (lambda logits, labels: np.full(len(labels), np.nan), "float64 of shape (30,), not"),
        (lambda logits, labels: labels + 5, "span [5, 9], but the model has 5 classes from 0"),
        (lambda logits, labels: 1 // 0, "ZeroDivisionError: "),
    ],
)
def test_goals_that_are_no_classes_are_an_error_of_this_attack_alone(goals, reason):
    x, y = small_images(30)
    aiming = Aiming()
    aiming.goals = goals
    run = harness.evaluate(small_net(), x, np.arange(30) % 5, [aiming, Plain()], [0.2])
    assert y.max() < 5
    found = {record.check: record for record in run.records}
    assert found["aiming"].status == "error"
    assert reason in found["aiming"].reason
    assert found["plain"].status == "measured"


def test_an_attack_may_aim_at_a_class_that_few_models_have():
    class Twentieth(Plain):
        def goals(self, logits, labels):
            return logits.argsort(axis=1)[:, 19]

    logits = np.arange(25.0)[None]
    assert is_targeted(Twentieth())
    assert goals_of(Twentieth(), logits, np.array([0])).tolist() == [19]


def test_a_class_derived_from_ours_tells_what_it_holds_beside_what_it_inherits():
    assert options_of(Derived())["strength"] == 3
    told = options_of(Inherited(steps=10))
    assert (told["strength"], told["rel_stepsize"], told["steps"]) == (3, 0.25, 10)
