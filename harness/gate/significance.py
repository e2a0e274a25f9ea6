"""One check's outcomes before and now: how far its accuracy moved, and if chance explains it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.gate.outcomes import Outcomes
from harness.gate.paired import LEVEL, difference_interval, mcnemar
from harness.gate.spread import Prediction, flips_of, predicted

NAMED = 10
"""So many images that changed are named, of those lost and of those gained."""


@dataclass(frozen=True)
class Finding:
    """What the outcomes of one check say.

    Attributes:
        old: Accuracy of the baseline, or the mean of its runs.
        new: Accuracy of the run.
        interval: 95 % interval of the rise.
        p_value: Two-sided, not corrected for other checks.
        told: What the p-value is based on, for people.
    """

    old: float
    new: float
    interval: tuple[float, float]
    p_value: float
    told: str

    @property
    def rise(self) -> float:
        """The new accuracy less the old; nine places are far finer than an image."""
        return round(self.new - self.old, 9)

    def visible(self, checks: int, tolerance: float) -> float | None:
        """The smallest drop that would have failed, among so many checks; None if none could."""
        raise NotImplementedError

    def could_fail(self, checks: int) -> bool:
        """Whether any outcome could have been significant, down to no image correct."""
        return self.visible(checks, 0.0) is not None

    def because(self, checks: int) -> str:
        """The evidence for people, where so many checks are compared."""
        return self.told


@dataclass(frozen=True)
class Paired(Finding):
    """Outcomes of the same images, compared image by image.

    Attributes:
        lost: Positions of the images that were correct, and are misclassified now.
        gained: Positions of those that were misclassified, and are correct now.
        total: How many images there are.
    """

    lost: tuple[int, ...] = ()
    gained: tuple[int, ...] = ()
    total: int = 0

    def visible(self, checks: int, tolerance: float) -> float | None:
        """With as many images gained as were; and more of them lost."""
        return self._smallest(len(self.gained), checks, tolerance)

    def could_fail(self, checks: int) -> bool:
        """With none gained."""
        return self._smallest(0, checks, 0.0) is not None

    def _smallest(self, gained: int, checks: int, tolerance: float) -> float | None:
        right = round(self.old * self.total)
        lost = np.arange(gained + 1, right + 1)
        drops = (lost - gained) / self.total
        enough = (mcnemar(lost, np.full(lost.shape, gained)) <= LEVEL / checks) & (
            np.round(drops - tolerance, 9) > 0
        )
        return float(drops[enough.argmax()]) if enough.any() else None

    @property
    def images(self) -> str:
        """Which images changed, for people; empty if none did."""
        parts = [
            f"image{'s' if len(places) > 1 else ''} {_listed(places)} {what}"
            for places, what in ((self.lost, "lost"), (self.gained, "gained"))
            if places
        ]
        return "; ".join(parts)


@dataclass(frozen=True)
class Spread(Finding):
    """An accuracy beside the spread of several runs.

    Attributes:
        prediction: Where it was expected; arrays with one entry a check.
        place: Which of these the check is.
    """

    prediction: Prediction | None = None
    place: int = 0

    def visible(self, checks: int, tolerance: float) -> float | None:
        """With all other checks as they are."""
        if self.prediction is None:
            return None
        drop = max(float(self.prediction.visible(LEVEL / checks)[self.place]), tolerance)
        return drop if drop <= self.old else None

    def because(self, checks: int) -> str:
        """Where the accuracy was expected."""
        drop = self.visible(checks, 0.0)
        return self.told if drop is None else f"{self.told} predict {self.old - drop:.2%} or more"


def paired(old: Outcomes, new: Outcomes, places: npt.NDArray[np.integer] | None = None) -> Paired:
    """Outcomes (n,) of the same images, compared image by image.

    Args:
        old: Those before.
        new: Those now.
        places: Positions of the images, (n,); from 0 if None.
    """
    places = np.arange(len(new)) if places is None else places
    lost, gained = places[old & ~new], places[new & ~old]
    both, neither = int((old & new).sum()), int((~old & ~new).sum())
    return Paired(
        float(old.mean()), float(new.mean()),
        difference_interval(both, len(lost), len(gained), neither),
        float(mcnemar(len(lost), len(gained))),
        f"{len(lost)} images lost and {len(gained)} gained of {len(new)}",
        tuple(lost.tolist()), tuple(gained.tolist()), len(new),
    )  # fmt: skip


def beside(olds: Sequence[Outcomes], news: Sequence[Outcomes]) -> list[Spread]:
    """All checks of one retrained model beside the spread of earlier ones.

    Args:
        olds: For each check the outcomes of the earlier runs, (runs, n), of as many runs.
        news: For each check those of the new run, (n,).
    """
    after = np.array([new.mean() for new in news])
    prediction = predicted(
        np.array([old.mean(axis=1) for old in olds]), after,
        np.array([flips_of(old) for old in olds]), np.array([len(new) for new in news]),
    )  # fmt: skip
    width = prediction.half_width(0.05)
    low = np.maximum(-1.0, prediction.rise - width)
    high = np.minimum(1.0, prediction.rise + width)
    return [
        Spread(
            float(prediction.mean[place]), float(after[place]),
            (float(low[place]), float(high[place])), float(prediction.p_values[place]),
            f"{len(old)} runs", prediction, place,
        )
        for place, old in enumerate(olds)
    ]  # fmt: skip


def _listed(places: Sequence[int]) -> str:
    more = f" and {len(places) - NAMED} more" if len(places) > NAMED else ""
    return ", ".join(map(str, places[:NAMED])) + more
