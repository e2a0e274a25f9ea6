"""A comparison as Markdown, for the summary of a CI job."""

from __future__ import annotations

import html

from harness.gate.table import COLUMNS, cells
from harness.gate.verdicts import Comparison

MOST = 100
"""Rows that are shown; a summary of a job has a bounded length."""


def as_markdown(comparison: Comparison) -> str:
    """The outcome, how models were compared, and a table of what differs, worst first."""
    sign = "✅" if comparison.passed else "❌"
    lines = [f"### Robustness gate {sign}", "", _text(comparison.message), ""]
    lines += [f"- {_text(note)}" for note in comparison.notes]
    told = comparison.worst_first
    if told:
        lines += ["", f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        lines += [f"| {' | '.join(map(_text, cells(row)))} |" for row in told[:MOST]]
    if len(told) > MOST:
        lines += ["", f"and {len(told) - MOST} more"]
    return "\n".join([*lines, ""])


def _text(value: str) -> str:
    """Text that Markdown shows as it is: names and reasons come from anywhere."""
    escaped = html.escape(" ".join(value.split()), quote=False)
    for sign in "\\|*_`[]~":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped
