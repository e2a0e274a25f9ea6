"""When can a robustness number not be trusted? Plain functions; usable without pytest.

Each ``check_...`` takes ``Evidence`` and raises ``ValidityError`` with one line that names what was
found and ends with a sentence on what to do, or ``NotApplicableError`` where the evidence lacks
what is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from harness.conformance import NotApplicableError
from harness.validity.attack_checks import (
    check_attack_helps,
    check_epsilon_zero,
    check_outside_ball,
    check_outside_box,
)
from harness.validity.data_checks import check_input_range, check_labels_shifted
from harness.validity.evidence import Attacks, Evidence
from harness.validity.finding import ValidityError
from harness.validity.loss_checks import check_other_loss
from harness.validity.masking_checks import (
    check_black_box_stronger,
    check_iterated_weaker,
    check_not_to_chance,
    check_rises_with_epsilon,
)
from harness.validity.model_checks import (
    check_batch_dependence,
    check_call_to_call,
    check_constant,
    check_non_finite,
    check_probabilities,
    check_vanishing_gradients,
)

__all__ = ["CHECKS", "Attacks", "Evidence", "NotApplicableError", "ValidityError", "findings"]

CHECKS: dict[str, Callable[[Evidence], None]] = {
    "non-finite": check_non_finite,
    "probabilities": check_probabilities,
    "constant": check_constant,
    "labels-shifted": check_labels_shifted,
    "input-range": check_input_range,
    "call-to-call": check_call_to_call,
    "batch-dependence": check_batch_dependence,
    "epsilon-zero": check_epsilon_zero,
    "outside-box": check_outside_box,
    "outside-ball": check_outside_ball,
    "attack-helps": check_attack_helps,
    "vanishing-gradients": check_vanishing_gradients,
    "iterated-weaker": check_iterated_weaker,
    "black-box-stronger": check_black_box_stronger,
    "not-to-chance": check_not_to_chance,
    "rises-with-epsilon": check_rises_with_epsilon,
    "other-loss-stronger": check_other_loss,
}


def findings(evidence: Evidence) -> dict[str, str]:
    """What fires, and what each says; checks that do not apply say nothing."""
    found: dict[str, str] = {}
    for rule, check in CHECKS.items():
        try:
            with suppress(NotApplicableError):
                check(evidence)
        except ValidityError as error:
            found[rule] = str(error)
    return found
