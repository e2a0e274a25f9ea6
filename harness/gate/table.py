"""A comparison as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from rich.console import Console

from harness import terminal
from harness.gate.baseline import Baseline
from harness.gate.store import checks_told, runs_told
from harness.gate.verdicts import Comparison, Row, Verdict
from harness.terminal import numbers, plain

STYLES: Mapping[Verdict, str] = MappingProxyType(
    {"regressed": "bold red", "vanished": "bold red", "incomparable": "bold red",
     "improved": "green", "new": "cyan", "unchanged": "dim"}
)  # fmt: skip
COLUMNS = ("verdict", "check", "baseline", "run", "points", "95 % interval", "detects", "p", "why")
"""The columns of a row; ``detects`` is the smallest drop, in points, that would have failed."""
NUMBERS = ("baseline", "run", "points", "detects")
"""Those that stand beside a check in a terminal, whose lines are short."""
RUNS = 5
"""So many runs of a baseline stand side by side."""
LISTED = 40
"""So many unchanged accuracies are listed one by one; of more, a line a check sums up."""


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print how every accuracy moved, what changed first, and the outcome in one line.

    Args:
        comparison: What to show; of its unchanged rows those without an accuracy are only counted.
        console: Where to print; the standard output if None.
    """
    console = console or terminal.console()
    steady = [row for row in comparison.unchanged if row.counted]
    lines = [(cells(row), "bold red" if row.fails else STYLES[row.verdict])
             for row in comparison.worst_first]  # fmt: skip
    several = summaries(steady) if len(steady) > LISTED else [cells(row) for row in steady]
    lines += [(line, STYLES["unchanged"]) for line in several]
    if lines:
        console.print(numbers(("check", *NUMBERS), list(_rows(lines)), console.width))
        console.print(plain(comparison.bounds, "dim"))
    if comparison.compared:
        console.print(plain(f"compared: {comparison.compared}"), soft_wrap=True)
    for note in comparison.notes:
        console.print(plain(note), soft_wrap=True)
    style = "green" if comparison.passed else "red"
    # Unwrapped, so that a command in it can be copied.
    console.print(plain(comparison.message, style), soft_wrap=True)


def print_baseline(baseline: Baseline) -> None:
    """Print a baseline: its runs, and what each of them found, some at a time."""
    console = terminal.console()
    console.print(plain(f"baseline of {baseline.spec}, data {baseline.data_sha256[:12]}", "bold"))
    for told in runs_told(baseline):
        console.print(plain(told))
    heads, *checks = checks_told(baseline)
    for begin in range(2, len(heads), RUNS):
        shown = [[*row[:2], *row[begin : begin + RUNS]] for row in (heads, *checks)]
        rows = [terminal.Row(plain(name), [*map(plain, cells)]) for name, *cells in shown[1:]]
        console.print()
        console.print(numbers(shown[0], rows, console.width))


def _rows(lines: Sequence[tuple[tuple[str, ...], str]]) -> Iterator[terminal.Row]:
    """Checks under their verdicts; what explains a number stands below the name of its check."""
    last = ""
    for line, style in lines:
        row = dict(zip(COLUMNS, line, strict=True))
        if row["verdict"] != last:
            last = row["verdict"]
            yield terminal.Row(plain(last, style))
        moved = {"run": style, "points": style} if last != "unchanged" else {}
        cells = [plain(row[column], moved.get(column, "")) for column in NUMBERS]
        yield terminal.Row(plain(row["check"]), cells, plain(_about(row), "dim"), indent=2)


def _about(row: Mapping[str, str]) -> str:
    """What there is to say of a check that moved, beside its numbers."""
    said = [row["why"]]
    if row["verdict"] != "unchanged":
        said += [f"{name} {row[name]}" for name in ("95 % interval", "p") if row[name]]
    return "; ".join(filter(None, said))


def summaries(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Unchanged accuracies as a line a model and check, which spans all its epsilons."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.key[:3], []).append(row)
    lines = []
    for (model, backend, check), several in groups.items():
        if len(several) == 1:
            lines.append(cells(several[0]))
            continue
        moved = [100 * row.difference for row in several if row.difference is not None]
        ends = [100 * end for row in several for end in row.interval or ()]
        drops = [row.visible for row in several]
        known = [100 * drop for drop in drops if drop is not None]
        lines.append((
            "unchanged", f"{backend} {model} {check}, {len(several)} epsilons",
            _span([100 * row.old for row in several if row.old is not None], "{:.2f}%"),
            _span([100 * row.new for row in several if row.new is not None], "{:.2f}%"),
            _span(moved, "{:+.2f}"), _span(ends, "{:+.2f}"),
            _span(known, "{:.2f}") or several[0].detects, "",
            f"no drop is detected at {drops.count(None)}" if known and None in drops else "",
        ))  # fmt: skip
    return lines


def _span(values: Sequence[float], form: str) -> str:
    """The lowest and the highest of some values."""
    ends = dict.fromkeys(form.format(end) for end in (min(values), max(values))) if values else ()
    return " to ".join(ends)


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of ``COLUMNS``."""
    change = "" if row.difference is None else f"{100 * row.difference:+.2f}"
    interval = ""
    if row.interval is not None:
        interval = "{:+.2f} to {:+.2f}".format(*(100 * end for end in row.interval))
    p_value = "" if row.p_value is None else f"{row.p_value:.1g}"
    old, new = _side(row.old, row.old_status), _side(row.new, row.new_status)
    return row.outcome, row.label, old, new, change, interval, row.detects, p_value, row.detail


def _side(accuracy: float | None, status: str) -> str:
    """One side of a row: its accuracy in percent, or else its status."""
    return f"{accuracy:.2%}" if accuracy is not None else status or "-"
