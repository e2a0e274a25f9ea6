"""A run at a glance, as lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.table import Table
from rich.text import Text

from harness.errors import one_line
from harness.results.blocks import NORMS, Block, Line, blocks
from harness.results.records import Record
from harness.results.run import Run
from harness.terminal import NARROW, plain

FAILING = "bold red"
"""How a cell looks whose check failed, or broke."""
GAP = 2
"""Signs between two columns."""
NAME = 18
"""Signs that a name takes at most; longer ones are folded."""


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
            yield _table(run, block, slice(begin, min(begin + size, count)))


def _at_once(block: Block, width: int) -> int:
    """How many epsilons stand beside names and clean accuracy on lines of that width."""
    heads = ("backend", "model", block.heading)
    names = [heads, *((line.backend, line.model, line.method) for line in block.lines)]
    widest = [min(NAME, max(map(len, column))) for column in zip(*names, strict=True)]
    cells = [_told(cell) for line in block.lines for cell in (line.clean, *line.cells)]
    cell = max(map(len, ["clean", *cells, *_epsilons(block)])) + GAP
    left = width + GAP - sum(each + GAP for each in widest) - cell
    return max(1, left // cell)


def _epsilons(block: Block) -> list[str]:
    """The radii as headings: short, as long as they differ."""
    short = [f"{epsilon:.3g}" for epsilon in block.epsilons]
    if len({*short}) == len(short):
        return short
    return [f"{epsilon:g}" for epsilon in block.epsilons]


def _table(run: Run, block: Block, shown: slice) -> Table:
    by = ", by ε" if block.epsilons else ""
    title = f"{block.what} in %{by} ({run.spec.get('name', '')}, {NORMS[block.norm]})"
    last = shown.stop >= len(block.epsilons)
    caption = block.told or None if last else "continued below"
    table = Table(
        title=plain(title), caption=caption, title_justify="left", caption_justify="left",
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False,
    )  # fmt: skip
    for heading in ("backend", "model", block.heading):
        table.add_column(heading, overflow="fold", max_width=NAME)
    for heading in ("clean", *_epsilons(block)[shown]):
        table.add_column(heading, justify="right", no_wrap=True)
    for line in block.lines:
        for row in _rows(line, shown):
            table.add_row(*row)
    return table


def _rows(line: Line, shown: slice) -> Iterator[list[Text]]:
    """The accuracies of a line; and below them how often an attack reached what it aimed at."""
    cells = line.cells[shown]
    yield [
        plain(line.backend), plain(line.model), plain(line.method), _cell(line.clean),
        *map(_cell, cells),
    ]  # fmt: skip
    if any(record is not None and record.value is not None for record in cells):
        successes = ["" if r is None or r.value is None else f"{100 * r.value:.2f}" for r in cells]
        blank = [plain("")] * 2
        yield [*blank, plain("  success"), plain(""), *map(plain, successes)]


def _cell(record: Record | None) -> Text:
    failing = record is not None and record.status in ("failed", "error")
    return plain(_told(record), FAILING if failing else "")


def _told(record: Record | None) -> str:
    """An accuracy in percent, or why there is none."""
    if record is None:
        return ""
    return record.status if record.accuracy is None else f"{100 * record.accuracy:.2f}"
