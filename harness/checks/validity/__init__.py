"""When can a robustness number not be trusted? Plain functions; usable without pytest.

Each ``check_...`` takes ``Evidence`` and raises ``CheckFailed`` with one line that names what was
found and ends with a sentence on what to do, or ``NotApplicable`` where the evidence lacks
what is needed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TypeAlias

from harness.checks.check import Check, run_checks
from harness.checks.validity.attacks import (
    check_attack_helps,
    check_counted_helps,
    check_counted_raises,
    check_epsilon_zero,
    check_outside_ball,
    check_outside_box,
    check_raises_accuracy,
)
from harness.checks.validity.bracket import check_certified_misclassified
from harness.checks.validity.calls import (
    check_batch_dependence,
    check_breaks,
    check_call_to_call,
    check_gradient_mode,
)
from harness.checks.validity.certificate import Certificate
from harness.checks.validity.chance import (
    check_duplicate_images,
    check_mostly_wrong,
    check_never_predicted,
    check_no_better_than_chance,
    check_tiny_noise,
)
from harness.checks.validity.data import (
    check_epsilon_scale,
    check_input_range,
    check_labels_shifted,
)
from harness.checks.validity.evidence import Evidence
from harness.checks.validity.known import Basis, Known, NoOutcome, Probed
from harness.checks.validity.losses import check_other_loss
from harness.checks.validity.lots import Lot, lots_of
from harness.checks.validity.masking import (
    check_black_box_stronger,
    check_iterated_weaker,
    check_not_to_chance,
    check_rises_with_epsilon,
    check_stronger_attack,
)
from harness.checks.validity.model import (
    check_constant,
    check_non_finite,
    check_probabilities,
    check_vanishing_gradients,
)
from harness.checks.validity.outcome import Outcome
from harness.checks.validity.panel import Attacks, Reported
from harness.errors import one_line
from harness.registry import Registry

__all__ = [
    "BESIDE_CERTIFICATES", "CHEAP", "CHECKS", "OF_ALL_LOTS", "OF_NO_ATTACK", "Attacks", "Basis",
    "Certificate", "Evidence", "Known", "Lot", "NoOutcome", "Outcome", "Probed", "Reported",
    "ValidityCheck", "findings", "lots_of", "notes",
]  # fmt: skip

ValidityCheck: TypeAlias = Check[Evidence]
"""Raises what it finds wrong; one that passes may return a note."""
OWN: dict[str, ValidityCheck] = {
    "breaks": check_breaks,
    "non-finite": check_non_finite,
    "probabilities": check_probabilities,
    "constant": check_constant,
    "no-better-than-chance": check_no_better_than_chance,
    "never-predicted": check_never_predicted,
    "labels-shifted": check_labels_shifted,
    "input-range": check_input_range,
    "duplicate-images": check_duplicate_images,
    "epsilon-scale": check_epsilon_scale,
    "call-to-call": check_call_to_call,
    "batch-dependence": check_batch_dependence,
    "gradient-mode": check_gradient_mode,
    "tiny-noise": check_tiny_noise,
    "epsilon-zero": check_epsilon_zero,
    "outside-box": check_outside_box,
    "outside-ball": check_outside_ball,
    "attack-helps": check_attack_helps,
    "raises-accuracy": check_raises_accuracy,
    "vanishing-gradients": check_vanishing_gradients,
    "iterated-weaker": check_iterated_weaker,
    "stronger-attack": check_stronger_attack,
    "black-box-stronger": check_black_box_stronger,
    "not-to-chance": check_not_to_chance,
    "rises-with-epsilon": check_rises_with_epsilon,
    "other-loss-stronger": check_other_loss,
    "certified-misclassified": check_certified_misclassified,
}
CHECKS: Registry[ValidityCheck] = Registry("check", "harness.checks.validity", OWN)
CHEAP: dict[str, ValidityCheck] = {
    **{
        rule: OWN[rule]
        for rule in (
            "probabilities", "call-to-call", "batch-dependence", "gradient-mode", "epsilon-zero",
            "epsilon-scale",
        )
    },
    "no-better-than-chance": check_mostly_wrong,
    "attack-helps": check_counted_helps,
    "raises-accuracy": check_counted_raises,
}  # fmt: skip
"""Those that ``evaluate`` always makes: a few forward passes, a gradient, and no sweep. Some use
the counts of the run, in place of attacks of their own."""
OF_NO_ATTACK = frozenset(
    {
        "probabilities", "constant", "no-better-than-chance", "never-predicted", "labels-shifted",
        "input-range", "duplicate-images", "call-to-call", "batch-dependence", "tiny-noise",
    }
)  # fmt: skip
"""Those that look at what the model says of clean images alone."""
OF_ALL_LOTS = frozenset(
    {"breaks", "non-finite", "outside-box", "outside-ball", "attack-helps", "raises-accuracy"}
)
"""Those that look at what all attacks of the panel make, or all that are reported."""
BESIDE_CERTIFICATES: dict[str, ValidityCheck] = {
    rule: OWN[rule] for rule in ("certified-misclassified",)
}
"""Those that it makes too where something is certified."""


def findings(evidence: Evidence) -> dict[str, str]:
    """Which checks fail, and what each says; see ``check.run_checks``."""
    return run_checks(CHECKS, evidence)


def notes(evidence: Evidence) -> dict[str, str]:
    """The notes of checks that pass.

    That is: which reported attack falls short where a better one is reported beside it, or is weak
    by design; and what would be a finding at an epsilon that is not reported. What ``findings`` has
    measured of the same evidence is not measured again.
    """
    told: dict[str, str] = {}
    for rule in CHECKS:
        with suppress(Exception):  # that is a finding
            if said := CHECKS[rule](evidence):
                told[rule] = one_line(said)
    return told
