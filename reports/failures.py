"""What did not pass, grouped by its cause, each with the way to its evidence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import tables
from reports.formats import check_words, number, radius, spread, threshold, words

BELOW = "Less accurate than expected"
ABOVE = "More accurate than expected"
"""Under an attack: it is likely to be broken."""
CAUSES = (BELOW, ABOVE)
SHOWN = 6
"""Checks of one cause that are seen at once; those of more are opened on demand."""


@dataclass(frozen=True)
class Judged:
    """A judged check of one model, in the backends in which it came out alike.

    Attributes:
        what: The check in words, with its epsilon.
        model: The model's name.
        backends: Where.
        found: The accuracy, or the accuracies between which the backends' lie; empty for none.
        wanted: What passes; empty where no range does.
        status: How it came out.
        reason: Why, in the words of the first backend.
        anchor: The id of the evidence; empty where the reason is all that there is.
        rows: The measurements.
    """

    what: str
    model: str
    backends: str
    found: str
    wanted: str
    status: str
    reason: str
    anchor: str
    rows: tuple[Any, ...]


@dataclass(frozen=True)
class Cause:
    """Checks that did not pass, for one and the same reason."""

    status: str
    reason: str
    checks: list[Judged]

    def added(self, one: Judged) -> str:
        """What the reason of one of its checks says beyond the cause; empty where that is all."""
        return "" if one.reason == self.reason or self.reason in CAUSES else one.reason


def alike(rows: Iterable[Any]) -> list[Judged]:
    """Judged measurements, those of a model's backends together that came out alike."""
    together: dict[tuple[object, ...], list[Any]] = {}
    for row in rows:
        # NaN is not equal to itself, so epsilon is compared as it is written.
        key = (row.model, row.check, number(row.epsilon), row.status, row.threshold)
        together.setdefault(key, []).append(row)
    return [_judged(tuple(found)) for found in together.values()]


def causes_of(frame: pd.DataFrame) -> list[Cause]:
    """What failed, broke or was skipped; of accuracies out of their range, below and above."""
    found: dict[tuple[str, str], list[Any]] = {}
    for status in tables.CONCERNS:
        for row in tables.rows_of(frame[frame["status"] == status]):
            found.setdefault((status, _cause(row)), []).append(row)
    order = {key: place for place, key in enumerate(found)}
    ranked = sorted(
        found.items(),
        key=lambda item: (tables.CONCERNS.index(item[0][0]), item[0][1] not in CAUSES,
                          order[item[0]]),
    )  # fmt: skip
    return [Cause(status, reason, alike(rows)) for (status, reason), rows in ranked]


def anchor_of(row: Any) -> str:
    """The id of a measurement's row or cell in a table of the page."""
    return f"record-{row.Index}"


def _cause(row: Any) -> str:
    low, high = _ends(row)
    if row.status == "failed" and row.accuracy == row.accuracy:
        if low is not None and row.accuracy < low:
            return BELOW
        if high is not None and row.accuracy > high:
            return ABOVE
    if str(row.check).startswith(tables.SANITY):
        return f"Saliency maps fail the check of {words(str(row.check).rpartition('/')[2])}"
    return str(row.reason)


def _ends(row: Any) -> tuple[float | None, float | None]:
    return row.threshold if isinstance(row.threshold, tuple) else (None, None)


def _judged(rows: Sequence[Any]) -> Judged:
    first = rows[0]
    shares = [row.accuracy for row in rows if row.accuracy == row.accuracy]
    what = check_words(first.check)
    if first.epsilon == first.epsilon:
        what += f" ε = {radius(first.epsilon)}"
    shown = bool(shares) or first.status == "failed"
    return Judged(
        what, first.model, ", ".join(row.backend for row in rows if row.backend),
        spread(min(shares), max(shares)) if shares else "",
        threshold(first.threshold) if isinstance(first.threshold, tuple) else "",
        first.status, str(first.reason), anchor_of(first) if shown else "", tuple(rows),
    )  # fmt: skip
