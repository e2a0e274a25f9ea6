"""The section on the accuracy of each class under attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.results import keys
from harness.results.run import Run
from reports import stored
from reports.section import Section
from reports.stored import IntArray, Pair
from reports.view import RunView


@dataclass(frozen=True)
class PerClass:
    """Accuracy by class and epsilon.

    Attributes:
        pair: Which model.
        epsilons: The columns; 0 stands for clean images.
        rows: Per class its name, its number of images, and its accuracies; None without images.
    """

    pair: Pair
    epsilons: list[float]
    rows: list[tuple[str, int, list[float | None]]]


def per_class_of(run: Run, pair: Pair, attack: str, epsilons: Sequence[float]) -> PerClass | None:
    """The accuracy of each class at each epsilon; None without an attack's predictions."""
    labels = stored.labels_of(run)
    checks = {0.0: "clean"} | {e: keys.at(attack, e) for e in sorted(epsilons) if e > 0}
    predictions = {
        epsilon: found
        for epsilon, check in checks.items()
        if (found := stored.predictions_of(run, pair, check)) is not None
    }
    if labels is None or not any(predictions):
        return None
    rows: list[tuple[str, int, list[float | None]]] = []
    for label, name in enumerate(stored.class_names(run)):
        own = labels == label
        right = [_share(found[own], label) for found in predictions.values()]
        rows.append((name, int(own.sum()), right))
    return PerClass(pair, list(predictions), rows)


def _share(said: IntArray, label: int) -> float | None:
    """The share of a class's images that are taken for it, of those that were answered."""
    said = said[said != stored.UNANSWERED]
    return float(np.mean(said == label)) if said.size else None


def _content(view: RunView) -> dict[str, Any] | None:
    shares = [per_class_of(view.run, pair, view.attack or "", view.epsilons) for pair in view.order]
    found = [one for one in shares if one]
    return {"per_class": found, "attack": view.attack} if found else None


SECTION = Section("classes", "Accuracy by class", place=60, content=_content, rank=140)
