"""A progress bar on standard error, shown on a terminal only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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
_title = ContextVar("_title", default="")
_displayed: ContextVar[Progress | None] = ContextVar("_displayed", default=None)


@contextmanager
def quiet() -> Iterator[None]:
    """Show no bars within: those of single trainings would write over that of a search."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


@contextmanager
def measuring(title: str) -> Iterator[None]:
    """Say what is measured within, so that it shows a bar of its images: see ``images_bar``."""
    token = _title.set(title)
    try:
        yield
    finally:
        _title.reset(token)


@contextmanager
def progress_bar(
    description: str, total: int | None, done: int = 0
) -> Iterator[Callable[[str], None]]:
    """A bar of steps, some of them done; the function yielded advances it and sets its note.

    How many steps there are need not be known. Within another one it is a line below that.
    """
    with _task(description, total, done) as advance:
        yield lambda note: advance(1, note)


@contextmanager
def images_bar(count: int, size: int) -> Iterator[Callable[[int], None]]:
    """A bar of the images of a measurement; the function yielded advances it by so many.

    Args:
        count: How many images there are.
        size: How many are taken at a time; where that is all, there is nothing to show.
    """
    title = _title.get()
    if not title or count <= size:
        yield lambda images: None
        return
    with _task(title, count, 0) as advance:
        yield lambda images: advance(images, "")


@contextmanager
def _task(description: str, total: int | None, done: int) -> Iterator[Callable[[int, str], None]]:
    """One line of the display, which is begun by the first of them, and ends with it."""
    console = Console(stderr=True)
    if _quiet.get() or not console.is_terminal:
        yield lambda steps, note: None
        return
    outer = _displayed.get()
    with nullcontext(outer) if outer is not None else _display(console) as display:
        token = _displayed.set(display)
        task = display.add_task(printable(description), total=total, completed=done, note="")
        try:
            yield lambda steps, note: display.update(task, advance=steps, note=printable(note))
        finally:
            _displayed.reset(token)
            if outer is not None:
                display.remove_task(task)


def _display(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
        # Bars of single measurements would fill the screen with what is done.
        transient=bool(_title.get()),
    )
