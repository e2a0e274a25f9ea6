"""One check's outcomes before and now: how far its accuracy moved, and if chance explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.gate.outcomes import Outcomes
from harness.gate.paired import LEVEL, difference_interval, mcnemar
from harness.gate.spread import Prediction, predictions


@dataclass(frozen=True)
class Finding:
    """What the outcomes of one check say.

    Attributes:
        old: Accuracy of the baseline, or the mean of its runs.
        new: Accuracy of the run.
        interval: 95 % interval of the rise.
        p_value: Two-sided, not corrected for other checks.
        told: What the p-value rests on, for people.
        prediction: Where the new accuracy was expected, if several runs tell.
    """

    old: float
    new: float
    interval: tuple[float, float]
    p_value: float
    told: str
    prediction: Prediction | None = None

    @property
    def rise(self) -> float:
        """The new accuracy less the old; nine places are far finer than an image."""
        return round(self.new - self.old, 9)

    def because(self, checks: int) -> str:
        """The evidence for people, where so many checks are compared."""
        if self.prediction is None:
            return self.told
        width = self.prediction.half_width(LEVEL / checks)
        low, high = max(0.0, self.old - width), min(1.0, self.old + width)
        return f"{self.told} let expect {low:.2%} to {high:.2%}"


def paired(old: Outcomes, new: Outcomes) -> Finding:
    """Outcomes (n,) of the same images, compared image by image."""
    lost, gained = int((old & ~new).sum()), int((new & ~old).sum())
    both, neither = int((old & new).sum()), int((~old & ~new).sum())
    return Finding(
        float(old.mean()), float(new.mean()),
        difference_interval(both, lost, gained, neither), float(mcnemar(lost, gained)),
        f"{lost} images lost and {gained} gained of {len(new)}",
    )  # fmt: skip


def beside(olds: Sequence[Outcomes], news: Sequence[Outcomes]) -> list[Finding]:
    """All checks of one retrained model beside the spread of earlier ones.

    Args:
        olds: For each check the outcomes of the earlier runs, (runs, n).
        news: For each check those of the new run, (n,).
    """
    found = []
    for old, new, prediction in zip(olds, news, predictions(olds), strict=True):
        accuracy = float(np.mean(new))
        rise, width = accuracy - prediction.mean, prediction.half_width(0.05)
        found.append(
            Finding(
                prediction.mean, accuracy, (max(-1.0, rise - width), min(1.0, rise + width)),
                prediction.p_value(accuracy), f"{len(old)} runs", prediction,
            )
        )  # fmt: skip
    return found
