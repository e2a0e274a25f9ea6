"""The section on speed: how long measurements took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.results.records import Timing
from harness.results.run import Run
from reports.section import Section
from reports.stored import Pair
from reports.view import RunView


@dataclass(frozen=True)
class Speed:
    """Measurements by pairs: ``cells[check, pair]`` where there is a timing."""

    checks: list[str]
    pairs: list[Pair]
    cells: dict[tuple[str, Pair], Timing]


def section_of(run: Run, order: Sequence[Pair]) -> Speed | None:
    """The timings of a run, those that took no time left out; None if there are none."""
    cells = {
        (timing.check, Pair(timing.backend, timing.model)): timing
        for timing in run.timings
        if timing.seconds > 0
    }
    timed = {pair for _, pair in cells}
    checks = list(dict.fromkeys(check for check, _ in cells))
    return Speed(checks, [pair for pair in order if pair in timed], cells) if cells else None


def _content(view: RunView) -> dict[str, Any] | None:
    found = section_of(view.run, view.order)
    return {"speed": found} if found else None


SECTION = Section("speed", "Speed", place=140, content=_content, rank=110)
