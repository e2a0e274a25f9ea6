"""The one door from a run up to what draws its page, for ``Run.report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.files import check_writable

if TYPE_CHECKING:
    from harness.results.run import Run


def write_page(run: Run, path: Path) -> Path:
    """Draw a run; ``reports`` is imported now, and only for who calls this.

    Raises:
        HarnessError: The file cannot be written, or a folder of yours hides ``reports``.
    """
    from robustness_harness import shadowed

    if reason := shadowed("reports"):
        raise HarnessError(reason)
    check_writable(path)
    from reports import render

    return render(run, path)
