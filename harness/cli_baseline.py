"""The commands ``harness baseline``: runs that the gate compares with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli_options import RunFolder
from harness.errors import HarnessError
from harness.interruption import INTERRUPTED
from harness.terminal import as_path

if TYPE_CHECKING:
    from harness.results.run import Run


accepted = typer.Typer(
    no_args_is_help=True, help="Accept runs as the baselines that the gate compares with."
)
BaselinePath = Annotated[
    Path | None,
    typer.Option(
        parser=as_path,
        metavar="PATH",
        help="Folder of baselines (default: baselines/SPEC, or suites/baselines/SPEC).",
    ),
]


@accepted.command("accept")
def baseline_accept(
    run_folder: RunFolder,
    baseline: BaselinePath = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask; needed where there is no terminal.")
    ] = False,
) -> int:
    """Show what changes, and make a run the new baseline, under the next number."""
    from harness.gate import store
    from harness.results.run import Run

    run = Run.load(run_folder)
    path = baseline or store.default_path(run)
    if store.locate(path) is not None and not _agreed(run, path, run_folder, yes=yes):
        typer.echo("nothing was accepted")
        return 1
    return _told("accepted", store.accept(run, path))


@accepted.command("add")
def baseline_add(run_folder: RunFolder, baseline: BaselinePath = None) -> int:
    """Add a run of retrained models to the current baseline, which then holds their spread."""
    from harness.gate import store
    from harness.results.run import Run

    run = Run.load(run_folder)
    return _told("added", store.add(run, baseline or store.default_path(run)))


@accepted.command("show")
def baseline_show(
    baseline: Annotated[
        Path,
        typer.Argument(parser=as_path, metavar="PATH", help="A folder of baselines, or one."),
    ],
) -> int:
    """Print a baseline as a table."""
    from harness.gate import store
    from harness.gate.table import print_baseline

    print_baseline(store.read(baseline))
    return 0


@accepted.command("power")
def baseline_power(
    checks: Annotated[int, typer.Option(min=1, help="How many checks are compared.")] = 30,
    tolerance: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Accuracy that may be lost, as a fraction.")
    ] = 0.005,
    gates: Annotated[
        int, typer.Option(metavar="N", min=0, help="Simulate so many gates of retrained models.")
    ] = 0,
    seeds: Annotated[
        int, typer.Option(metavar="K", min=1, help="With --gates: runs in the baseline.")
    ] = 3,
    images: Annotated[
        int, typer.Option(metavar="M", min=1, help="With --gates: images of each check.")
    ] = 1000,
) -> int:
    """Print which drop the gate detects, by number of images and share of changed outcomes.

    With --gates, simulate gates against several seeds: false alarms, and drops that are caught.
    """
    from harness.gate.power import power_table, simulated_tables
    from harness.terminal import console

    if gates:
        for table in simulated_tables(gates, seeds, checks, images, tolerance):
            console().print(table)
        return 0
    console().print(power_table(checks, tolerance))
    return 0


def _agreed(run: Run, path: Path, folder: Path, *, yes: bool) -> bool:
    """Show what replacing a baseline changes, and ask.

    Raises:
        HarnessError: There is no terminal to ask on, and ``--yes`` is not given.
        RunError: The run may not become a baseline, or the present one is damaged.
    """
    from harness.gate import changed_by, store
    from harness.gate.table import print_comparison

    found = store.locate(path)
    store.check(run)
    comparison = changed_by(run, path)
    typer.echo(f"the run beside {found}, which it is to follow:")
    if isinstance(comparison, str):
        typer.echo(comparison)
    else:
        print_comparison(comparison)
    if yes:
        return True
    if not sys.stdin.isatty():
        again = store.command("accept", folder, path)
        raise HarnessError(
            f"{found}: accepting would replace it, and there is no terminal to ask on; "
            f"to accept all the same: `{again} --yes`"
        )
    try:
        return typer.confirm("Accept the run as the new baseline?")
    except typer.Abort as end:
        if not isinstance(end.__context__, KeyboardInterrupt):  # the end of the input is a no
            return False
        typer.echo("\nnothing was accepted", err=True)
        raise typer.Exit(INTERRUPTED) from end


def _told(how: Literal["accepted", "added"], written: Path) -> int:
    """Say where a baseline was written."""
    typer.echo(f"{how}: {written} (review {written.with_suffix('.txt')})")
    return 0
