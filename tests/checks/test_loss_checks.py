"""The check that compares an attack's losses with each of two: what fires, what says nothing."""

import pytest
from zoo.broken_attacks import BROKEN_ATTACKS, Adapter
from zoo.healthy import overconfident, unsure
from zoo.networks import built, images

from harness.attacks.pgd import PGD
from harness.checks.validity import Attacks, Evidence
from harness.checks.validity.losses import check_other_loss
from harness.errors import CheckFailed, NotApplicable


def evidence(make, attack):
    return Evidence(make(), *images(), attacks=Attacks(iterated=attack))


def test_the_cross_entropy_alone_on_small_logits_is_found_with_the_numbers():
    make, fires = BROKEN_ATTACKS["one-loss"]
    assert "other-loss-stronger" in fires
    with pytest.raises(CheckFailed) as caught:
        check_other_loss(make())
    assert str(caught.value) == (
        "other-loss-stronger: at epsilon 0.1 63 of 100 images are correct under pgd with "
        "cross-entropy, but only 45 under PGD with margin. Climb both: "
        'losses = ["cross-entropy", "margin"]; the scale of the logits decides which leads further.'
    )


@pytest.mark.parametrize("make", [built, unsure, overconfident])
def test_an_attack_that_climbs_both_losses_is_not_blamed(make):
    check_other_loss(evidence(make, PGD()))


@pytest.mark.parametrize("loss", ["cross-entropy", "margin"])
def test_either_loss_does_on_ordinary_logits(loss):
    check_other_loss(evidence(built, PGD(losses=(loss,))))


def test_a_loss_that_finds_less_than_the_cross_entropy_is_found_too():
    """The ratio of logits has a slope of its own, by which one step leads astray."""
    weak = PGD(steps=1, losses=("dlr",))
    with pytest.raises(CheckFailed, match="pgd with dlr, but only"):
        check_other_loss(evidence(built, weak))


def test_in_l2_the_losses_are_compared_in_l2():
    check_other_loss(evidence(built, PGD(norm="l2")))


def test_an_attack_that_does_not_say_its_loss_is_not_judged():
    with pytest.raises(NotApplicable, match=r"^adapter does not say which loss it climbs$"):
        check_other_loss(evidence(built, Adapter()))
