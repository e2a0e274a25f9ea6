"""The section that compares a run with its baseline: what moved, by how much, how sure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.gate import Comparison, Row
from reports.section import Section
from reports.view import RunView

MOST = 20
"""Changes that are seen at once, what fails first; the others are opened on demand."""


@dataclass(frozen=True)
class Whisker:
    """An interval of a change on a common scale, in percent of the scale's width from its left."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class Moved:
    """A check, with its interval as a picture where there is one."""

    row: Row
    whisker: Whisker | None


@dataclass(frozen=True)
class Against:
    """A comparison for the page.

    Attributes:
        comparison: The comparison.
        moved: What changed, what fails first.
        unchanged: The checks that did not, those whose images were compared first.
        reach: The end of the whiskers' scale, as a change of accuracy.
    """

    comparison: Comparison
    moved: list[Moved]
    unchanged: list[Moved]
    reach: float


def section_of(comparison: Comparison) -> Against:
    """What the page shows of a comparison."""
    rows, rest = comparison.worst_first, comparison.unchanged
    intervals = [row.interval for row in (*rows, *rest) if row.interval is not None]
    reach = max((abs(end) for ends in intervals for end in ends), default=0.0) or 1.0
    moved, unchanged = ([Moved(row, _whisker(row, reach)) for row in of] for of in (rows, rest))
    return Against(comparison, moved, unchanged, reach)


def _whisker(row: Row, reach: float) -> Whisker | None:
    if row.interval is None or row.difference is None:
        return None
    low, middle, high = (
        round(50 + 50 * change / reach, 1)
        for change in (row.interval[0], row.difference, row.interval[1])
    )
    return Whisker(low, middle, high)


def _content(view: RunView) -> dict[str, Any] | None:
    if view.comparison is None:
        return None
    return {"against": section_of(view.comparison), "most": MOST}


SECTION = Section("baseline", "Against the baseline", place=10, content=_content, rank=10,
                  learn="gate")  # fmt: skip
