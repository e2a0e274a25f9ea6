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
from reports.stored import FloatArray, IntArray, Pair
from reports.view import RunView

MOST = 20
"""Of more classes those are shown that are misclassified most often, and most seldom."""


@dataclass(frozen=True)
class PerClass:
    """Accuracy by class and epsilon, without the images that were not answered.

    Attributes:
        pair: Which model.
        epsilons: The columns; 0 stands for clean images.
        rows: Per class its name, its number of images, and its accuracies; None without images.
        classes: How many classes there are.
        unanswered: How many answers are missing, over all columns.
    """

    pair: Pair
    epsilons: list[float]
    rows: list[tuple[str, int, list[float | None]]]
    classes: int
    unanswered: int


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
    names = stored.class_names(run)
    images = np.bincount(labels, minlength=len(names))
    shares = np.stack([_shares(labels, found, len(names)) for found in predictions.values()])
    rows = [
        (names[label], int(images[label]), [
            None if np.isnan(share) else float(share) for share in shares[:, label]
        ])
        for label in _chosen(shares, images)
    ]  # fmt: skip
    missing = sum(int((found == stored.UNANSWERED).sum()) for found in predictions.values())
    return PerClass(pair, list(predictions), rows, len(names), missing)


def _shares(labels: IntArray, predictions: IntArray, classes: int) -> FloatArray:
    """Share of each class that was classified correctly, (k,); NaN where none was answered."""
    answered = predictions != stored.UNANSWERED
    count = np.bincount(labels[answered], minlength=classes).astype(np.float64)
    right = np.bincount(labels[predictions == labels], minlength=classes)
    shares: FloatArray = np.full(classes, np.nan)
    return np.divide(right, count, out=shares, where=count > 0)


def _chosen(shares: FloatArray, images: IntArray) -> list[int]:
    """All classes; of many, those of the lowest and of the highest mean accuracy, in this order."""
    if len(images) <= MOST:
        return list(range(len(images)))
    known = np.flatnonzero(np.isfinite(shares).any(axis=0))
    order = known[np.argsort(np.nanmean(shares[:, known], axis=0), kind="stable")]
    half = MOST // 2
    return order.tolist() if len(order) <= MOST else [*order[:half], *order[-half:]]


def _content(view: RunView) -> dict[str, Any] | None:
    shares = [per_class_of(view.run, pair, view.attack or "", view.epsilons) for pair in view.order]
    found = [one for one in shares if one]
    return {"per_class": found, "attack": view.attack} if found else None


SECTION = Section("classes", "Accuracy by class", place=60, content=_content, rank=140,
                  learn="learn/confusion")  # fmt: skip
