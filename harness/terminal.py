"""What the command line takes and shows: paths, and names with whatever signs they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from harness.errors import HarnessError, one_line, printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MODEL_HELP = (
    "A .onnx, .keras or .pt2 file, a .safetensors that says its layers, the folder of a "
    "SavedModel, or package.module:function."
)
NARROW = 80
"""Signs that a line of a table has at most, unless the terminal is wider."""
GAP = 2
"""Signs between two columns."""
NUMBER = 9
"""Signs of a number, or of one end of a range with what joins it to the other."""
LISTED = 26
"""Signs that a column of a list has at most, unless a word of it is longer."""
LEAST = 12
"""Signs that names have beside their numbers, at least."""
DATA_HELP = "An .npz file, a folder with a subfolder a class, or package.module:function."
"""What is said of arguments that several commands have."""


def plain(value: object, style: str = "") -> Text:
    """Text that rich prints as it is, without what it or a terminal would obey."""
    return Text(printable(str(value)), style)


@dataclass(frozen=True)
class Row:
    """A row of a table of numbers.

    Attributes:
        name: What the numbers are of.
        cells: A text for each of the other columns; none where rows that follow are headed.
        about: What else is said of it, below its name.
        indent: Signs before the name.
    """

    name: Text
    cells: Sequence[Text] = ()
    about: Text | None = None
    indent: int = 0

    @property
    def wanted(self) -> int:
        """Signs in which all that stands in the first column needs no second line."""
        below = self.about.cell_len + GAP if self.about else 0
        return self.indent + max(self.name.cell_len, below)


def console(*, stderr: bool = False) -> Console:
    """Where tables are printed: as wide as the terminal, and 80 columns at least."""
    from rich.console import Console

    found = Console(stderr=stderr)
    found.width = max(NARROW, found.width)
    return found


def numbers(heads: Sequence[str], rows: Sequence[Row], width: int) -> RenderableType:
    """A table in which neither a number is broken, nor a name that has room on a line.

    A column of numbers is as wide as its longest word, and a range takes two lines; the names
    have the room that is left, and one that is longer has a line of its own above its numbers.

    Args:
        heads: Of the names, and of each column of numbers.
        rows: In their order.
        width: Signs that a line may have.
    """
    from rich.console import Group

    first = Row(Text(heads[0], "bold"), [Text(head, "bold") for head in heads[1:]])
    columns = zip(*(row.cells for row in (first, *rows) if row.cells), strict=True)
    widths = [max(map(_least, column)) for column in columns]
    left = width - sum(each + GAP for each in widths)
    room = max(LEAST, min(left, max(row.wanted for row in (first, *rows))))
    return Group(*(line for row in (first, *rows) for line in _lines(row, room, widths)))


def _lines(row: Row, room: int, widths: Sequence[int]) -> Iterator[RenderableType]:
    """A row of such a table, and before it a name that has no room in it."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table

    name = Padding(row.name, (0, 0, 0, row.indent), expand=False)
    about = [Padding(row.about, (0, 0, 0, row.indent + GAP))] if row.about else []
    if not row.cells or row.indent + row.name.cell_len > room:
        yield name
        if not row.cells:
            return
    else:
        about = [name, *about]
    grid = Table.grid()
    grid.add_column(width=room, overflow="fold")
    cells = []
    for width, cell in zip(widths, row.cells, strict=True):
        # A column of its own between two, since versions of rich count padding differently.
        grid.add_column(width=GAP)
        grid.add_column(width=width, justify="right", overflow="fold")
        cells += [Text(), cell]
    grid.add_row(Group(*about), *cells)
    yield grid


def _least(text: Text) -> int:
    """Signs that a number needs, of which a range may take two lines."""
    return max(longest(text), min(NUMBER, text.cell_len))


def longest(text: Text) -> int:
    """Signs of the longest word of a text."""
    return max((Text(word).cell_len for word in text.plain.split()), default=0)


def listed(columns: Sequence[str], rows: Iterable[Sequence[str]], then: str) -> None:
    """Print a list of what there is as a table, and the command that takes a name of it.

    Args:
        columns: Their headings; the last column takes the room that is left.
        rows: A text for each column.
        then: The command.
    """
    from rich.table import Table

    shown = [[plain(cell) for cell in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns[:-1]):
        words = max((longest(row[place]) for row in shown), default=0)
        table.add_column(column, max_width=max(LISTED, words), overflow="fold")
    table.add_column(columns[-1], overflow="fold")
    for row in shown:
        table.add_row(*row)
    out = console()
    out.print(table)
    out.print(plain(f"use: {then}", "dim"), soft_wrap=True)
    out.print()


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
