"""The section on thresholds: every judged accuracy against the range in which it passes."""

from __future__ import annotations

from typing import Any

from reports import tables
from reports.section import Section
from reports.view import RunView


def _content(view: RunView) -> dict[str, Any] | None:
    accuracies, _, _ = view.judged
    found = tables.per_pair(accuracies, view.order)
    # What a number bounds is said where not all of them are bounds from above.
    bounded = bool((accuracies["bound"] == tables.LOWER).any())
    return {"accuracy_checks": found, "bounded": bounded} if found else None


SECTION = Section("thresholds", "Thresholds", place=90, content=_content, rank=30, expected=True)
