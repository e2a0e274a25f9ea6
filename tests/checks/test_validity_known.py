"""What was measured elsewhere, in parts, is what the checks would find, and is not asked again."""

from dataclasses import replace

import numpy as np
import pytest
from zoo.broken_attacks import Adapter
from zoo.broken_data import Raises
from zoo.healthy import BlackBox
from zoo.networks import built, images

from harness.attacks import make_attack
from harness.checks.check import BrokenError
from harness.checks.validity import (
    CHECKS,
    OF_ALL_LOTS,
    OF_NO_ATTACK,
    Evidence,
    Known,
    NoOutcome,
    Probed,
    Reported,
    findings,
    notes,
)
from harness.errors import CheckFailed, NotApplicable
from harness.evaluation.store import Finished
from harness.results.provenance import new_run

PARTS = (slice(0, 20), slice(20, 120), slice(120, 300))


class Asked(Adapter):
    """Counts how many images it is given."""

    name = "asked"

    def __init__(self):
        super().__init__()
        self.images = 0

    def perturb(self, model, x, y, epsilons, *, index):
        self.images += len(x)
        yield from super().perturb(model, x, y, epsilons, index=index)


class TooFar(Adapter):
    """Leaves the ball on the last of the images that it is to attack, and there alone."""

    name = "too-far"

    def perturb(self, model, x, y, epsilons, *, index):
        for moved in super().perturb(model, x, y, epsilons, index=index):
            there = moved.copy()
            there[index == 99] = 1 - x[index == 99]
            yield there


def known_of(evidence, parts=PARTS):
    """All that can be measured elsewhere, stored and read."""
    names = [lot.name for lot, _ in evidence.lots()]
    probed = {name: [kept(evidence.probe(name, part)) for part in parts] for name in names}
    return Known(kept(evidence.basis), probed)


def kept(part):
    return Finished.unpacked(*Finished("now", new_run({}), part).packed()).part


def boxed():
    return BlackBox(built())


@pytest.mark.parametrize("kind", [built, boxed])
def test_the_findings_and_notes_are_those_of_one_go(kind):
    reported = tuple(
        Reported(attack, (0.0, 0.1, 0.2))
        for attack in (
            make_attack("fgsm"),
            make_attack("square", "square", {"steps": 20}),
            TooFar(),
        )
    )
    one = Evidence(kind(), *images(), reported=reported)
    known = known_of(Evidence(kind(), *images(), reported=reported))
    two = Evidence(kind(), *images(), reported=reported, known=known)
    assert findings(two) == findings(one)
    assert notes(two) == notes(one)
    for name, point in [(lot.name, p) for lot, _ in one.lots() for p in lot.points]:
        mine, given = (next(e.outcomes(name)) for e in (one, two))
        assert replace(mine, unchanged=0, labels=0, valid=0) == replace(
            given, unchanged=0, labels=0, valid=0
        ), point
        for field in ("unchanged", "labels", "valid"):
            np.testing.assert_array_equal(getattr(mine, field), getattr(given, field))


def test_an_image_that_leaves_the_ball_in_the_last_part_is_found():
    evidence = Evidence(built(), *images(), reported=(Reported(TooFar(), (0.1,)),))
    known = known_of(evidence)
    joined = Evidence(evidence.model, *images(), reported=evidence.reported, known=known)
    with pytest.raises(CheckFailed, match=r"too-far at epsilon 0\.1 returns an image that is "):
        CHECKS["outside-ball"](joined)


def test_nothing_of_it_is_asked_again():
    attack = Asked()
    reported = (Reported(attack, (0.1,)),)
    known = known_of(Evidence(built(), *images(), reported=reported))
    assert attack.images == 32 + 100  # at epsilon zero, and at the one that is reported
    evidence = Evidence(built(), *images(), reported=reported, known=known)
    for rule in OF_ALL_LOTS:
        CHECKS[rule](evidence)
    assert attack.images == 132


def test_the_model_is_not_asked_again_of_what_it_said():
    box = boxed()
    known = Known(Evidence(box, *images()).basis)

    def silent(x):
        raise RuntimeError("it was asked")

    box.logits = silent
    evidence = Evidence(box, *images(), known=known)
    for rule in ("constant", "no-better-than-chance", "never-predicted"):
        assert rule in OF_NO_ATTACK
        CHECKS[rule](evidence)
    evidence.require_attackable()


def test_why_an_attack_has_no_outcome_is_told_as_it_would_be():
    reported = (Reported(Raises(), (0.1,)),)
    one = Evidence(built(), *images(), reported=reported)
    known = known_of(one)
    two = Evidence(built(), *images(), reported=reported, known=known)
    assert findings(two) == findings(one)
    assert "breaks" in findings(two)


def test_one_part_without_an_outcome_is_none_of_the_whole():
    evidence = Evidence(built(), *images())
    good = evidence.probe("panel/fgsm", PARTS[0])
    bad = Probed(tuple(NoOutcome("it broke", broken=True) for _ in good.found))
    known = Known(evidence.basis, {"panel/fgsm": (good, bad)})
    fgsm = evidence.attacks.single
    two = Evidence(evidence.model, *images(), attacks=evidence.attacks, known=known)
    with pytest.raises(BrokenError, match="it broke"):
        two.outcome(fgsm, 0.1)
    skipped = Probed(tuple(NoOutcome("not here", broken=False) for _ in good.found))
    two = Evidence(
        evidence.model, *images(), attacks=evidence.attacks,
        known=Known(evidence.basis, {"panel/fgsm": (skipped, bad)}),
    )  # fmt: skip
    with pytest.raises(NotApplicable, match="not here"):
        two.outcome(fgsm, 0.1)


def test_a_lot_that_the_model_does_not_admit_is_empty():
    evidence = Evidence(boxed(), *images())
    assert evidence.probe("panel/fgsm", slice(0, 300)) == Probed(())
    two = Evidence(boxed(), *images(), known=Known(evidence.basis, {"panel/fgsm": [Probed(())]}))
    with pytest.raises(NotApplicable, match="fgsm needs gradient, which the model lacks"):
        two.outcome(two.attacks.single, 0.1)
