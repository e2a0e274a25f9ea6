"""What the gate says: a verdict a check, and the outcome of them all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.gate.baseline import Entry, label
from harness.results.records import Key, Record, bound_of, bounds_told
from harness.results.run import Run

Verdict: TypeAlias = Literal[
    "regressed", "vanished", "incomparable", "improved", "new", "unchanged"
]  # fmt: skip
VERDICTS: tuple[Verdict, ...] = (
    "regressed", "vanished", "incomparable", "improved", "new", "unchanged",
)  # fmt: skip
"""All verdicts, the ones most worth reading first."""
FAILING = frozenset({"regressed", "vanished", "incomparable"})
IMPLAUSIBLE = "improved implausibly"


@dataclass(frozen=True)
class Row:
    """One check in a comparison.

    Attributes:
        key: Model, backend, check and epsilon.
        verdict: What became of it.
        old: The baseline's accuracy, or the mean of its runs, if it has one.
        new: The run's accuracy, if it has one.
        interval: 95 % interval of the rise (new - old), not corrected for other checks.
        p_value: How likely such a difference is if nothing changed, corrected for all checks.
        old_status: Status in the baseline; empty if it is not there.
        new_status: Likewise in the run.
        implausible: Whether it improved more than is plausible.
        detail: Why, where the numbers alone do not say it.
        counted: Whether the outcomes of images were compared.
        visible: The smallest drop that would have failed, of those that were; None if none would.
        could_fail: Whether any outcome of the run would have failed, likewise.
    """

    key: Key
    verdict: Verdict
    old: float | None = None
    new: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None
    old_status: str = ""
    new_status: str = ""
    implausible: bool = False
    detail: str = ""
    counted: bool = False
    visible: float | None = None
    could_fail: bool = False

    @property
    def label(self) -> str:
        """The key for people: ``torch mlp fgsm eps=0.1``."""
        return label(self.key)

    @property
    def fails(self) -> bool:
        """Whether this alone fails the gate."""
        return self.verdict in FAILING or self.implausible

    @property
    def outcome(self) -> str:
        """The verdict in words."""
        return IMPLAUSIBLE if self.implausible else self.verdict

    @property
    def difference(self) -> float | None:
        """Rise of the accuracy over the baseline, or None where not both sides have one."""
        return None if self.old is None or self.new is None else self.new - self.old

    @property
    def detects(self) -> str:
        """The smallest drop that would have failed, for people; empty where no images count."""
        if not self.counted:
            return ""
        if self.visible is not None:
            return f"{100 * self.visible:.2f}"
        return "no drop" if self.old else "nothing to lose"


@dataclass(frozen=True)
class Comparison:
    """A run compared with a baseline.

    Attributes:
        rows: A row a check, in the order of the keys.
        passed: Whether the gate passes.
        message: The outcome in one line.
        notes: How each model was compared, a line each.
        compared: What was compared with what, in a line; empty if nothing was.
    """

    rows: tuple[Row, ...]
    passed: bool
    message: str
    notes: tuple[str, ...] = ()
    compared: str = ""

    @property
    def bounds(self) -> str:
        """What the accuracies are of robust accuracy."""
        return bounds_told(["upper", *(bound_of(*row.key[2:]) for row in self.rows)])

    @property
    def worst_first(self) -> list[Row]:
        """The rows that changed, those that fail first."""
        told = [row for row in self.rows if row.verdict != "unchanged"]
        return sorted(told, key=lambda row: (not row.fails, VERDICTS.index(row.verdict)))

    @property
    def unchanged(self) -> list[Row]:
        """The other rows, those whose images were compared first."""
        return sorted(
            (row for row in self.rows if row.verdict == "unchanged"),
            key=lambda row: not row.counted,
        )


def sight(rows: Sequence[Row]) -> str:
    """What the gate could have detected: the smallest drops that would have failed."""
    counted = [row for row in rows if row.counted and row.old]
    drops = [100 * row.visible for row in counted if row.visible is not None]
    if not drops:
        return ""
    span = f"{min(drops):.2f}"
    if f"{max(drops):.2f}" != span:
        span += f" to {max(drops):.2f}"
    blind = len(counted) - len(drops)
    out = f", and no drop in {blind} of {len(counted)} checks" if blind else ""
    return f"the smallest drop that fails is {span} points{out}"


def too_small(rows: Sequence[Row]) -> str:
    """Why no accuracy of the run could have failed, if so: there are too few images."""
    counted = [row for row in rows if row.counted and row.old]
    if not counted or any(row.could_fail for row in counted):
        return ""
    return (
        f"there are too few images: none of the {len(counted)} accuracies could have failed, even "
        "with no image correct; measure more images"
    )


def by_status(old: Entry | None, new: Record | None) -> tuple[Verdict, str] | None:
    """The verdict on one check as far as statuses give it, and why; None if accuracies decide."""
    if new is None:
        return "vanished", "not in the run"
    reason = f"{new.status}: {new.reason}" if new.reason else new.status
    if new.status == "error":
        return "regressed", reason
    failed_before = old is not None and old.status == "failed"
    if new.status == "failed" and accuracy(new) is None:
        return ("unchanged", "") if failed_before else ("regressed", reason)
    if old is None:
        return "new", ""
    if old.status == "measured" and new.status == "skipped":
        return "vanished", f"now {reason}"
    if not says_something(old):
        return ("new", f"was {old.status}") if says_something(new) else ("unchanged", "")
    before, after = accuracy(old), accuracy(new)
    if not says_something(new) or (before is not None and after is None):
        return "vanished", f"now {reason}"
    if before is None or after is None:
        # The failures are dealt with, so what is left to happen to a status is good.
        return ("improved", "failed before") if failed_before else ("unchanged", "")
    return None


def accuracy(side: Entry | Record) -> float | None:
    """The accuracy of one side, or None if it was not measured."""
    if side.status in ("skipped", "error") or side.accuracy is None:
        return None
    return side.accuracy if math.isfinite(side.accuracy) else None


def says_something(side: Entry | Record) -> bool:
    """Whether a record holds a number or a judgement at all."""
    return side.status in ("passed", "failed") or accuracy(side) is not None


def incomplete(run: Run) -> str:
    """Why a run says too little to be compared, or nothing."""
    if not run.finished:
        return "the run did not finish; run it again"
    if not run.records:
        return "the run has no records"
    # Skips alone would agree with a baseline of skips for ever.
    if not any(says_something(record) for record in run.records):
        return f"the run measured nothing: {run.records[0].label} was {run.records[0].status}"
    return ""
