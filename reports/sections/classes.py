"""The sections on classes: confusion matrices, and the accuracy of each class under attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.results import keys
from harness.results.run import Run
from reports import stored, tables
from reports.stored import Pair

MOST = 100
"""Of more classes no one reads a matrix, and it would fill megabytes."""


@dataclass(frozen=True)
class Confusions:
    """The confusion matrices of a pair.

    Attributes:
        pair: Which model.
        clean: Of the clean images, if stored.
        attacked: Under the attack at ``shown``, if stored.
        shown: The epsilon above zero that is shown at first: the page's, or else the smallest.
        epsilons: At which matrices are stored.
        counts: The matrix at each of these, row by row.
    """

    pair: Pair
    clean: tables.Confusion | None
    attacked: tables.Confusion | None
    shown: float | None
    epsilons: list[float]
    counts: list[list[list[int]]]


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


def confusions_of(
    run: Run, pair: Pair, attack: str, epsilons: Sequence[float], shown: float | None
) -> Confusions | None:
    """The matrices of a pair, as far as predictions are stored; None without any."""
    if len(stored.class_names(run)) > MOST:
        return None
    found = {
        epsilon: matrix
        for epsilon in epsilons
        if (matrix := tables.confusion(run, pair, keys.at(attack, epsilon),
                                       f"{attack} at ε = {epsilon:g}"))
    }  # fmt: skip
    clean = tables.confusion(run, pair, "clean", "Clean images")
    if shown not in found:
        shown = min((epsilon for epsilon in found if epsilon > 0), default=None)
    attacked = None if shown is None else found[shown]
    if clean is None and attacked is None:
        return None
    counts = [matrix.counts.to_numpy().tolist() for matrix in found.values()]
    return Confusions(pair, clean, attacked, shown, list(found), counts)


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
        right = [
            float(np.mean(found[own] == label)) if own.any() else None
            for found in predictions.values()
        ]
        rows.append((name, int(own.sum()), right))
    return PerClass(pair, list(predictions), rows)
