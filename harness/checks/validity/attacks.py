"""Is the attack implemented correctly? Its images at every epsilon, and its direction."""

from __future__ import annotations

import numpy as np

from harness.checks.validity.evidence import Evidence
from harness.checks.validity.lots import PANEL, SHARES
from harness.checks.validity.panel import shortfall
from harness.checks.validity.reported import Change, attacked_changes, counted_changes
from harness.errors import CheckFailed, NotApplicable
from harness.maths.adaptive import RANDOM_ON_PURPOSE, is_randomised
from harness.maths.norms import written
from harness.maths.statistics import exceeds, more_often
from harness.protocol import BoolArray

HELPED = 0.1
"""Share of misclassified images that an attack may correct by accident."""
TOLD = 0.02
"""The same of a reported attack: FGSM corrects one of 300, however far it goes."""


def check_epsilon_zero(evidence: Evidence) -> None:
    """At ε = 0 no prediction changes: there the ball holds the clean image alone."""
    _require_steady(evidence)
    looked = False
    for outcome in evidence.at_zero():
        looked = True
        clean = evidence.labels[: len(outcome.labels)]
        # An image that is what it was has its label changed by the model, not by the attack.
        moved = int(np.sum((outcome.labels != clean) & ~outcome.unchanged))
        if outcome.finite and moved:
            raise CheckFailed(
                f"{outcome.attack} at epsilon 0 changes {moved} of {len(clean)} predictions",
                "Scale every change by epsilon, the random start too, and keep the images' order.",
                of="epsilon-zero",
            )
    if not looked:
        raise NotApplicable("no attack can be run on this model")


def check_outside_box(evidence: Evidence) -> None:
    """No adversarial pixel lies outside the model's bounds (Carlini et al. 2019, section 4)."""
    low, high = evidence.model.bounds
    for outcome in evidence.outcomes():
        if not outcome.in_box:
            raise CheckFailed(
                f"{outcome.attack} at epsilon {written(outcome.epsilon)} returns pixels from "
                f"{outcome.lowest:.6g} to {outcome.highest:.6g}, outside [{low:g}, {high:g}]",
                "Clip the images to the bounds after each step.",
                of="outside-box",
            )


def check_outside_ball(evidence: Evidence) -> None:
    """No adversarial image is farther from its original than epsilon."""
    for outcome in evidence.outcomes():
        if not outcome.in_ball:
            raise CheckFailed(
                f"{outcome.attack} at epsilon {written(outcome.epsilon)} returns an image that is "
                f"{outcome.distance:.6g} from its original",
                "Project onto the ball after each step, and do not round the pixels afterwards.",
                of="outside-ball",
            )


def check_attack_helps(evidence: Evidence) -> None:
    """An attack does not correct misclassified images.

    One that is given the predicted labels instead of the true ones pushes these images away from
    the wrong class, and one that descends instead of climbing leads them to the true one. Where a
    model is random, votes correct some by chance.
    """
    _require_steady(evidence)
    if evidence.better_than_chance:
        _require_no_help(attacked_changes(evidence))
    count, total = int(evidence.righted.sum()), len(evidence.righted)
    if exceeds(count, total, HELPED):
        name, epsilon = evidence.attacks.iterated.name, SHARES[0] * evidence.width
        raise _helps(name, epsilon, count, total)


def check_counted_helps(evidence: Evidence) -> None:
    """The same of what the run has counted under the reported attacks: nothing is attacked."""
    _require_steady(evidence)
    _require_no_help(_counted(evidence))


def check_raises_accuracy(evidence: Evidence) -> None:
    """No attack raises the number of correctly classified images."""
    evidence.require_better_than_chance()
    _require_no_rise(attacked_changes(evidence))
    outcomes = [o for o in evidence.outcomes(PANEL) if o.epsilon > 0 and o.allowed]
    for outcome in outcomes:
        count = len(outcome.labels)
        before, after = evidence.right[:count], outcome.labels == evidence.y[:count]
        if more_often(after, before, len(outcomes)):
            raise _raises(outcome.attack, outcome.epsilon, before, after)


def check_counted_raises(evidence: Evidence) -> None:
    """The same of what the run has counted under the reported attacks: nothing is attacked."""
    _require_no_rise(_counted(evidence))


def _require_steady(evidence: Evidence) -> None:
    """Require a model that says the same of an image each time.

    Raises:
        NotApplicable: It is random on purpose.
    """
    if is_randomised(evidence.model):
        raise NotApplicable(RANDOM_ON_PURPOSE)


def _counted(evidence: Evidence) -> list[Change]:
    """What the run has counted.

    Raises:
        NotApplicable: Nothing; or the model's predictions say nothing of an attack.
    """
    evidence.require_attackable()
    if len(evidence.mislabelled):
        raise NotApplicable("the logits depend on the batch")
    try:
        guesses = not evidence.better_than_chance
    except NotApplicable:  # of few images, or of one class, a rise can be told all the same
        guesses = False
    if guesses:
        raise NotApplicable("the model is no better than chance on clean images")
    changes = counted_changes(evidence)
    if not changes:
        raise NotApplicable("no accuracy under an attack was measured")
    return changes


def _require_no_help(changes: list[Change]) -> None:
    for change in changes:
        if shortfall(change.attack) is None:  # a single step may go too far, and noise anywhere
            continue
        count, total = int((change.after & ~change.before).sum()), int((~change.before).sum())
        if exceeds(count, total, TOLD, len(changes)):
            raise _helps(change.attack.name, change.epsilon, count, total)


def _require_no_rise(changes: list[Change]) -> None:
    for change in changes:
        if more_often(change.after, change.before, len(changes)):
            raise _raises(change.attack.name, change.epsilon, change.before, change.after)


def _helps(name: str, epsilon: float, count: int, total: int) -> CheckFailed:
    return CheckFailed(
        f"{name} at epsilon {written(epsilon)} corrects {count} of {total} misclassified images",
        "Give the attack the true labels, not the predicted ones, and climb the loss.",
        of="attack-helps",
    )


def _raises(name: str, epsilon: float, before: BoolArray, after: BoolArray) -> CheckFailed:
    return CheckFailed(
        f"of {len(before)} images {before.sum()} are classified correctly, but {after.sum()} under "
        f"{name} at epsilon {written(epsilon)}",
        "Check that the attack climbs the loss, and that the clean images are what the model was "
        "trained on.",
        of="raises-accuracy",
    )
