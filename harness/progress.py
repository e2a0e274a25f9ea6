"""A progress bar on standard error, shown on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from harness.errors import printable

_quiet = ContextVar("_quiet", default=False)


@contextmanager
def quiet() -> Iterator[None]:
    """Show no bars within: those of single trainings would write over that of a search."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


@contextmanager
def progress_bar(
    description: str, total: int | None, done: int = 0
) -> Iterator[Callable[[str], None]]:
    """A bar of steps, some of them done; the function yielded advances it and sets its note.

    How many steps there are need not be known.
    """
    console = Console(stderr=True)
    if _quiet.get() or not console.is_terminal:
        yield lambda note: None
        return
    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    ) as progress:
        task = progress.add_task(printable(description), total=total, completed=done, note="")
        yield lambda note: progress.update(task, advance=1, note=printable(note))
