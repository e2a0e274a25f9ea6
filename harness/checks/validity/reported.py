"""What the reported attacks do to the accuracy, as it was counted or on the images looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.checks.validity.evidence import Evidence
from harness.checks.validity.lots import REPORTED
from harness.checks.validity.outcome import allowed
from harness.errors import NotApplicable
from harness.maths.query import NO_LABEL
from harness.protocol import Attack, BoolArray


@dataclass(frozen=True)
class Change:
    """Which of n images are classified correctly before a reported attack, and after it.

    Attributes:
        attack: The attack.
        epsilon: Radius in pixel units.
        before: Of the clean images, (n,).
        after: Of the same images under attack, (n,).
    """

    attack: Attack
    epsilon: float
    before: BoolArray
    after: BoolArray


def counted_changes(evidence: Evidence) -> list[Change]:
    """Those that the run has counted already, of images answered twice; nothing is attacked."""
    clean, found = evidence.measured(), []
    for one in evidence.reported:
        for epsilon in one.epsilons:
            labels = evidence.counted(one.attack, epsilon) if epsilon > 0 else None
            if clean is not None and labels is not None:
                y = evidence.test_y[: len(labels)]
                first = clean[: len(labels)]
                twice = (first != NO_LABEL) & (labels != NO_LABEL)
                before, after = (np.asarray((said == y)[twice]) for said in (first, labels))
                found.append(Change(one.attack, epsilon, before, after))
    return found


def attacked_changes(evidence: Evidence) -> list[Change]:
    """Those on the first images, or on all, if one that was misclassified is corrected."""
    return list(_attacked(evidence))


def _attacked(evidence: Evidence) -> Iterator[Change]:
    y, right = evidence.y, evidence.right
    for attack, epsilon, few in evidence.points(REPORTED):
        if epsilon == 0:
            continue
        try:
            labels = allowed(evidence.outcome_at(attack, epsilon, few)).labels
            helped = (labels == y[: len(labels)]) & ~right[: len(labels)]
            if helped.any() and len(labels) < len(y):
                labels = allowed(evidence.outcome_at(attack, epsilon, len(y))).labels
        except NotApplicable:
            continue
        before = right[: len(labels)]
        yield Change(attack, epsilon, before, np.asarray(labels == y[: len(labels)]))
