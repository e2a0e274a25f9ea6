"""Are the model's outputs and gradients such that attacks can use them?"""

from __future__ import annotations

import numpy as np

from harness.checks.validity.evidence import Evidence
from harness.checks.validity.lots import SHARES
from harness.checks.validity.outcome import Outcome
from harness.errors import CheckFailed, NotApplicable
from harness.maths.norms import written
from harness.maths.outputs import kind_of, looked_through
from harness.maths.statistics import exceeds
from harness.protocol import GRADIENT, FloatArray

FLAT = 0.05
"""Share of the correctly classified images whose gradient may be zero, where all units are off."""


def check_non_finite(evidence: Evidence) -> None:
    """Logits, gradients and adversarial images hold neither NaN nor infinity."""
    _require_finite("the logits", evidence.raw_logits)
    if GRADIENT in evidence.model.capabilities:
        _require_finite("the gradients", evidence.gradients)
    for outcome in evidence.outcomes():
        if outcome.finite:
            _require_valid(outcome)
        else:
            raise CheckFailed(
                f"{outcome.attack} at epsilon {written(outcome.epsilon)} returns NaN or infinity",
                "Look for a division by zero in the attack, as by the length of a gradient.",
                of="non-finite",
            )


def check_probabilities(evidence: Evidence) -> None:
    """Outputs are not squashed by a softmax or a sigmoid, whose saturation stops gradients.

    Outputs of a log-softmax pass: they are logits but for a number added to each row, and what
    attacks climb does not change with it.
    """
    _ = evidence.logits  # finite
    if (kind := kind_of(evidence.model)) != "auto":
        raise NotApplicable(f"the outputs are declared to be {kind}")
    if found := looked_through(evidence.model, evidence.test_x):
        raise CheckFailed(
            found,
            "Return the logits: leave the softmax or sigmoid at the end out.",
            of="probabilities",
        )


def check_vanishing_gradients(evidence: Evidence) -> None:
    """Few correctly classified images have a gradient of zero, or are returned unchanged.

    Where the loss is flat an attack does not know where to go (Athalye et al. 2018, section 3;
    Carlini et al. 2019, section 5).
    """
    right, count = evidence.right, int(evidence.right.sum())
    flat = ~evidence.gradients.reshape(len(right), -1).any(axis=1) & right
    if exceeds(int(flat.sum()), count, FLAT, comparisons=3):
        raise CheckFailed(
            f"the gradient is exactly zero on {flat.sum()} of {count} correctly classified images",
            "Attack logits that are not clipped, squashed or rounded, or a smooth stand-in (BPDA).",
            of="vanishing-gradients",
        )
    for attack in (evidence.attacks.single, evidence.attacks.iterated):
        outcome = evidence.outcome(attack, SHARES[-1])
        still = int(np.sum(outcome.unchanged & right))
        if exceeds(still, count, FLAT, comparisons=3):
            raise CheckFailed(
                f"{outcome.attack} at epsilon {written(outcome.epsilon)} leaves {still} of {count} "
                "correctly classified images exactly as they were",
                "Let the attack climb a loss that does not saturate: the log-odds or the margin.",
                of="vanishing-gradients",
            )


def check_constant(evidence: Evidence) -> None:
    """The model does not give all images the same label."""
    if len(np.unique(evidence.y)) < 2:
        raise NotApplicable("all images are of one class")
    if len(np.unique(evidence.labels)) == 1:
        raise CheckFailed(
            f"all {len(evidence.labels)} images are predicted as class {evidence.labels[0]}",
            "Check that the trained weights were loaded, and that the images reach the network.",
            of="constant",
        )


def _require_valid(outcome: Outcome) -> None:
    broken = int((~outcome.valid).sum())
    if broken:
        raise CheckFailed(
            f"on {broken} of {len(outcome.valid)} images that {outcome.attack} made at epsilon "
            f"{written(outcome.epsilon)} the logits or the gradients are NaN or infinite",
            "Look for an overflow, a division by zero or a root at zero in the model.",
            of="non-finite",
        )


def _require_finite(name: str, values: FloatArray) -> None:
    broken = int((~np.isfinite(values.reshape(len(values), -1)).all(axis=1)).sum())
    if broken:
        raise CheckFailed(
            f"{name} of {broken} of {len(values)} images hold NaN or infinity",
            "Look for a logarithm of zero, a root at zero or an overflow in the model.",
            of="non-finite",
        )
