"""A comparison as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
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
COLUMNS = ("verdict", "check", "baseline", "run", "points", "95 % interval", "p", "why")


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print what differs from the baseline, worst first, and the outcome in one line.

    Args:
        comparison: What to show; its unchanged rows are counted, not listed.
        console: Where to print; the standard output if None.
    """
    console = console or Console()
    told = comparison.worst_first
    if told:
        table = Table(box=None, pad_edge=False)
        for column in COLUMNS:
            justify: JustifyMethod = "left" if column in ("verdict", "check", "why") else "right"
            # Names stay whole, so that a log can be searched for them.
            table.add_column(column, justify=justify, no_wrap=column != "why", overflow="fold")
        for row in told:
            style = "bold red" if row.fails else STYLES[row.verdict]
            table.add_row(*(plain(c, style if i == 0 else "") for i, c in enumerate(cells(row))))
        console.print(table)
    for note in comparison.notes:
        console.print(plain(note), soft_wrap=True)
    style = "green" if comparison.passed else "red"
    # Unwrapped, so that a command in it can be copied.
    console.print(plain(comparison.message, style), soft_wrap=True)


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of ``COLUMNS``."""
    change = "" if row.difference is None else f"{100 * row.difference:+.2f}"
    interval = ""
    if row.interval is not None:
        interval = "{:+.2f} to {:+.2f}".format(*(100 * end for end in row.interval))
    p_value = "" if row.p_value is None else f"{row.p_value:.1g}"
    old, new = _side(row.old, row.old_status), _side(row.new, row.new_status)
    return row.outcome, row.label, old, new, change, interval, p_value, row.detail


def _side(accuracy: float | None, status: str) -> str:
    """One side of a row: its accuracy in percent, or else its status."""
    return f"{accuracy:.2%}" if accuracy is not None else status or "-"
