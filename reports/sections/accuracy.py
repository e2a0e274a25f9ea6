"""The section on accuracy under attack: all attacks on each model, a norm at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from markupsafe import Markup

from harness.maths.norms import NORMS
from harness.protocol import NormName
from reports import agreement, figures, stored, tables
from reports.agreement import Group
from reports.figures import Series
from reports.formats import check_words
from reports.section import Section
from reports.view import RunView


@dataclass(frozen=True)
class Rungs:
    """What one norm's attacks do to a model: a chart, and a table of attacks by epsilons.

    Attributes:
        norm: The norm as people write it.
        chart: A line per attack, from clean accuracy on.
        series: How each attack looks, by its name in the records.
        epsilons: The columns of the table.
        cells: A row of the table of measurements by that name and epsilon.
        lowest: Where the fewest images are left at an epsilon.
        images: How many images each attack was measured on.
    """

    norm: str
    chart: Markup
    series: dict[str, Series]
    epsilons: list[float]
    cells: dict[tuple[str, float], Any]
    lowest: set[tuple[str, float]]
    images: dict[str, int]


@dataclass(frozen=True)
class Ladder:
    """All attacks on one model; backends that agree are together."""

    group: Group
    clean: Any | None
    rungs: list[Rungs]


def ladders_of(view: RunView) -> list[Ladder]:
    """For each model that was attacked its attacks side by side, a norm at a time."""
    found = []
    for group in view.groups:
        rows = agreement.merged(view.frame[view.frame["accuracy"].notna()], group)
        measured = tables.attacks(rows)
        looks = {
            attack: replace(look, label=check_words(attack))
            for attack, look in figures.ladder_of(
                list(dict.fromkeys(measured["check"].astype(str)))
            ).items()
        }
        clean = tables.rows_of(rows[rows["check"] == "clean"])
        rungs = [
            _rungs(view, norm, part, looks, group, rows[rows["check"] == "clean"])
            for norm in NORMS
            if len(part := measured[measured["norm"] == norm])
        ]
        if rungs:
            found.append(Ladder(group, clean[0] if clean else None, rungs))
    return found


def _rungs(
    view: RunView,
    norm: NormName,
    frame: pd.DataFrame,
    looks: dict[str, Series],
    group: Group,
    clean: pd.DataFrame,
) -> Rungs:
    series = {attack: looks[attack] for attack in dict.fromkeys(frame["check"].astype(str))}
    chart = figures.accuracy_chart(
        [(look, _from_clean(frame[frame["check"] == attack], clean))
         for attack, look in series.items()],
        stored.chance(view.run), figures.AXES[norm],
        f"Line chart: accuracy of {group.label} against epsilon, under "
        + ", ".join(look.label for look in series.values()),
        title=f"Accuracy under {NORMS[norm].label} attacks",
    )  # fmt: skip
    cells = {(row.check, row.epsilon): row for row in tables.rows_of(frame)}
    attacked = frame[frame["epsilon"] > 0]
    least = attacked.groupby("epsilon")["accuracy"].transform("min")
    lowest = attacked[attacked["accuracy"] <= least]
    return Rungs(
        norm=NORMS[norm].label,
        chart=chart,
        series=series,
        epsilons=sorted({epsilon for _, epsilon in cells if epsilon > 0}),
        cells=cells,
        lowest={(row.check, row.epsilon) for row in tables.rows_of(lowest)},
        images={row.check: int(row.total) for row in cells.values() if row.total == row.total},
    )


def _from_clean(rows: pd.DataFrame, clean: pd.DataFrame) -> pd.DataFrame:
    """An attack's accuracies by rising epsilon, with the clean one where none is at 0."""
    at_zero = bool((rows["epsilon"] == 0).any())
    begun = rows if at_zero or clean.empty else pd.concat([clean.assign(epsilon=0.0), rows])
    found: pd.DataFrame = begun.sort_values("epsilon", kind="stable")
    return found


def _content(view: RunView) -> dict[str, Any] | None:
    ladders = ladders_of(view)
    return {"ladders": ladders} if ladders else None


SECTION = Section(
    "accuracy", "Accuracy under attack", place=20, content=_content, rank=20, expected=True,
    learn="learn/curves",
)  # fmt: skip
