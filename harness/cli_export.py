"""The command ``harness export``: a network of a spec as a file that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.errors import BackendError, HarnessError, printable
from harness.terminal import as_path


def export(
    out: Annotated[Path, typer.Option(parser=as_path, metavar="FILE", help="The file to write.")],
    spec: Annotated[
        str,
        typer.Argument(metavar="[SPEC]", help="Name of a spec of the suites, or path of a .toml."),
    ] = "digits",
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model of the spec, if it has several.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Backend that trains it (default: the spec's first that is there)."
        ),
    ] = None,
    form: Annotated[
        Literal["onnx", "safetensors", "keras", "pt2"] | None,
        typer.Option("--format", help="By default what the name of the file ends in."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> int:
    """Write a network of a spec to a file; it is trained first if it is not stored."""
    from harness.evaluation.exporting import export as write
    from harness.evaluation.exporting import format_of, network_in, require_writer
    from harness.evaluation.resolve import open_spec
    from harness.files import check_writable
    from harness.registry import missing

    chosen = format_of(out, form)
    check_writable(out, "--out")
    if out.exists() and not force:
        raise HarnessError(f"--out: {out} is there already; say --force to replace it")
    if backend is not None and (reason := missing(backend)):
        raise BackendError(reason)
    require_writer(chosen)
    name, trained_in, network = network_in(open_spec(spec), model, backend)
    write(network, out, chosen)
    typer.echo(printable(f"{chosen}: {name} of {trained_in}: {out.resolve()}"))
    return 0
