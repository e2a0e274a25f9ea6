"""The section that holds several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.results import keys
from harness.results.run import Run
from reports import figures, stored, tables
from reports.figures import Series
from reports.stored import Pair


@dataclass(frozen=True)
class Row:
    """One measurement in all runs.

    Attributes:
        check: ``clean``, the attack's name, or ``certified/`` and the certifier's.
        epsilon: Its radius, or NaN.
        cells: The measurement in each run; None where there is none.
        changes: By how much each accuracy is above that of the first run; None likewise.
    """

    check: str
    epsilon: float
    cells: list[Any | None]
    changes: list[float | None]

    @property
    def certified(self) -> bool:
        """Whether it is a lower bound on robust accuracy."""
        return keys.is_certified(self.check)


@dataclass(frozen=True)
class Beside:
    """A model in a backend, in all runs.

    Attributes:
        pair: Which model.
        attack: The attack that is drawn; empty if none is.
        chart: A line per run; None without an attack.
        series: How each run looks in it.
        rows: The accuracies.
    """

    pair: Pair
    attack: str
    chart: Markup | None
    series: list[Series]
    rows: list[Row]


def side_by_side(names: Sequence[str], runs: Sequence[Run]) -> list[Beside]:
    """Every pair that more than one run measured."""
    frames = [tables.measurements(run) for run in runs]
    order = list(dict.fromkeys(pair for run in runs for pair in stored.pairs(run)))
    found = []
    for pair in order:
        mine = [tables.of_pair(frame, pair) for frame in frames]
        if sum(not part.empty for part in mine) > 1:
            found.append(_beside(names, mine, pair, runs))
    return found


def _beside(names: Sequence[str], mine: Sequence[Any], pair: Pair, runs: Sequence[Run]) -> Beside:
    looks = figures.ladder_of(list(names))
    sweeps = [tables.sweeps(part) for part in mine]
    attack = next((name for sweep in sweeps for name in sweep), "")
    lines = [
        (look, sweep[attack])
        for look, sweep in zip(looks.values(), sweeps, strict=True)
        if attack in sweep
    ]
    chart = figures.accuracy_chart(
        lines, stored.chance(runs[0]), figures.axis_of(lines[0][1]),
        f"Line chart: accuracy of {pair.label} under {attack} against epsilon, for "
        + ", ".join(look.label for look, _ in lines),
    ) if lines else None  # fmt: skip
    return Beside(pair, attack, chart, [look for look, _ in lines], _rows(mine))


def _rows(mine: Sequence[Any]) -> list[Row]:
    """Clean accuracy, and that under each attack by rising epsilon, of all that any run has."""
    cells: dict[tuple[str, str], list[Any | None]] = {}
    for place, frame in enumerate(mine):
        for row in tables.rows_of(tables.accuracies(frame)):
            # NaN is not equal to itself, so epsilon is compared as it is written.
            blank: list[Any | None] = [None] * len(mine)
            cells.setdefault((row.check, f"{row.epsilon:g}"), blank)[place] = row
    attacks = list(dict.fromkeys(check for check, _ in cells))
    in_order = sorted(
        cells.items(), key=lambda c: (c[0][0] != "clean", attacks.index(c[0][0]), float(c[0][1]))
    )
    found = []
    for (check, epsilon), row in in_order:
        first = row[0]
        changes = [
            None if cell is None or first is None else cell.accuracy - first.accuracy
            for cell in row
        ]
        found.append(Row(check, float(epsilon), row, changes))
    return found
