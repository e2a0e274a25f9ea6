"""The section on speed: how long measurements took, and how many passes of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

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


@dataclass(frozen=True)
class Passes:
    """By attack and pair, the forward and backward passes an image took at one epsilon."""

    attacks: list[str]
    pairs: list[Pair]
    cells: dict[tuple[str, Pair], tuple[float, float]]


def passes_of(frame: pd.DataFrame, order: Sequence[Pair]) -> Passes | None:
    """What each attack took, of several epsilons the most; None if none says."""
    told = frame.dropna(subset=["epsilon", "forwards", "backwards"])
    cells = {
        (str(check), Pair(backend, model)): (part["forwards"].max(), part["backwards"].max())
        for (check, backend, model), part in told.groupby(["check", "backend", "model"], sort=False)
    }
    found = {pair for _, pair in cells}
    attacks = list(dict.fromkeys(check for check, _ in cells))
    return Passes(attacks, [pair for pair in order if pair in found], cells) if cells else None


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
    speed, passes = section_of(view.run, view.order), passes_of(view.frame, view.order)
    return {"speed": speed, "passes": passes} if speed or passes else None


SECTION = Section("speed", "Speed", place=140, content=_content, rank=110, folded=True)
