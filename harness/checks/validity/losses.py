"""Does what the iterated attack finds depend on the loss that it climbs?"""

from __future__ import annotations

from dataclasses import replace

from harness.attacks.iterated import Iterated, Loss
from harness.attacks.pgd import PGD
from harness.checks.validity.evidence import Evidence
from harness.checks.validity.lots import BLACK_BOX_SHARES, FEW
from harness.errors import CheckFailed, NotApplicable
from harness.maths.statistics import more_often

SINGLE: dict[Loss, PGD] = {
    "cross-entropy": PGD(name="cross-entropy-pgd", losses=("cross-entropy",)),
    "margin": PGD(name="margin-pgd", losses=("margin",)),
}
"""PGD with each of two losses, of which the second does not depend on the scale of the logits."""
SINGLE_L2 = {loss: replace(attack, norm="l2") for loss, attack in SINGLE.items()}


def check_other_loss(evidence: Evidence) -> None:
    """PGD with one loss alone succeeds on no more images than the iterated attack with all losses.

    The direction of the cross-entropy depends on the scale of the logits: where these are small it
    leads away from the mean of the other classes, and where they are large it may round to zero.
    The margin leads towards one class, which may be the wrong one (Croce & Hein 2020, section 4).
    """
    attack = evidence.attacks.iterated
    if not isinstance(attack, Iterated):
        raise NotApplicable(f"{attack.name} does not say which loss it climbs")
    single = SINGLE if attack.norm == "linf" else SINGLE_L2
    for share in BLACK_BOX_SHARES:
        ours = evidence.correct_under(attack, share)[:FEW]
        for loss, other in single.items():
            theirs = evidence.correct_under(other, share)[:FEW]
            if more_often(~theirs, ~ours, len(single) * len(BLACK_BOX_SHARES)):
                raise CheckFailed(
                    f"at epsilon {share * evidence.width:g} {ours.sum()} of {len(ours)} images "
                    f"are correct under {attack.name} with {' and '.join(attack.losses)}, but only "
                    f"{theirs.sum()} under PGD with {loss}",
                    'Climb both: losses = ["cross-entropy", "margin"]; the scale of the logits '
                    "decides which leads further.",
                    of="other-loss-stronger",
                )
