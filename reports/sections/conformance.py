"""The section on conformance: checks that count no images."""

from __future__ import annotations

from typing import Any

from reports import tables
from reports.section import Section
from reports.view import RunView


def _content(view: RunView) -> dict[str, Any] | None:
    _, _, others = view.judged
    grid = tables.grid(others, view.order, "check")
    return {"other_checks": grid, "meanings": tables.meanings()} if grid.rows else None


SECTION = Section("conformance", "Conformance", place=100, content=_content, rank=90, expected=True)
