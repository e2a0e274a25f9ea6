"""When can a robustness number not be trusted? Plain functions; usable without pytest.

Each ``check_...`` takes ``Evidence`` and raises ``ValidityError`` with one line that names what was
found and ends with a sentence on what to do, or ``NotApplicableError`` where the evidence lacks
what is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from harness.conformance import NotApplicableError
from harness.text import one_line
from harness.validity.attack_checks import (
    check_attack_helps,
    check_counted_helps,
    check_counted_raises,
    check_epsilon_zero,
    check_outside_ball,
    check_outside_box,
    check_raises_accuracy,
)
from harness.validity.call_checks import (
    check_batch_dependence,
    check_breaks,
    check_call_to_call,
    check_gradient_mode,
)
from harness.validity.chance_checks import (
    check_duplicate_images,
    check_mostly_wrong,
    check_never_predicted,
    check_no_better_than_chance,
    check_tiny_noise,
)
from harness.validity.data_checks import (
    check_epsilon_scale,
    check_input_range,
    check_labels_shifted,
)
from harness.validity.evidence import Evidence
from harness.validity.finding import ValidityError
from harness.validity.loss_checks import check_other_loss
from harness.validity.masking_checks import (
    check_black_box_stronger,
    check_iterated_weaker,
    check_not_to_chance,
    check_rises_with_epsilon,
    check_stronger_attack,
)
from harness.validity.model_checks import (
    check_constant,
    check_non_finite,
    check_probabilities,
    check_vanishing_gradients,
)
from harness.validity.panel import Attacks, Reported

__all__ = [
    "CHEAP", "CHECKS", "Attacks", "Evidence", "NotApplicableError", "Reported", "ValidityError",
    "findings", "notes",
]  # fmt: skip

CHECKS: dict[str, Callable[[Evidence], str | None]] = {
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
}
CHEAP: dict[str, Callable[[Evidence], str | None]] = {
    **{
        rule: CHECKS[rule]
        for rule in (
            "probabilities", "call-to-call", "batch-dependence", "gradient-mode", "epsilon-zero",
            "epsilon-scale",
        )
    },
    "no-better-than-chance": check_mostly_wrong,
    "attack-helps": check_counted_helps,
    "raises-accuracy": check_counted_raises,
}  # fmt: skip
"""Those that ``evaluate`` always makes: a few forward passes, a gradient, and no sweep. Of what is
counted already, some look at that in place of attacks of their own."""


def findings(evidence: Evidence) -> dict[str, str]:
    """What fires, and what each says; checks that do not apply say nothing.

    A check that cannot be made, because the model or an attack does what no check expects, is a
    finding too; of several that break alike, the first.
    """
    found: dict[str, str] = {}
    broken: set[str] = set()
    for rule, check in CHECKS.items():
        try:
            with suppress(NotApplicableError):
                check(evidence)
        except ValidityError as error:
            found[rule] = str(error)
        except Exception as error:
            why = f"{type(error).__name__}: {error}".rstrip(".")
            if why not in broken:
                broken.add(why)
                what = one_line(f"{rule}: this could not be checked ({why})")
                found[rule] = f"{what}. Find out what the model or the attack does there."
    return found


def notes(evidence: Evidence) -> dict[str, str]:
    """What checks that pass have to tell all the same.

    That is: which reported attack falls short where a better one is reported beside it, or is weak
    by design; and what would be a finding at an epsilon that nobody reports. What ``findings`` has
    measured of the same evidence is not measured again.
    """
    told: dict[str, str] = {}
    for rule, check in CHECKS.items():
        with suppress(Exception):  # that is a finding
            if said := check(evidence):
                told[rule] = one_line(said)
    return told
