"""A run at a glance, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from harness.errors import one_line
from harness.protocol import NormName
from harness.results.records import Bound, Record, bound_of, bounds_told
from harness.results.run import Run
from harness.terminal import plain

HEADINGS: dict[Bound, str] = {"upper": "attack", "lower": "certifier"}
NORMS: dict[NormName | None, str] = {None: "clean", "linf": "L∞", "l2": "L2"}


def note_lines(run: Run) -> list[str]:
    """What a reader should know of the numbers, a printable line each."""
    return [f"note: {one_line(note)}" for note in run.notes]


def accuracy_tables(run: Run) -> Iterator[Table]:
    """For each norm a table with a row per backend, model, and attack or certifier, in percent.

    Its columns are the clean accuracy, and the accuracy at each epsilon, an upper bound on robust
    accuracy, or a lower one if it is certified, as the line below says; where nothing was attacked,
    the clean accuracy alone.
    """
    norms = list(dict.fromkeys(r.norm for r in run.records if r.epsilon is not None and r.norm))
    for norm in norms:
        yield _table(run, norm)
    if not norms and any(r.check == "clean" for r in run.records):
        yield _table(run, None)


def _table(run: Run, norm: NormName | None) -> Table:
    records = [r for r in run.records if r.epsilon is not None and r.norm == norm]
    epsilons = sorted({r.epsilon for r in records if r.epsilon is not None})
    title = f"accuracy in % ({run.spec.get('name', '')}, {NORMS[norm]})"
    bounds = {bound_of(record.check, record.epsilon) for record in records}
    by = " or ".join(HEADINGS[bound] for bound in ("upper", "lower") if bound in bounds)
    caption = bounds_told(bounds) or None
    table = Table("backend", "model", by or "attack", title=plain(title), caption=caption)
    for heading in ("clean", *(f"ε={epsilon:g}" for epsilon in epsilons)):
        table.add_column(heading, justify="right")
    rows = dict.fromkeys((r.backend, r.model, r.check) for r in records)
    if not rows:
        rows = dict.fromkeys((r.backend, r.model, "") for r in run.records if r.check == "clean")
    for backend, model, attack in rows:
        clean = run.find((model, backend, "clean", None))
        cells = [run.find((model, backend, attack, epsilon)) for epsilon in epsilons]
        table.add_row(*map(plain, (backend, model, attack)), *map(_cell, (clean, *cells)))
    return table


def _cell(record: Record | None) -> str:
    if record is None:
        return ""
    if record.accuracy is None:
        return record.status
    success = "" if record.value is None else f" (success {100 * record.value:.2f})"
    return f"{100 * record.accuracy:.2f}{success}"
