"""A comparison as Markdown, for the summary of a CI job."""

from __future__ import annotations

import html
from collections.abc import Sequence

from harness.errors import printable
from harness.gate.table import COLUMNS, cells
from harness.gate.verdicts import Comparison, Row

MOST = 100
MOST_UNCHANGED = 1000
"""Rows that are shown; a summary of a job has a bounded length."""


def as_markdown(comparison: Comparison) -> str:
    """The outcome, how models were compared, what differs, worst first, and what does not."""
    sign = "✅" if comparison.passed else "❌"
    lines = [f"### Robustness gate {sign}", "", _text(comparison.message), ""]
    lines += [f"- {_text(note)}" for note in (*comparison.notes, comparison.bounds)]
    lines += _table(comparison.worst_first, MOST)
    if rest := comparison.unchanged:
        lines += ["", f"<details><summary>{len(rest)} unchanged</summary>"]
        lines += [*_table(rest, MOST_UNCHANGED), "", "</details>"]
    return "\n".join([*lines, ""])


def _table(rows: Sequence[Row], most: int) -> list[str]:
    if not rows:
        return []
    lines = ["", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    lines += [f"| {' | '.join(map(_text, cells(row)))} |" for row in rows[:most]]
    return [*lines, "", f"and {len(rows) - most} more"] if len(rows) > most else lines


def _text(value: str) -> str:
    """Text that Markdown shows as it is: names and reasons come from anywhere."""
    escaped = html.escape(printable(" ".join(value.split())), quote=False)
    for sign in "\\|*_`[]~#$":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped
