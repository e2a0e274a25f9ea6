"""A stored run as tables, figures and one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.records import Run
    from harness.search_result import SearchResult

__all__ = ["render"]


def render(run: Run, out: Path, search: SearchResult | None = None) -> Path:
    """Write the report of a run as one HTML file that needs nothing beside it.

    The run is only read: nothing is measured again, and no framework is imported. The same run
    gives the same bytes.

    Args:
        run: What was measured, as loaded from a results folder.
        out: Path of the HTML file; an older file is replaced once the new one is complete.

        search: A search over the grid of the run's spec, which gets a section.

    Returns:
        The path that was written.
    """
    # Not a file called render.py: as a submodule it would take this function's name.
    from reports.page import write

    return write(run, out, search)
