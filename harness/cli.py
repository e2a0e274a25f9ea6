"""The command ``harness``; the only file that knows everything.

Each command imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli_baseline import RunFolder, accepted
from harness.cli_evaluate import evaluate
from harness.cli_export import export
from harness.cli_init import init
from harness.cli_reproduce import reproduce
from harness.errors import BackendError, HarnessError, printable
from harness.interruption import INTERRUPTED, terminable
from harness.serve.command import serve
from harness.terminal import as_path, jobs_from

if TYPE_CHECKING:
    from harness.results.run import Run


def _exit(outcome: int | Path | list[Path]) -> None:
    """What a command returns is the exit code, or the folders of runs that are to be drawn."""
    if isinstance(outcome, int):
        raise typer.Exit(outcome)
    folders = [outcome] if isinstance(outcome, Path) else outcome
    raise typer.Exit(max(_report_of(folder, folder / "report.html") for folder in folders))


app = typer.Typer(
    name="harness",
    result_callback=_exit,
    help="Measure and judge the adversarial robustness of image classifiers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(accepted, name="baseline")
app.command()(evaluate)
app.command()(export)
app.command()(init)
app.command()(reproduce)
app.command()(serve)

SpecName = Annotated[
    str, typer.Argument(metavar="[SPEC]", help="Name of a spec of the suites, or path of a .toml.")
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


@app.command()
def run(
    spec: SpecName = "digits",
    out: Annotated[
        Path,
        typer.Option(parser=as_path, metavar="PATH", help="Where the run and its report go."),
    ] = Path("results"),
    backend: Backends = None,
    select: Annotated[
        str, typer.Option("-k", metavar="EXPRESSION", help="Only tests that match, as in pytest.")
    ] = "",
    jobs: Jobs = "auto",
    cluster: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Workers of a cluster in place of jobs: tcp://scheduler:8786 of Dask, local:4, or "
            "an executor of another package.",
        ),
    ] = "",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure everything, whatever is stored in the folder.")
    ] = False,
    retrain: Retrain = False,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Seed of the trainings, instead of the spec's.")
    ] = None,
    device: Device = None,
) -> int:
    """Train or load the models, run the suites, and write run.json and report.html.

    What is finished is kept: the same command in the same folder goes on from there, and measures
    only what is missing or changed.
    """
    import pytest

    from harness.data import require_data
    from harness.evaluation.resolve import open_spec
    from harness.files import check_folder
    from harness.spec.reading import suites_folder
    from harness.testing.measuring import Request
    from harness.testing.session import REFUSED

    # What is wrong with the request is said once and at once, not by every test.
    backends = _checked(backend)
    request = Request(cluster or f"jobs:{jobs_from(jobs)}", fresh)
    asked = open_spec(spec, seed)
    require_data(asked.data, asked.home)
    check_folder(out, "--out")
    suites = suites_folder()
    arguments = [str(suites), "-c", str(suites / "pytest.ini"), "--rootdir", str(suites)]
    # An installed suite has no place for a cache of its own.
    arguments += ["-p", "no:cacheprovider"]
    # By their long names, which no other plugin claims.
    arguments += ["--robustness-spec", spec, "--robustness-results", str(out)]
    arguments += [f"--robustness-backend={name}" for name in backends]
    arguments += ["-k", select] if select else []
    arguments += ["--robustness-retrain"] if retrain else []
    arguments += [f"--robustness-seed={seed}"] if seed is not None else []
    arguments += [f"--robustness-device={device}"] if device is not None else []
    before = _written(out)
    code = pytest.main(arguments, plugins=[request])
    if request.refused is not None:
        raise request.refused
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise HarnessError(f"-k {select}: no test of the suites matches")
    if code in (REFUSED, pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.INTERNAL_ERROR):
        return 2
    interrupted = code == pytest.ExitCode.INTERRUPTED
    if interrupted and _written(out) == before:
        typer.echo("harness: stopped before anything was measured", err=True)
        return INTERRUPTED
    # Also drawn when interrupted: what was measured until then is kept.
    verdict = _report_of(out, out / "report.html")
    return INTERRUPTED if interrupted else max(int(code), verdict)


@app.command()
def train(spec: SpecName = "digits", backend: Backends = None, retrain: Retrain = False) -> int:
    """Train the models of a spec, or find them stored, and print their validation accuracy."""
    from rich.console import Console
    from rich.table import Table

    from harness.evaluation.benchmark import Benchmark
    from harness.evaluation.resolve import open_spec
    from harness.registry import missing
    from harness.terminal import plain

    asked = open_spec(spec)
    names = _checked(backend) or [name for name in asked.backends if not missing(name)]
    if not names:
        raise BackendError("; ".join(missing(name) for name in asked.backends))
    benchmark = Benchmark(asked, retrain=retrain, together=names)
    for name in names:
        for model in benchmark.spec.trained:
            benchmark.loaded(name, model)
    table = Table("backend", "model", "weights", "epochs", "best", "validation accuracy", "seconds")
    for info in benchmark.run.models:
        best = info.history[info.best_epoch - 1]
        table.add_row(
            plain(info.backend), plain(info.model), "stored" if info.cached else "trained",
            str(len(info.history)), str(info.best_epoch), f"{best.validation_accuracy:.2%}",
            f"{sum(epoch.seconds for epoch in info.history):.1f}",
        )  # fmt: skip
    Console().print(table)
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
            help="The file to write (default: report.html in the folder).",
        ),
    ] = None,
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
    if out is None and len(folders) > 1:
        raise HarnessError("--out: name the file to write; several runs belong to no one folder")
    if backend and baseline is None:
        raise HarnessError("--backend: says what is compared; name the baseline with --baseline")
    page = out or folders[0] / "report.html"
    if out is not None or folders[0].is_dir():
        check_writable(page, "--out")
    _drawn(folders, page, baseline, backend or [])
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
    from rich.console import Console

    from harness.files import check_writable
    from harness.gate import gate as compare_with
    from harness.gate.baseline import write
    from harness.gate.junit import as_junit
    from harness.gate.markdown import as_markdown
    from harness.gate.table import MARGIN, print_comparison

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
    width = max(MARGIN, Console().width)
    print_comparison(comparison, Console(stderr=markdown == "-", width=width))
    return 0 if comparison.passed else 1


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


def _written(folder: Path) -> tuple[int, int] | None:
    """What tells whether a folder's run has been written anew."""
    try:
        found = (folder / "run.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _report_of(folder: Path, page: Path) -> int:
    """Draw a stored run, say where the report is, and give the run's verdict as exit code."""
    (stored,) = _drawn([folder], page)
    typer.echo(f"verdict: {stored.verdict}")
    return 1 if stored.verdict == "failed" else 0


def _drawn(
    folders: list[Path], page: Path, baseline: Path | None = None, backends: Sequence[str] = ()
) -> list[Run]:
    """Draw stored runs on one page, say where it is, and return them."""
    from harness.gate import against
    from harness.results.run import Run
    from harness.results.search import search_beside
    from reports import render_all
    from reports.page import Source

    where = [folder.resolve() for folder in folders]
    if twice := next((folder for folder in folders if where.count(folder.resolve()) > 1), None):
        raise HarnessError(f"{twice}: named twice; name each run once")
    runs = [Run.load(folder) for folder in folders]
    last = [folder.name for folder in where]
    # By the last part of the path, unless two share it.
    names = last if len(set(last)) == len(last) else [str(folder) for folder in folders]
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


def _checked(backends: list[str] | None) -> list[str]:
    """The named backends, all of them installed.

    Raises:
        BackendError: One is unknown or not installed.
    """
    from harness.registry import missing

    for name in backends or []:
        if reason := missing(name):
            raise BackendError(reason)
    return backends or []
