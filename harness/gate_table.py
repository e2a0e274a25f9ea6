"""A comparison of the gate as a table in the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.gate import VERDICTS, Comparison, Entry, Verdict
from harness.records import Record

STYLES: Mapping[Verdict, str] = MappingProxyType(
    {"regressed": "bold red", "vanished": "bold red", "changed": "yellow",
     "improved": "green", "new": "cyan", "unchanged": "dim"}
)  # fmt: skip


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print what differs from the baseline, worst first, and the outcome in one line.

    Args:
        comparison: What to show; its unchanged rows are counted, not listed.
        console: Where to print; the standard output if None.
    """
    console = console or Console()
    moved = [row for row in comparison.rows if row.verdict != "unchanged"]
    if moved:
        table = Table("verdict", box=None, pad_edge=False)
        table.add_column("measurement", overflow="fold")
        for column in ("baseline", "run", "change"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("why", overflow="fold")
        for row in sorted(moved, key=lambda row: VERDICTS.index(row.verdict)):
            change = "" if row.change is None else f"{100 * row.change:+.2f} pp"
            # Text, since names and reasons may hold brackets, which rich would take for markup.
            table.add_row(
                Text(row.verdict, STYLES[row.verdict]), Text(row.label),
                _side(row.old), _side(row.new), change, Text(row.detail),
            )  # fmt: skip
        console.print(table)
    style = "green" if comparison.passed else "red"
    # Unwrapped, so that a command in it can be copied.
    console.print(Text(comparison.message, style), soft_wrap=True)


def _side(record: Entry | Record | None) -> str:
    """One side of a row: its accuracy in percent, or else its status."""
    if record is None:
        return "-"
    return record.status if record.accuracy is None else f"{record.accuracy:.2%}"
