"""A published number beside the measured one: whether it is reproduced, and by how much not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.maths.statistics import wilson
from harness.results.records import Record
from harness.spec.published import NumberSpec

Z = 1.959963984540054
"""Of 95 % of a normal distribution."""
ROUNDING = 1e-12
Verdict: TypeAlias = Literal[
    "reproduced", "stronger", "tighter", "weaker", "looser", "higher", "lower", "not measured"
]
FAILED: frozenset[Verdict] = frozenset({"weaker", "looser", "higher", "lower"})
"""Those that say that a number is not reproduced."""
BELOW: dict[str, Verdict] = {"exact": "lower", "upper": "stronger", "lower": "looser"}
ABOVE: dict[str, Verdict] = {"exact": "higher", "upper": "weaker", "lower": "tighter"}
"""What an accuracy that is no more within the intervals says, by what it bounds: one under attack
that is lower than published is of a stronger attack, and a certified one that is higher of a
tighter certificate."""


@dataclass(frozen=True)
class Outcome:
    """A published number and what was measured of it.

    Attributes:
        number: What is published.
        record: What was measured.
        verdict: ``reproduced`` if either number lies in the other's interval; ``not measured``
            with the record's reason.
    """

    number: NumberSpec
    record: Record
    verdict: Verdict

    @classmethod
    def of(cls, number: NumberSpec, record: Record) -> Outcome:
        """The published number beside the record of the same check."""
        if record.accuracy is None:
            return cls(number, record, "not measured")
        published, (low, high) = number.percent / 100, _allowed(number, record.total or 1)
        if low - ROUNDING <= record.accuracy <= high + ROUNDING:
            return cls(number, record, "reproduced")
        words = BELOW if record.accuracy < published else ABOVE
        return cls(number, record, words[number.bound])

    @property
    def points(self) -> float | None:
        """Measured less published, in percentage points."""
        if self.record.accuracy is None:
            return None
        return 100 * self.record.accuracy - self.number.percent

    @property
    def failed(self) -> bool:
        """Whether the number is not reproduced."""
        return self.verdict in FAILED or self.record.status == "error"

    @property
    def said(self) -> str:
        """The verdict for people: ``reproduced``, or ``weaker by 1.20 points``."""
        if self.verdict == "not measured":
            return f"not measured: {self.record.reason}"
        if self.verdict == "reproduced" or self.points is None:
            return self.verdict
        said = f"{self.verdict} by {abs(self.points):.2f} points"
        return f"not reproduced: {said}" if self.failed else said

    @property
    def threshold(self) -> tuple[float | None, float | None]:
        """The lowest and highest accuracy that would not have failed; see ``Record``."""
        low, high = _allowed(self.number, self.record.total or 1)
        bound = self.number.bound
        return None if bound == "upper" else low, None if bound == "lower" else high

    def judged(self) -> Record:
        """The record with status ``passed`` or ``failed``, as the verdict says."""
        if self.verdict == "not measured":
            return self.record
        told = f"published {self.number.percent:.2f} %: {self.said}"
        status: Literal["failed", "passed"] = "failed" if self.failed else "passed"
        return self.record.judged(status, told, self.threshold)


def interval(number: NumberSpec) -> tuple[float, float]:
    """The 95 % Wilson interval of a published number, of its own number of images."""
    return wilson(round(number.percent / 100 * number.images), number.images)


def _allowed(number: NumberSpec, total: int) -> tuple[float, float]:
    """The lowest and highest accuracy of so many images that reproduce a number.

    They lie in the published number's interval, or their own holds it: a Wilson interval of n
    images holds all p that the measured share is no farther from than z √(p (1 - p) / n).
    """
    published, (low, high) = number.percent / 100, interval(number)
    reach = Z * math.sqrt(published * (1 - published) / total)
    return max(0.0, min(low, published - reach)), min(1.0, max(high, published + reach))
