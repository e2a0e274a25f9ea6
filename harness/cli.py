"""The command ``harness``; the only file that knows everything.

Each command imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import inspect
import re
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated

import typer

from harness.cli_baseline import accepted
from harness.cli_evaluate import evaluate
from harness.cli_export import export
from harness.cli_init import init
from harness.cli_list import attacks, specs
from harness.cli_options import Backends, Jobs, Retrain, RunFolder, SpecName, installed
from harness.cli_report import report, report_of
from harness.cli_reproduce import reproduce
from harness.cli_run import Ended, run
from harness.errors import BackendError, HarnessError, printable
from harness.interruption import INTERRUPTED, terminable
from harness.serve.command import serve
from harness.terminal import as_path, jobs_from


def _exit(outcome: int | Ended | Path | list[Path], version: bool) -> None:
    """What a command returns is the exit code, or the folders of runs that are to be drawn."""
    if isinstance(outcome, int):
        raise typer.Exit(outcome)
    if isinstance(outcome, Ended):
        verdict = report_of(outcome.folder, outcome.folder / "report.html")
        raise typer.Exit(INTERRUPTED if outcome.code == INTERRUPTED else max(outcome.code, verdict))
    folders = [outcome] if isinstance(outcome, Path) else outcome
    raise typer.Exit(max(report_of(folder, folder / "report.html") for folder in folders))


app = typer.Typer(
    name="harness",
    result_callback=_exit,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.command()(run)
app.add_typer(accepted, name="baseline")
for command in (attacks, evaluate, export, init, report, reproduce, serve, specs):
    app.command()(command)


def _version(asked: bool) -> None:
    """Print the version, and stop."""
    if asked:
        from harness import __version__

        typer.echo(f"robustness-harness {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show it, and exit."),
    ] = False,
) -> None:
    """Measure and judge the adversarial robustness of image classifiers."""


@app.command()
def train(spec: SpecName = "digits", backend: Backends = None, retrain: Retrain = False) -> int:
    """Train the models of a spec, or find them stored, and print their validation accuracy."""
    from harness.evaluation.benchmark import Benchmark
    from harness.evaluation.resolve import open_spec
    from harness.registry import missing
    from harness.terminal import Row, console, numbers, plain

    asked = open_spec(spec)
    names = installed(backend) or [name for name in asked.backends if not missing(name)]
    if not names:
        raise BackendError("; ".join(missing(name) for name in asked.backends))
    benchmark = Benchmark(asked, retrain=retrain, together=names)
    for name in names:
        for model in benchmark.spec.trained:
            benchmark.loaded(name, model)
    rows = []
    for info in benchmark.run.models:
        best = info.history[info.best_epoch - 1]
        cells = (
            "stored" if info.cached else "trained", str(len(info.history)), str(info.best_epoch),
            f"{best.validation_accuracy:.2%}", f"{sum(e.seconds for e in info.history):.1f}",
        )  # fmt: skip
        rows.append(Row(plain(f"{info.backend} {info.model}"), [plain(cell) for cell in cells]))
    heads = ("model", "weights", "epochs", "best", "validation accuracy", "seconds")
    out = console()
    out.print(numbers(heads, rows, out.width))
    return 0


@app.command()
def search(
    spec: SpecName = "digits",
    out: Annotated[
        Path, typer.Option(parser=as_path, metavar="PATH", help="Where the results go.")
    ] = Path("results"),
    backend: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Backend that trains (default: the spec's first)."),
    ] = None,
    jobs: Jobs = "auto",
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A database that several machines share, for Optuna."),
    ] = None,
) -> int:
    """Try every point of the spec's grid, judged by validation images; started again, go on."""
    from harness.evaluation.resolve import open_spec
    from harness.results.search import BEST
    from harness.search import require_installed

    require_installed()
    from harness.search.search import first_backend
    from harness.search.search import search as search_grid
    from harness.search.table import print_search

    parsed = open_spec(spec)
    name = backend or first_backend(parsed)
    try:
        result = search_grid(parsed, name, out, storage=storage, jobs=jobs_from(jobs))
    except KeyboardInterrupt:
        typer.echo("harness: stopped; the same command goes on from here", err=True)
        return INTERRUPTED
    print_search(result)
    typer.echo(f"best spec: {(out / BEST).resolve()}")
    return 0


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="Name of a dataset.")] = "mnist",
) -> int:
    """Find a dataset's files or download them, verify them, and say where they are."""
    from harness.data import prepare

    paths = prepare(name)
    for path in paths:
        typer.echo(path)
    if not paths:
        typer.echo(f"{name}: comes with the installed packages; there is nothing to download")
    return 0


@app.command()
def gate(
    run_folder: RunFolder,
    baseline: Annotated[
        Path,
        typer.Option(
            parser=as_path,
            metavar="PATH",
            help="A folder of baselines (the newest counts) or one.",
        ),
    ],
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", metavar="NAME", help="Compare this one only; may be repeated."),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(help="Accuracy that may be lost, as a fraction, instead of the spec's."),
    ] = None,
    markdown: Annotated[
        str, typer.Option(metavar="FILE", help="Write a summary as Markdown; - is the output.")
    ] = "",
    junit: Annotated[
        Path | None,
        typer.Option(parser=as_path, metavar="FILE", help="Write the verdicts as JUnit XML."),
    ] = None,
) -> int:
    """Compare a stored run with a baseline; exit code 1 if something got worse or vanished."""
    from harness.files import check_writable
    from harness.gate import gate as compare_with
    from harness.gate.baseline import write
    from harness.gate.junit import as_junit
    from harness.gate.markdown import as_markdown
    from harness.gate.table import print_comparison
    from harness.terminal import console

    if junit is not None:
        check_writable(junit, "--junit")
    if markdown not in ("", "-"):
        check_writable(Path(markdown), "--markdown")
    comparison = compare_with(run_folder, baseline, tolerance=tolerance, backends=backend or ())
    if junit is not None:
        write(junit, as_junit(comparison))
    if markdown and markdown != "-":
        write(Path(markdown), as_markdown(comparison))
    if markdown == "-":
        typer.echo(as_markdown(comparison), nl=False)
    # With Markdown on the output, the table goes to standard error.
    print_comparison(comparison, console(stderr=markdown == "-"))
    return 0 if comparison.passed else 1


for of in (*app.registered_commands, *accepted.registered_commands):
    # A paragraph of a docstring fills its lines, which typer would keep as they are written.
    of.help = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(of.callback) or "")


def main() -> None:
    """Run the command; a wrong request is one line on standard error, and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a sign shows its number.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with terminable() as signals:
        try:
            app()
        except HarnessError as error:
            typer.echo(f"harness: {error}", err=True)
            sys.exit(2)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            typer.echo(f"harness: {printable(f'{where}{error.strerror or error}')}", err=True)
            sys.exit(2)
        except SystemExit as end:
            sys.exit(signals.code(end.code))
