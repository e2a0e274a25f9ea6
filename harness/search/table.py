"""The result of a search as a table in the terminal."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.table import Table

from harness import terminal
from harness.results.search import SearchResult, SearchTrial
from harness.terminal import Row, numbers, plain

STYLES = {"complete": "", "pruned": "dim", "failed": "red"}
UNBOUNDED = 10_000
"""Signs of a line on which any table has room."""


def print_search(result: SearchResult, console: Console | None = None) -> None:
    """Print the points of a search, best first, and what its winner gains in one line.

    Args:
        result: What to show.
        console: Where to print; the standard output if None.
    """
    console = console or terminal.console()
    console.print(_table(result, console))
    for trial in result.trials:
        if trial.reason:
            console.print(plain(f"{trial.state}: {_point(trial)}: {trial.reason}", "red"))
    if result.winner is not None:
        line = f"winner: {_described(result.winner)}; the spec's own: {_described(result.default)}"
        console.print(plain(line, "green"), soft_wrap=True)


def _table(result: SearchResult, console: Console) -> RenderableType:
    """A column for each parameter; where so many have no room, each point in words."""
    mixed = result.grid.fgsm_weight > 0
    accuracies = ["clean", "fgsm", "score"] if mixed else ["validation"]
    heads = [*accuracies, "epochs", "seconds", "state"]
    table = Table(box=None, pad_edge=False)
    for key in result.grid.values:
        # Headings of two words take two lines; what stands below them is never broken.
        table.add_column(key.replace("_", "\n"), justify="right", no_wrap=True)
    for head in heads[:-1]:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(heads[-1], no_wrap=True)
    for trial in result.trials:
        cells = (*trial.parameters.texts, *_cells(trial, mixed))
        table.add_row(*cells, style=STYLES[trial.state])
    wanted = console.measure(table, options=console.options.update(max_width=UNBOUNDED)).maximum
    if wanted <= console.width:
        return table
    rows = [
        Row(plain(_point(one)), [plain(cell, STYLES[one.state]) for cell in _cells(one, mixed)])
        for one in result.trials
    ]
    return numbers(("point", *heads), rows, console.width)


def _cells(trial: SearchTrial, mixed: bool) -> tuple[str, ...]:
    """What became of a point."""
    accuracies = [trial.clean, *([trial.fgsm, trial.score] if mixed else [])]
    epochs, seconds = str(len(trial.history)), f"{trial.seconds:.1f}"
    return *map(_percent, accuracies), epochs, seconds, trial.state


def _point(trial: SearchTrial) -> str:
    values = zip(trial.parameters.given, trial.parameters.texts, strict=True)
    return ", ".join(f"{key} {text}" for key, text in values)


def _described(trial: SearchTrial) -> str:
    return f"{_point(trial)} ({_percent(trial.score)})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
