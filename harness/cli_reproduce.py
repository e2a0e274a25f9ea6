"""The command ``harness reproduce``: published tables, measured again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import SpecError, one_line, printable
from harness.interruption import INTERRUPTED
from harness.terminal import as_path

if TYPE_CHECKING:
    from harness.evaluation.published import Reproduction
    from harness.results.published import Outcome
    from harness.results.records import Record
    from harness.spec.published import NumberSpec, Table
    from harness.terminal import Row

HEADS = ("number", "published", "measured", "images", "passes", "seconds")
INTERVALS = (
    "Below each accuracy: its 95 % Wilson interval. Accuracy under attack is an upper bound on "
    "robust accuracy, a certified one a lower bound."
)


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="A table of suites/published, the path of a .toml, or a folder of these; "
            "without it they are listed.",
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Attack and certify N test images only."),
    ] = None,
    only: Annotated[
        str, typer.Option(metavar="NAME,...", help="Only these numbers, such as clean,pgd-40.")
    ] = "",
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="In which networks are built (default: the first installed)."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=as_path,
            metavar="DIR",
            help="Where run and report go (default: results/published/NAME).",
        ),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the tables, and stop.")] = False,
) -> list[Path] | int:
    """Measure a published table again, and say of each number whether it is reproduced.

    Exit code 1 if one is not. A stronger attack or a tighter certificate than the published one is
    no failure. What has been measured in an earlier call is not measured again.
    """
    from harness.data import require_data
    from harness.evaluation.published import require_files
    from harness.files import check_folder
    from harness.spec.published import load_table, table_paths

    paths = table_paths(name)
    tables = [load_table(path).of_first(images) for path in paths]
    if name is None or listed:
        _list(tables)
        return 0
    wanted = [one for one in map(str.strip, only.split(",")) if one]
    _require_distinct(paths, tables)
    chosen = [table.chosen(wanted) for table in tables]
    folders = [_folder(out, table, len(tables)) for table in tables]
    for table, folder in zip(tables, folders, strict=True):
        require_files(table)
        require_data(table.spec.data, table.spec.home)
        check_folder(folder, "--out")
    for table, numbers, folder in zip(tables, chosen, folders, strict=True):
        try:
            _reproduced(table, numbers, folder, backend)
        except KeyboardInterrupt as stop:
            typer.echo("harness: stopped; the same command goes on from here", err=True)
            raise typer.Exit(INTERRUPTED) from stop
    return folders


def _require_distinct(paths: list[Path], tables: list[Table]) -> None:
    """Refuse tables of one name: the run of one would take the place of the other's.

    Raises:
        SpecError: Two have one.
    """
    for name, count in Counter(table.name for table in tables).items():
        if count > 1:
            pairs = zip(paths, tables, strict=True)
            files = ", ".join(str(path) for path, table in pairs if table.name == name)
            raise SpecError(
                one_line(f"{count} of the tables are called {name}: {files}; name each otherwise")
            )


def _folder(out: Path | None, table: Table, count: int) -> Path:
    if out is None:
        return Path("results") / "published" / table.name
    return out if count == 1 else out / table.name


def _list(tables: list[Table]) -> None:
    """What there is, and whether it can be measured here."""
    from harness.evaluation.published import missing_files
    from harness.terminal import listed

    rows = []
    for table in tables:
        missing = [reason for _, reason in missing_files(table)]
        rows += [
            (table.name, f"{table.paper.authors} {table.paper.year}: {table.paper.title}"),
            ("", f"numbers: {', '.join(number.label for number in table.numbers)}"),
            ("", f"data: {table.spec.data.told}; weights: {'; '.join(missing) or 'found'}"),
        ]
    listed(("table", "what is published"), rows, "harness reproduce TABLE")


def _reproduced(
    table: Table, chosen: tuple[NumberSpec, ...], folder: Path, backend: str | None
) -> None:
    """Measure the numbers of one table, print each as it is known, and the table at the end."""
    from harness.evaluation.published import Reproduction
    from harness.terminal import console, numbers, plain

    began = time.perf_counter()
    reproduction = Reproduction(table, folder, backend)
    outcomes: list[Outcome] = []
    for number in chosen:
        outcomes.append(reproduction.measured(number))
        line = f"{table.name}: {number.label}: {outcomes[-1].said}"
        typer.echo(printable(line), err=True)
    reproduction.finish()
    out = console()
    paper = f"{table.paper.authors} {table.paper.year}"
    out.print(plain(f"{table.name}: {paper}, accuracies in %", "bold"))
    out.print(numbers(HEADS, list(_rows(reproduction, outcomes)), out.width))
    for note in _small_print(table, outcomes):
        out.print(plain(note))
    failed = sum(outcome.failed for outcome in outcomes)
    took = time.perf_counter() - began
    typer.echo(
        f"{table.name}: {len(outcomes) - failed} of {len(outcomes)} numbers hold, {took:.0f} s"
    )


def _rows(reproduction: Reproduction, outcomes: list[Outcome]) -> Iterator[Row]:
    """Published beside measured, with intervals, and the verdict below the name."""
    from harness.results.published import interval
    from harness.terminal import Row, plain

    several = len(reproduction.table.spec.models) > 1
    for outcome in outcomes:
        number, seconds = outcome.number, reproduction.seconds(outcome)
        cells = (
            _percent(number.percent / 100, *interval(number)), *_measured(outcome.record),
            "" if seconds is None else f"{seconds:.0f}",
        )  # fmt: skip
        yield Row(
            plain(f"{number.model} {number.label}" if several else number.label),
            [plain(cell) for cell in cells],
            plain(outcome.said, "red" if outcome.failed else "green"),
        )


def _small_print(table: Table, outcomes: list[Outcome]) -> list[str]:
    """What the numbers are, and where budgets and images are fewer than the paper's."""
    lines = [INTERVALS]
    for outcome in outcomes:
        number, total = outcome.number, outcome.record.total
        budget = f" ({number.budget})" if number.budget else ""
        smaller = f"; here: {number.smaller}" if number.smaller else ""
        fewer = ""
        if total is not None and total < number.images:
            fewer = f"; here: {total} of {number.images} images"
        lines.append(f"{number.label}: {number.source}{budget}{smaller}{fewer}")
    return lines


def _measured(record: Record) -> tuple[str, str, str]:
    """Accuracy, images, and the passes that each took."""
    if record.accuracy is None or record.ci_low is None or record.ci_high is None:
        return "", "", ""
    passes = None if record.forwards is None else record.forwards + (record.backwards or 0.0)
    told = _percent(record.accuracy, record.ci_low, record.ci_high)
    return told, str(record.total), "" if passes is None else f"{passes:.0f}"


def _percent(share: float, low: float, high: float) -> str:
    return f"{100 * share:.2f} {100 * low:.2f}–{100 * high:.2f}"
