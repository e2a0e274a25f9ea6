"""The command ``harness serve``: models behind a page and a web API."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Annotated

import typer

from harness.errors import BackendError, printable
from harness.terminal import DATA_HELP

NEEDED = ("fastapi", "uvicorn")
"""Packages of the extra ``serve``."""


def serve(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[RUN | SPEC | MODEL]",
            help="Folder of a stored run, a spec's name or .toml, or a model as `harness evaluate` "
            "takes it.",
        ),
    ] = "digits",
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where it listens; there is no login.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="0 for any that is free.")
    ] = 8000,
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", metavar="NAME", help="Of the models; may be repeated."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="NAME", help="Only this model; may be repeated."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DATA", help=f"Images for MODEL. {DATA_HELP}")
    ] = None,
) -> None:
    """Serve models to a browser and to programs; they are trained first if they are not stored."""
    absent = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if absent:
        raise BackendError(
            f"serve: {' and '.join(absent)} not installed; pip install 'robustness-harness[serve]'"
        )
    from harness.serve.api import application
    from harness.serve.models import served
    from harness.serve.server import bound, is_loopback, own_names, url_of, with_reason
    from harness.serve.server import serve as answer
    from harness.serve.work import Worker

    opened = bound(host, port)  # before a training
    found = served(what, backend or (), model or (), data)
    worker = Worker()
    local = is_loopback(opened)
    guard = application(found, worker, own_names(host, opened) if local else None)
    with_reason(lambda: opened.listen(128), host, port, opened)
    for note in found.notes:
        typer.echo(printable(note), err=True)
    if not local:
        typer.echo(
            "harness: whoever reaches this address can use the models: there is no login",
            err=True,
        )  # fmt: skip
    names = ", ".join(f"{live.name} ({live.backend})" for live in found.models.values())
    typer.echo(printable(f"{names}: {url_of(opened)} (Ctrl-C ends it)"))
    code = answer(guard, worker, opened)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # A framework takes seconds to be taken down on a busy machine, and there is nothing to be kept.
    os._exit(code)
