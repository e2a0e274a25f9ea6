"""A published number beside the measured one: whether it is reproduced, and by how much not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.maths.statistics import wilson
from harness.results.records import Record
from harness.spec.published import NumberSpec

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
        if record.accuracy is None or record.ci_low is None or record.ci_high is None:
            return cls(number, record, "not measured")
        published, (low, high) = number.percent / 100, interval(number)
        if low <= record.accuracy <= high or record.ci_low <= published <= record.ci_high:
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
        low, high = interval(self.number)
        ends = (min(low, self._reached(-1)), max(high, self._reached(1)))
        bound = self.number.bound
        return None if bound == "upper" else ends[0], None if bound == "lower" else ends[1]

    def judged(self) -> Record:
        """The record with status ``passed`` or ``failed``, as the verdict says."""
        if self.verdict == "not measured":
            return self.record
        told = f"published {self.number.percent:.2f} %: {self.said}"
        status: Literal["failed", "passed"] = "failed" if self.failed else "passed"
        return self.record.judged(status, told, self.threshold)

    def _reached(self, way: int) -> float:
        """The accuracy farthest from the published one whose own interval still holds that."""
        published, total = self.number.percent / 100, self.record.total or 1
        correct = round(published * total)
        if not holds(correct, total, published):
            return published
        while 0 <= correct + way <= total and holds(correct + way, total, published):
            correct += way
        return correct / total


def holds(correct: int, total: int, share: float) -> bool:
    """Whether the 95 % Wilson interval of a count holds a share."""
    low, high = wilson(correct, total)
    return low <= share <= high


def interval(number: NumberSpec) -> tuple[float, float]:
    """The 95 % Wilson interval of a published number, of its own number of images."""
    return wilson(round(number.percent / 100 * number.images), number.images)
