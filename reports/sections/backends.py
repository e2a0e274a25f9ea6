"""The section that compares backends: the same model, trained in each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.results import keys
from harness.results.run import Run
from reports import stored, tables
from reports.section import Section
from reports.stored import Pair
from reports.view import RunView


@dataclass(frozen=True)
class Check:
    """One measurement of a model, in every backend.

    Attributes:
        name: ``clean``, the attack's name, or ``certified/`` and the certifier's.
        epsilon: Its radius, or None.
        cells: The measurement in each backend; None where there is none.
        spread: The largest difference of the accuracies.
        agreement: The share of images that all backends classify correctly or all misclassify, of
            those that all answer; None where that is not stored.
    """

    name: str
    epsilon: float | None
    cells: list[Any | None]
    spread: float
    agreement: float | None


@dataclass(frozen=True)
class Across:
    """One model in several backends."""

    model: str
    backends: list[str]
    checks: list[Check]


def across(run: Run, frame: pd.DataFrame, order: Sequence[Pair]) -> list[Across]:
    """Each model that was measured in more than one backend: clean, and under each attack."""
    measured = tables.accuracies(frame)
    found = []
    for model in dict.fromkeys(pair.model for pair in order):
        pairs = [pair for pair in order if pair.model == model]
        cells: dict[tuple[str, float | None], dict[str, Any]] = {}
        for row in tables.rows_of(measured[measured["model"] == model]):
            epsilon = None if math.isnan(row.epsilon) else float(row.epsilon)
            cells.setdefault((row.check, epsilon), {})[row.backend] = row
        checks = [
            _check(run, pairs, name, epsilon, by_backend)
            # Clean accuracy first, whatever the order in which they were measured.
            for (name, epsilon), by_backend in sorted(
                cells.items(), key=lambda c: c[0][1] is not None
            )
            if len(by_backend) > 1
        ]
        if checks:
            found.append(Across(model, [pair.backend for pair in pairs], checks))
    return found


def _check(
    run: Run, pairs: Sequence[Pair], name: str, epsilon: float | None, by_backend: dict[str, Any]
) -> Check:
    shares = [row.accuracy for row in by_backend.values()]
    return Check(
        name, epsilon, [by_backend.get(pair.backend) for pair in pairs],
        max(shares) - min(shares), _agreement(run, pairs, keys.at(name, epsilon)),
    )  # fmt: skip


def _agreement(run: Run, pairs: Sequence[Pair], check: str) -> float | None:
    labels = stored.labels_of(run)
    predictions = [stored.predictions_of(run, pair, check) for pair in pairs]
    known = [found for found in predictions if found is not None]
    if labels is None or len(known) < len(pairs):
        return None
    both = np.all([found != stored.UNANSWERED for found in known], axis=0)
    if not both.any():
        return None
    right = np.array([found == labels for found in known])[:, both]
    return float((right == right[0]).all(axis=0).mean())


def _content(view: RunView) -> dict[str, Any] | None:
    found = across(view.run, view.frame, view.order)
    return {"across": found} if found else None


SECTION = Section("backends", "Across backends", place=110, content=_content, rank=80, folded=True)
