"""Do the attacks behave as they must if gradients lead anywhere?

The signs of masked gradients, or of broken attacks, are those of Athalye, Carlini & Wagner 2018
("Obfuscated gradients give a false sense of security", section 3.1), Carlini et al. 2019 ("On
evaluating adversarial robustness", section 5) and Croce & Hein 2020 ("Reliable evaluation of
adversarial robustness with an ensemble of diverse parameter-free attacks").
"""

from __future__ import annotations

from functools import reduce
from itertools import combinations

import numpy as np

from harness.conformance import NotApplicableError
from harness.protocol import BoolArray
from harness.validity.evidence import BLACK_BOX_SHARES, FEW, SHARES, Evidence
from harness.validity.finding import ValidityError, exceeds, more_often


def check_iterated_weaker(evidence: Evidence) -> None:
    """Many steps leave no more images right than one step does, at any epsilon."""
    single, iterated = evidence.attacks.single, evidence.attacks.iterated
    for share in SHARES:
        one, many = evidence.withstands(single, share), evidence.withstands(iterated, share)
        if more_often(many, one, len(SHARES)):
            raise ValidityError(
                "iterated-weaker",
                f"at epsilon {share * evidence.width:g} {many.sum()} of {len(many)} images "
                f"withstand {iterated.name}, but only {one.sum()} the single step of {single.name}",
                "Check the step's direction, size and labels; else do not trust the gradients.",
            )


def check_black_box_stronger(evidence: Evidence) -> None:
    """No attack without gradients breaks more images than all attacks with gradients together."""
    blind = evidence.black_box
    for share in BLACK_BOX_SHARES:
        guided = _under_all_gradients(evidence, share)
        for attack in blind:
            left = evidence.withstands(attack, share)
            if more_often(~left, ~guided, len(blind) * len(BLACK_BOX_SHARES)):
                raise ValidityError(
                    "black-box-stronger",
                    f"at epsilon {share * evidence.width:g} {left.sum()} of {len(left)} images "
                    f"withstand {attack.name}, which sees no gradient, but {guided.sum()} all "
                    "attacks that do",
                    "Treat the gradients as masked: report the stronger attack, and adapt (BPDA).",
                )


def check_not_to_chance(evidence: Evidence) -> None:
    """At half the pixel range every image can become the same grey, so nothing is left to see."""
    attack, share = evidence.attacks.iterated, SHARES[-1]
    if attack.norm != "linf":
        raise NotApplicableError(f"{attack.name} is bounded in another norm than L∞")
    left = evidence.withstands(attack, share)
    if exceeds(int(left.sum()), len(left), evidence.chance):
        raise ValidityError(
            "not-to-chance",
            f"at epsilon {share * evidence.width:g} {left.sum()} of {len(left)} images still "
            f"withstand {attack.name}, more than chance ({evidence.chance:.0%}) explains",
            "Check that steps times step size reaches epsilon, and that the gradients lead there.",
        )


def check_rises_with_epsilon(evidence: Evidence) -> None:
    """A larger ball holds the smaller one, so an iterated attack is not weaker in it."""
    attack = evidence.attacks.iterated
    sweep = [(0.0, evidence.right), *((s, evidence.withstands(attack, s)) for s in SHARES)]
    pairs = list(combinations(sweep, 2))
    for (small, before), (large, after) in pairs:
        if more_often(after, before, len(pairs)):
            raise ValidityError(
                "rises-with-epsilon",
                f"{after.sum()} of {len(after)} images withstand {attack.name} at epsilon "
                f"{large * evidence.width:g}, but {before.sum()} at {small * evidence.width:g}",
                "Scale the step with epsilon, and check its direction and the projection.",
            )


def _under_all_gradients(evidence: Evidence, share: float) -> BoolArray:
    """Which of the first images withstand each attack that follows gradients."""
    attacks = (evidence.attacks.single, evidence.attacks.iterated, *evidence.attacks.others)
    left = (evidence.withstands(attack, share)[:FEW] for attack in attacks)
    return reduce(np.logical_and, left)
