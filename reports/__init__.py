"""Stored runs as tables, figures and one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.results.run import Run
    from reports.page import Source

__all__ = ["render", "render_all"]


def render(run: Run, out: Path) -> Path:
    """Write the report of a run as one HTML file that needs nothing beside it.

    The run is only read: nothing is measured again, and no framework is imported. The same run
    gives the same bytes.

    Args:
        run: What was measured, as loaded from a results folder.
        out: Path of the HTML file; an older file is replaced once the new one is complete.

    Returns:
        The path that was written.
    """
    from reports.page import Source

    return render_all([Source(run)], out)


def render_all(sources: Sequence[Source], out: Path) -> Path:
    """The same of one run with what belongs to it, or of several runs side by side.

    Args:
        sources: Runs with their names, searches and comparisons; the first is what the others
            are compared with.
        out: Path of the HTML file.
    """
    # Not a file called render.py: as a submodule it would take the function's name.
    from reports.page import write

    return write(sources, out)
