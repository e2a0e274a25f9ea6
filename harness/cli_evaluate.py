"""The command ``harness evaluate``: one model on one set of images, without a spec."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from harness.errors import HarnessError, one_line, printable
from harness.interruption import INTERRUPTED
from harness.terminal import DATA_HELP, MODEL_HELP, as_path

Attacks = Annotated[
    list[str] | None, typer.Option("--attack", metavar="NAME", help="An attack; may be repeated.")
]
Certifiers = Annotated[
    list[str] | None,
    typer.Option(
        "--certifier", metavar="NAME", help="A certifier, such as crown; may be repeated."
    ),
]
Epsilons = Annotated[
    list[str] | None,
    typer.Option(
        "--epsilon", metavar="E", help="A radius in pixel units, as 0.1 or 8/255; may be repeated."
    ),
]
Suites = Annotated[
    list[str] | None,
    typer.Option(
        "--suite",
        metavar="NAME",
        help="attacks (default), validity, saliency or minimal; may be repeated.",
    ),
]


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_HELP)],
    data: Annotated[str, typer.Option(metavar="DATA", help=DATA_HELP)],
    attack: Attacks = None,
    certifier: Certifiers = None,
    epsilon: Epsilons = None,
    suite: Suites = None,
    name: Annotated[str, typer.Option(help="What the records call the model.")] = "model",
    bounds: Annotated[
        tuple[float, float], typer.Option(metavar="LOW HIGH", help="Range of the pixels.")
    ] = (0.0, 1.0),
    outputs: Annotated[
        Literal["auto", "logits", "probabilities"],
        typer.Option(help="What the network returns."),
    ] = "auto",
    output: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which of several outputs are the logits.")
    ] = None,
    mean: Annotated[
        list[float] | None,
        typer.Option(metavar="X", help="Mean of a channel, by which images are normalised."),
    ] = None,
    std: Annotated[
        list[float] | None,
        typer.Option(metavar="X", help="Standard deviation of a channel, likewise."),
    ] = None,
    channel_axis: Annotated[
        int | None, typer.Option(metavar="N", help="Axis of an image that holds its channels.")
    ] = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="HEIGHT WIDTH", help="Size to which images of a folder are brought."),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="cpu, cuda, cuda:1 or mps.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Images at a time.")
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In which the network of an .onnx file is built."),
    ] = None,
    out: Annotated[
        Path, typer.Option(parser=as_path, metavar="PATH", help="Where run and report go.")
    ] = Path("results"),
) -> Path:
    """Measure one model on one set of images; the run is saved after each measurement."""
    from harness.evaluation.api import InterruptedRun
    from harness.evaluation.api import evaluate as measured
    from harness.evaluation.named import dataset_from, layout_for
    from harness.evaluation.wrapping import wrap
    from harness.files import check_folder

    check_folder(out, "--out")
    radii = [radius_of(one) for one in epsilon or []]
    if (mean is None) != (std is None):
        raise HarnessError("--mean and --std: give both, or none")
    asked = wrap(
        model, bounds, outputs, output=output, channel_axis=channel_axis,
        preprocessing=None if mean is None else {"mean": mean, "std": std},
        device=device, batch_size=batch_size, backend=backend,
    )  # fmt: skip
    dataset = dataset_from(data, bounds, size, layout_for(asked, data, channel_axis))
    chosen: dict[str, Any] = {"epsilons": radii} if radii else {}
    try:
        measured(
            asked, dataset, attacks=attack or None, certifiers=certifier, name=name,
            suites=suite or ("attacks",), out=out, **chosen,
        )  # fmt: skip
    except InterruptedRun as stop:
        typer.echo(
            f"harness: interrupted; what was measured is kept ({len(stop.run.records)} records in "
            f"{printable(str(out))}), in a run that did not finish: `harness report` draws it",
            err=True,
        )
        raise typer.Exit(INTERRUPTED) from stop
    return out


def radius_of(text: str) -> float:
    """A radius that is written as 0.1 or as 8/255.

    Raises:
        HarnessError: It is no such number.
    """
    above, slash, below = text.partition("/")
    try:
        radius = float(above) / float(below) if slash else float(above)
    except (ValueError, ZeroDivisionError):
        radius = math.nan
    if not math.isfinite(radius):
        raise HarnessError(one_line(f"--epsilon: {text!r} is no number, such as 0.1 or 8/255"))
    return radius
