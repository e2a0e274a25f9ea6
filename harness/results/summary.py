"""A run at a glance, as lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.table import Table
from rich.text import Text

from harness.errors import one_line
from harness.maths.norms import written
from harness.results.blocks import NORMS, Block, Line, blocks
from harness.results.records import Record
from harness.results.run import Run
from harness.terminal import GAP, NARROW, plain

SUCCESS = "  success"
FAILING = "bold red"
"""How a cell looks whose check failed, or broke."""
NAME = 18
"""Signs that a name may always take; longer ones are folded where they leave no room."""
BESIDE = 3
"""So many epsilons stand beside the longest names, before these are folded."""


def note_lines(run: Run) -> list[str]:
    """What a reader should know of the numbers, a printable line each."""
    return [f"note: {one_line(note)}" for note in run.notes]


def accuracy_tables(run: Run, width: int = NARROW) -> Iterator[Table]:
    """For each norm a table with a row per backend, model and attack, in percent; or certifier.

    Its columns are the clean accuracy, and the accuracy at each epsilon: an upper bound on robust
    accuracy, or of a certifier, each of which has a table of its own, a lower one, as the line
    below says; where nothing was attacked or certified, the clean accuracy alone. More epsilons
    than fit side by side are continued in a further table.

    Args:
        run: What was measured.
        width: Signs that a line may have.
    """
    for block in blocks(run):
        count = len(block.epsilons)
        tables = math.ceil(count / _at_once(block, width)) or 1
        size = math.ceil(count / tables) or 1  # so that none has much fewer than others
        for begin in range(0, max(1, count), size):
            yield _table(run, block, slice(begin, min(begin + size, count)), _names(block, width))


def _names(block: Block, width: int) -> list[int]:
    """How wide the columns of the names may be on lines of that width."""
    columns = zip(block.headings, *(line.names for line in block.lines), strict=False)
    widest = [max(plain(name).cell_len for name in column) for column in columns]
    if any(map(_aimed, block.lines)):
        widest[-1] = max(widest[-1], len(SUCCESS))
    numbers = (1 + min(BESIDE, len(block.epsilons))) * _cell_width(block)
    others = sum(widest) - max(widest) + len(widest) * GAP
    return [min(each, max(NAME, width + GAP - numbers - others)) for each in widest]


def _cell_width(block: Block) -> int:
    """Signs of a column of accuracies, with what stands between it and the next."""
    cells = [_told(cell) for line in block.lines for cell in (line.clean, *line.cells)]
    return max(map(len, ["clean", *cells, *_epsilons(block)])) + GAP


def _at_once(block: Block, width: int) -> int:
    """How many epsilons stand beside names and clean accuracy on lines of that width."""
    cell = _cell_width(block)
    left = width + GAP - sum(each + GAP for each in _names(block, width)) - cell
    return max(1, left // cell)


def _epsilons(block: Block) -> list[str]:
    """The radii as headings: short, as long as they differ."""
    whole = [written(epsilon) for epsilon in block.epsilons]
    short = [told if "/" in told else f"{float(told):.3g}" for told in whole]
    return short if len({*short}) == len(short) else whole


def _table(run: Run, block: Block, shown: slice, names: list[int]) -> Table:
    by = ", by ε" if block.epsilons else ""
    title = f"{block.what} in %{by} ({run.spec.get('name', '')}, {NORMS[block.norm]})"
    last = shown.stop >= len(block.epsilons)
    caption = block.told or None if last else "continued below"
    table = Table(
        title=plain(title), caption=caption, title_justify="left", caption_justify="left",
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False,
    )  # fmt: skip
    for heading, widest in zip(block.headings, names, strict=True):
        table.add_column(heading, overflow="fold", max_width=widest)
    for heading in ("clean", *_epsilons(block)[shown]):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in block.lines:
        for row in _rows(line, shown, len(names)):
            table.add_row(*row)
    return table


def _rows(line: Line, shown: slice, named: int) -> Iterator[list[Text]]:
    """The accuracies of a line; and below them how often an attack reached what it aimed at."""
    cells = line.cells[shown]
    yield [*map(plain, line.names[:named]), _cell(line.clean), *map(_cell, cells)]
    if _aimed(line):
        successes = ["" if r is None or r.value is None else f"{100 * r.value:.2f}" for r in cells]
        yield [*map(plain, ("", "", SUCCESS, "")), *map(plain, successes)]


def _aimed(line: Line) -> bool:
    """Whether an attack aimed at classes, and it is known how often it reached them."""
    return any(record is not None and record.value is not None for record in line.cells)


def _cell(record: Record | None) -> Text:
    failing = record is not None and record.status in ("failed", "error")
    return plain(_told(record), FAILING if failing else "")


def _told(record: Record | None) -> str:
    """An accuracy in percent, or why there is none."""
    if record is None:
        return ""
    return record.status if record.accuracy is None else f"{100 * record.accuracy:.2f}"
