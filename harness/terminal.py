"""What the command line takes and shows: paths, and names with whatever signs they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.text import Text

from harness.errors import HarnessError, one_line, printable

MODEL_HELP = (
    "A .onnx, .keras or .pt2 file, a .safetensors that says its layers, the folder of a "
    "SavedModel, or package.module:function."
)
NARROW = 80
"""Signs that a line of a table has at most, unless the terminal is wider."""
DATA_HELP = "An .npz file, a folder with a subfolder a class, or package.module:function."
"""What is said of arguments that several commands have."""


def plain(value: object, style: str = "") -> Text:
    """Text that rich prints as it is, without what it or a terminal would obey."""
    return Text(printable(str(value)), style)


def listed(columns: Sequence[str], rows: Iterable[Sequence[str]], then: str) -> None:
    """Print a list of what there is as a table, and the command that takes a name of it.

    Args:
        columns: Their headings; the last column takes the room that is left.
        rows: A text for each column.
        then: The command.
    """
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns[:-1]:
        table.add_column(column, max_width=26, overflow="fold")
    table.add_column(columns[-1], overflow="fold")
    for row in rows:
        table.add_row(*map(plain, row))
    console = Console(width=max(NARROW, Console().width))
    console.print(table)
    console.print(plain(f"use: {then}", "dim"), soft_wrap=True)
    console.print()


def as_path(given: str | Path) -> Path:
    """A path of the command line; one that is empty, as of an unset variable, is none.

    Raises:
        HarnessError: It is empty.
    """
    if not str(given):
        raise HarnessError("a path on the command line is empty; name one, or . for this folder")
    return Path(given)


def jobs_from(text: str) -> int:
    """How many processes ``--jobs`` asks for; ``auto`` is as many as there are cores for us.

    Raises:
        HarnessError: It is no number from 1, nor ``auto``.
    """
    if text == "auto":
        affinity = getattr(os, "sched_getaffinity", None)  # macOS and Windows have none
        return len(affinity(0)) if affinity else os.cpu_count() or 1
    if not text.isdecimal() or not int(text):
        raise HarnessError(one_line(f"--jobs: {text!r} is no number from 1, nor auto"))
    return int(text)
