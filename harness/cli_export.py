"""The command ``harness export``: networks of a spec as files that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harness.errors import BackendError, printable
from harness.terminal import as_path


def export(
    out: Annotated[
        Path,
        typer.Option(
            parser=as_path, metavar="PATH", help="The file to write; of tfjs it is a folder."
        ),
    ],
    spec: Annotated[
        str,
        typer.Argument(metavar="[SPEC]", help="Name of a spec of the suites, or path of a .toml."),
    ] = "digits",
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Model of the spec, if it has several; a playground may have two of them.",
        ),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Backend that trains it (default: the spec's first that is there)."
        ),
    ] = None,
    form: Annotated[
        Literal["onnx", "safetensors", "keras", "pt2", "tfjs", "playground"] | None,
        typer.Option("--format", help="By default what the name of the file ends in."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> int:
    """Write a network of a spec to a file; it is trained first if it is not stored."""
    from harness.evaluation.benchmark import Benchmark
    from harness.evaluation.exporting import (
        check_out,
        export_playground,
        format_of,
        networks_in,
        require_writer,
    )
    from harness.evaluation.exporting import export as write
    from harness.evaluation.resolve import open_spec
    from harness.registry import missing

    chosen = format_of(out, form)
    check_out(out, chosen, force)
    if backend is not None and (reason := missing(backend)):
        raise BackendError(reason)
    require_writer(chosen)
    benchmark = Benchmark(open_spec(spec))
    networks = networks_in(benchmark, model or [], backend, chosen)
    if chosen == "playground":
        export_playground(benchmark, networks, out)
    else:
        write(networks[0][2], out, chosen)
    told = ", ".join(f"{name} of {trained_in}" for name, trained_in, _ in networks)
    typer.echo(printable(f"{chosen}: {told}: {out.resolve()}"))
    return 0
