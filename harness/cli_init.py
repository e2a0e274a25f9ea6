"""The command ``harness init``: spec, baselines and a job of continuous integration, written."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.terminal import DATA_HELP, MODEL_HELP, as_path


def init(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP)],
    folder: Annotated[
        Path, typer.Option(parser=as_path, metavar="PATH", help="Of the repository.")
    ] = Path(),
    ci: Annotated[
        Literal["github", "gitlab"], typer.Option(help="Whose job of CI is written.")
    ] = "github",
    bounds: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="Range of the pixels.")
    ] = (0.0, 1.0),
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="HEIGHT WIDTH", help="Size to which images of a folder are brought."),
    ] = None,
) -> int:
    """Write robustness.toml, a folder for baselines, .gitignore and a CI job for a repository.

    Model and images are looked at, so that the spec fits them; nothing is asked or replaced.
    """
    from harness.evaluation.starter import Starter, written

    found = Starter.of(model, data, folder, ci, bounds, size)
    for path, what in written(found):
        typer.echo(f"{what}: {path}")
    typer.echo("next: harness run robustness.toml")
    typer.echo("then: harness baseline accept results")
    return 0
