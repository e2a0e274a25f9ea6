"""The result of a search as a table in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from harness.results.search import SearchResult, SearchTrial
from harness.terminal import plain

STYLES = {"complete": "", "pruned": "dim", "failed": "red"}


def print_search(result: SearchResult, console: Console | None = None) -> None:
    """Print the points of a search, best first, and what its winner gains in one line.

    Args:
        result: What to show.
        console: Where to print; the standard output if None.
    """
    console = console or Console()
    mixed = result.grid.fgsm_weight > 0
    table = Table(box=None, pad_edge=False)
    columns = [*(key.replace("_", " ") for key in result.grid.values), "validation"]
    columns += ["fgsm", "score"] if mixed else []
    for column in (*columns, "epochs", "seconds"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold", min_width=len("complete"))
    for trial in result.trials:
        accuracies = [trial.clean, *([trial.fgsm, trial.score] if mixed else [])]
        state = ": ".join(filter(None, (trial.state, trial.reason)))
        table.add_row(
            *trial.parameters.texts, *map(_percent, accuracies),
            str(len(trial.history)), f"{trial.seconds:.1f}", plain(state),
            style=STYLES[trial.state],
        )  # fmt: skip
    console.print(table)
    if result.winner is not None:
        line = f"winner: {_described(result.winner)}; the spec's own: {_described(result.default)}"
        console.print(plain(line, "green"), soft_wrap=True)


def _described(trial: SearchTrial) -> str:
    point = trial.parameters
    values = (f"{key} {text}" for key, text in zip(point.given, point.texts, strict=True))
    return f"{', '.join(values)} ({_percent(trial.score)})"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
