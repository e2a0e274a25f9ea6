"""The command ``harness report``: stored runs as one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import HarnessError
from harness.terminal import as_path

if TYPE_CHECKING:
    from harness.results.run import Run


def report(
    run_folders: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=as_path,
            metavar="RUN...",
            help="Results folders; several are shown side by side.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=as_path,
            metavar="PATH",
            help="The file to write (default: report.html in the folder, or leaderboard.html).",
        ),
    ] = None,
    leaderboard: Annotated[
        bool,
        typer.Option(
            "--leaderboard",
            help="Rank all models of the runs by their worst accuracy, in place of the report.",
        ),
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(
            parser=as_path, metavar="PATH", help="Compare the runs with this baseline too."
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(
            "--backend", metavar="NAME", help="With --baseline: compare this one only; repeatable."
        ),
    ] = None,
) -> int:
    """Write the report of stored runs; nothing is rerun, and nothing judged anew."""
    from harness.files import check_writable

    folders = run_folders or [Path("results")]
    if leaderboard:
        if baseline is not None or backend:
            raise HarnessError("--leaderboard: it compares runs, with no baseline; leave that out")
        return _ranked(folders, out or Path("leaderboard.html"))
    if out is None and len(folders) > 1:
        raise HarnessError("--out: name the file to write; several runs belong to no one folder")
    if backend and baseline is None:
        raise HarnessError("--backend: says what is compared; name the baseline with --baseline")
    page = out or folders[0] / "report.html"
    if out is not None or folders[0].is_dir():
        check_writable(page, "--out")
    drawn(folders, page, baseline, backend or [])
    return 0


def report_of(folder: Path, page: Path) -> int:
    """Draw a stored run, say where the report is, and give the run's verdict as exit code."""
    (stored,) = drawn([folder], page)
    typer.echo(f"verdict: {stored.verdict}")
    return 1 if stored.verdict == "failed" else 0


def drawn(
    folders: list[Path], page: Path, baseline: Path | None = None, backends: Sequence[str] = ()
) -> list[Run]:
    """Draw stored runs on one page, say where it is, and return them."""
    from harness.gate import against
    from harness.results.run import Run
    from harness.results.search import search_beside
    from reports import render_all
    from reports.page import Source

    names = _names(folders)
    runs = [Run.load(folder) for folder in folders]
    sources = [
        Source(
            run,
            name,
            search_beside(run, folder),
            against(run, folder, baseline, backends=backends) if baseline else None,
        )
        for run, name, folder in zip(runs, names, folders, strict=True)
    ]
    typer.echo(f"report: {render_all(sources, page).resolve()}")
    return runs


def _ranked(folders: list[Path], page: Path) -> int:
    """Draw the leaderboard of stored runs, and say where it is."""
    from harness.files import check_writable
    from harness.results.run import Run
    from reports.leaderboard import Entrant, write

    check_writable(page, "--out")
    names = _names(folders)
    runs = [Entrant(Run.load(folder), name) for folder, name in zip(folders, names, strict=True)]
    typer.echo(f"leaderboard: {write(runs, page).resolve()}")
    return 0


def _names(folders: list[Path]) -> list[str]:
    """What runs are called: by the last parts of their paths, unless two share one.

    Raises:
        HarnessError: One is named twice.
    """
    where = [folder.resolve() for folder in folders]
    if twice := next((folder for folder in folders if where.count(folder.resolve()) > 1), None):
        raise HarnessError(f"{twice}: named twice; name each run once")
    last = [folder.name for folder in where]
    return last if len(set(last)) == len(last) else [str(folder) for folder in folders]
