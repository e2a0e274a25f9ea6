"""A run at a glance, as lines of text."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from harness.records import Record, Run


def accuracy_table(run: Run) -> Table:
    """A row per backend, target and attack: clean accuracy, then the accuracy at each epsilon."""
    epsilons = sorted({r.epsilon for r in run.records if r.epsilon is not None})
    table = Table("backend", "target", "attack", title=f"accuracy ({run.spec.get('name', '')})")
    for heading in ("clean", *(f"ε={epsilon:g}" for epsilon in epsilons)):
        table.add_column(heading, justify="right")
    for backend, target, attack in _rows(run.records):
        clean = run.find((target, backend, "clean", None))
        cells = [run.find((target, backend, attack, epsilon)) for epsilon in epsilons]
        table.add_row(backend, target, attack, *map(_cell, (clean, *cells)))
    return table


def _rows(records: Iterable[Record]) -> list[tuple[str, str, str]]:
    """Backend, target and attack of each row; a clean measurement alone has a row without one."""
    rows = dict.fromkeys((r.backend, r.target, r.check) for r in records if r.epsilon is not None)
    attacked = {row[:2] for row in rows}
    clean = [(r.backend, r.target, "") for r in records if r.check == "clean"]
    return [*rows, *(row for row in clean if row[:2] not in attacked)]


def _cell(record: Record | None) -> str:
    if record is None:
        return ""
    return record.status if record.accuracy is None else f"{record.accuracy:.2%}"
