"""The section on accuracy under attack: each attack's sweep, and all attacks on each model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from harness.maths.norms import NORMS
from harness.protocol import NormName
from harness.results.run import Run
from reports import figures, stored, tables
from reports.figures import Series
from reports.section import Section
from reports.stored import Pair
from reports.view import RunView


@dataclass(frozen=True)
class Sweep:
    """An attack's accuracies as a chart and a table."""

    attack: str
    chart: Markup
    series: list[Series]
    accuracies: tables.Grid


@dataclass(frozen=True)
class Rungs:
    """What one norm's attacks do to one pair: a chart, and a table of attacks by epsilons."""

    norm: str
    chart: Markup
    series: list[Series]
    epsilons: list[float]
    cells: dict[tuple[str, float], Any]
    lowest: set[tuple[str, float]]


@dataclass(frozen=True)
class Ladder:
    """All attacks on one pair."""

    pair: Pair
    rungs: list[Rungs]


def sweeps_of(run: Run, sweeps: dict[str, pd.DataFrame], series: dict[Pair, Series]) -> list[Sweep]:
    """A chart and a table for each attack."""
    found = []
    for place, (attack, frame) in enumerate(sweeps.items()):
        accuracies = tables.grid(frame, list(series), "epsilon")
        lines = [(series[pair], tables.of_pair(frame, pair)) for pair in accuracies.pairs]
        chart = figures.accuracy_chart(
            lines, stored.chance(run), figures.axis_of(frame), f"sweep{place}",
            f"Line chart: accuracy under {attack} against epsilon, for "
            + ", ".join(look.label for look, _ in lines),
        )  # fmt: skip
        found.append(Sweep(attack, chart, [look for look, _ in lines], accuracies))
    return found


def ladders_of(run: Run, frame: pd.DataFrame, order: list[Pair]) -> list[Ladder]:
    """For each pair that met several attacks, all of them side by side, a norm at a time."""
    measured = tables.attacks(frame)
    looks = figures.ladder_of(list(dict.fromkeys(measured["check"].astype(str))))
    found = []
    for place, pair in enumerate(order):
        mine = tables.of_pair(measured, pair)
        rungs = [
            _rungs(run, norm, part, looks, f"ladder{place}-{norm}", pair)
            for norm in NORMS
            if (part := mine[mine["norm"] == norm])["check"].nunique() > 0
        ]
        if mine["check"].nunique() > 1:
            found.append(Ladder(pair, rungs))
    return found


def _rungs(
    run: Run,
    norm: NormName,
    frame: pd.DataFrame,
    looks: dict[str, Series],
    name: str,
    pair: Pair,
) -> Rungs:
    attacks = list(dict.fromkeys(frame["check"].astype(str)))
    lines = [
        (looks[attack], frame[frame["check"] == attack].sort_values("epsilon"))
        for attack in attacks
    ]
    chart = figures.accuracy_chart(
        lines, stored.chance(run), figures.AXES[norm], name,
        f"Line chart: accuracy of {pair.label} against epsilon, under " + ", ".join(attacks),
    )  # fmt: skip
    cells = {(row.check, row.epsilon): row for row in tables.rows_of(frame)}
    attacked = frame[frame["epsilon"] > 0]
    least = attacked.groupby("epsilon")["accuracy"].transform("min")
    lowest = attacked[attacked["accuracy"] <= least]
    return Rungs(
        norm=NORMS[norm].label,
        chart=chart,
        series=[look for look, _ in lines],
        epsilons=sorted({epsilon for _, epsilon in cells}),
        cells=cells,
        lowest={(row.check, row.epsilon) for row in tables.rows_of(lowest)},
    )


def _content(view: RunView) -> dict[str, Any] | None:
    sweeps = sweeps_of(view.run, view.sweeps, view.series)
    ladders = ladders_of(view.run, view.frame, view.order)
    if not sweeps:
        return None
    return {"sweeps": sweeps, "ladders": ladders, "randomised": view.randomised}


SECTION = Section(
    "accuracy", "Accuracy under attack", place=20, content=_content, rank=20, expected=True
)
