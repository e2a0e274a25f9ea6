"""A comparison as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rich.console import Console, JustifyMethod
from rich.table import Table

from harness.gate.verdicts import Comparison, Row, Verdict
from harness.terminal import plain

STYLES: Mapping[Verdict, str] = MappingProxyType(
    {"regressed": "bold red", "vanished": "bold red", "incomparable": "bold red",
     "improved": "green", "new": "cyan", "unchanged": "dim"}
)  # fmt: skip
MARGIN = 140
"""The table is at least so wide, in characters."""
COLUMNS = ("verdict", "check", "baseline", "run", "points", "95 % interval", "detects", "p", "why")
"""The columns of a row; ``detects`` is the smallest drop, in points, that would have failed."""
LISTED = 40
"""So many unchanged accuracies are listed one by one; of more, a line a check sums up."""


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print how every accuracy moved, what changed first, and the outcome in one line.

    Args:
        comparison: What to show; of its unchanged rows those without an accuracy are only counted.
        console: Where to print; the standard output if None.
    """
    console = console or Console()
    steady = [row for row in comparison.unchanged if row.counted]
    lines = [(cells(row), "bold red" if row.fails else STYLES[row.verdict])
             for row in comparison.worst_first]  # fmt: skip
    several = summaries(steady) if len(steady) > LISTED else [cells(row) for row in steady]
    lines += [(line, STYLES["unchanged"]) for line in several]
    if lines:
        table = Table(box=None, pad_edge=False)
        for column in COLUMNS:
            justify: JustifyMethod = "left" if column in ("verdict", "check", "why") else "right"
            # Names stay whole, so that a log can be searched for them.
            table.add_column(column, justify=justify, no_wrap=column != "why", overflow="fold")
        for line, style in lines:
            table.add_row(*(plain(cell, style if i == 0 else "") for i, cell in enumerate(line)))
        console.print(table)
        console.print(plain(comparison.bounds, "dim"), soft_wrap=True)
    for note in comparison.notes:
        console.print(plain(note), soft_wrap=True)
    style = "green" if comparison.passed else "red"
    # Unwrapped, so that a command in it can be copied.
    console.print(plain(comparison.message, style), soft_wrap=True)


def summaries(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Unchanged accuracies as a line a model and check, which spans all its epsilons."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.key[:3], []).append(row)
    lines = []
    for (model, backend, check), several in groups.items():
        if len(several) == 1:
            lines.append(cells(several[0]))
            continue
        moved = [100 * row.difference for row in several if row.difference is not None]
        ends = [100 * end for row in several for end in row.interval or ()]
        drops = [row.visible for row in several]
        known = [100 * drop for drop in drops if drop is not None]
        lines.append((
            "unchanged", f"{backend} {model} {check}, {len(several)} epsilons",
            _span([100 * row.old for row in several if row.old is not None], "{:.2f}%"),
            _span([100 * row.new for row in several if row.new is not None], "{:.2f}%"),
            _span(moved, "{:+.2f}"), _span(ends, "{:+.2f}"),
            _span(known, "{:.2f}") or several[0].detects, "",
            f"no drop is detected at {drops.count(None)}" if known and None in drops else "",
        ))  # fmt: skip
    return lines


def _span(values: Sequence[float], form: str) -> str:
    """The lowest and the highest of some values."""
    ends = dict.fromkeys(form.format(end) for end in (min(values), max(values))) if values else ()
    return " to ".join(ends)


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of ``COLUMNS``."""
    change = "" if row.difference is None else f"{100 * row.difference:+.2f}"
    interval = ""
    if row.interval is not None:
        interval = "{:+.2f} to {:+.2f}".format(*(100 * end for end in row.interval))
    p_value = "" if row.p_value is None else f"{row.p_value:.1g}"
    old, new = _side(row.old, row.old_status), _side(row.new, row.new_status)
    return row.outcome, row.label, old, new, change, interval, row.detects, p_value, row.detail


def _side(accuracy: float | None, status: str) -> str:
    """One side of a row: its accuracy in percent, or else its status."""
    return f"{accuracy:.2%}" if accuracy is not None else status or "-"
