"""A run at a glance, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from harness.errors import one_line
from harness.protocol import NormName
from harness.results import keys
from harness.results.records import Bound, Record, bound_of, bounds_told
from harness.results.run import Run
from harness.terminal import plain

NORMS: dict[NormName | None, str] = {None: "clean", "linf": "L∞", "l2": "L2"}


def note_lines(run: Run) -> list[str]:
    """What a reader should know of the numbers, a printable line each."""
    return [f"note: {one_line(note)}" for note in run.notes]


def accuracy_tables(run: Run) -> Iterator[Table]:
    """For each norm a table with a row per backend, model and attack, in percent; or certifier.

    Its columns are the clean accuracy, and the accuracy at each epsilon: an upper bound on robust
    accuracy, or of a certifier, each of which has a table of its own, a lower one, as the line
    below says; where nothing was attacked or certified, the clean accuracy alone.
    """
    swept = [record for record in run.records if record.epsilon is not None and record.norm]
    kinds = dict.fromkeys((record.norm, bound_of(record.check, 0.0)) for record in swept)
    for norm, bound in kinds:
        of = [r for r in swept if (r.norm, bound_of(r.check, 0.0)) == (norm, bound)]
        yield _table(run, of, norm, bound)
    if not kinds and any(record.check == "clean" for record in run.records):
        rest = [record for record in run.records if record.epsilon is not None]
        yield _table(run, rest, None, "upper" if rest else "exact")


def _table(run: Run, records: Sequence[Record], norm: NormName | None, bound: Bound) -> Table:
    epsilons = sorted({r.epsilon for r in records if r.epsilon is not None})
    certified = bound == "lower"
    what = "certified accuracy" if certified else "accuracy"
    title = f"{what} in % ({run.spec.get('name', '')}, {NORMS[norm]})"
    heading = "certifier" if certified else "attack"
    caption = bounds_told([bound]) or None
    table = Table("backend", "model", heading, title=plain(title), caption=caption)
    for heading in ("clean", *(f"ε={epsilon:g}" for epsilon in epsilons)):
        table.add_column(heading, justify="right")
    rows = dict.fromkeys((r.backend, r.model, r.check) for r in records)
    if not rows:
        rows = dict.fromkeys((r.backend, r.model, "") for r in run.records if r.check == "clean")
    for backend, model, check in rows:
        clean = run.find((model, backend, "clean", None))
        cells = [run.find((model, backend, check, epsilon)) for epsilon in epsilons]
        name = keys.certifier_of(check) or check
        table.add_row(*map(plain, (backend, model, name)), *map(_cell, (clean, *cells)))
    return table


def _cell(record: Record | None) -> str:
    if record is None:
        return ""
    if record.accuracy is None:
        return record.status
    success = "" if record.value is None else f" (success {100 * record.value:.2f})"
    return f"{100 * record.accuracy:.2f}{success}"
