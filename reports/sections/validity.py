"""The section on validity: whether the accuracies can be trusted."""

from __future__ import annotations

from typing import Any

from reports import tables
from reports.section import Section
from reports.view import RunView


def _content(view: RunView) -> dict[str, Any] | None:
    _, validity, _ = view.judged
    grid = tables.grid(validity, view.order, "check")
    return {"validity_checks": grid, "meanings": tables.meanings()} if grid.rows else None


SECTION = Section("validity", "Validity", place=80, content=_content, rank=40)
