"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import BackendError
from harness.terminal import as_path


def spec_names(incomplete: str) -> list[str]:
    """The specs whose names begin so, for the completion of a shell."""
    from harness.spec.reading import spec_names as names

    return [name for name in names() if name.startswith(incomplete)]


SpecName = Annotated[
    str,
    typer.Argument(
        metavar="[SPEC]",
        help="Name of a spec of the suites, or path of a .toml.",
        autocompletion=spec_names,
    ),
]
Backends = Annotated[
    list[str] | None,
    typer.Option("--backend", metavar="NAME", help="Only this backend; may be repeated."),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Where models are computed: cpu, cuda, cuda:1 or mps."),
]
Jobs = Annotated[
    str,
    typer.Option(
        metavar="N",
        envvar="HARNESS_JOBS",
        help="Processes, of one thread each; auto: as many as there are cores.",
    ),
]
Retrain = Annotated[bool, typer.Option(help="Train the models even if they are stored.")]


RunFolder = Annotated[
    Path,
    typer.Argument(parser=as_path, metavar="RUN", help="A results folder, with run.json in it."),
]


def installed(backends: list[str] | None) -> list[str]:
    """The named backends, all of them installed; none if none is named.

    Raises:
        BackendError: One is unknown or not installed.
    """
    from harness.registry import missing

    for name in backends or []:
        if reason := missing(name):
            raise BackendError(reason)
    return backends or []
