"""Which classes are taken for which: matrices of few classes, the most frequent pairs of many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from harness.results.run import Run
from reports import stored
from reports.stored import IntArray, Pair

READABLE = 20
"""Of more classes no one reads a matrix."""
FREQUENT = 15
"""So many pairs of classes are listed, at most."""


class Frequent(NamedTuple):
    """Images of one class that were taken for another.

    Attributes:
        truth: Name of the true class.
        predicted: Name of the other.
        images: How many images.
        share: Of the images of the true class that were answered, in [0, 1].
    """

    truth: str
    predicted: str
    images: int
    share: float


@dataclass(frozen=True)
class Confusion:
    """What a check's predictions confuse, without the images that were not answered.

    Attributes:
        title: Of which images.
        accuracy: Share of them that were classified correctly; 0 if none was answered.
        unanswered: How many were not answered.
        counts: Of few classes a matrix, a row per true class and a column per predicted one.
        shares: The same as shares of the rows.
        frequent: Of many classes the most frequent confusions, falling.
        wrong: How many images were misclassified.
    """

    title: str
    accuracy: float
    unanswered: int
    counts: pd.DataFrame
    shares: pd.DataFrame
    frequent: list[Frequent]
    wrong: int


def confusion(run: Run, pair: Pair, check: str, title: str) -> Confusion | None:
    """What a check's predictions confuse, if they are stored."""
    labels, predictions = stored.labels_of(run), stored.predictions_of(run, pair, check)
    if labels is None or predictions is None:
        return None
    answered = predictions != stored.UNANSWERED
    labels, predictions = labels[answered], predictions[answered]
    names = stored.class_names(run)
    few = len(names) <= READABLE
    counts = _matrix(labels, predictions, len(names)) if few else np.zeros((0, 0), np.int64)
    # Classes without an image have a row of zeros, not of 0 / 0.
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    index = names if few else []
    wrong = labels != predictions
    return Confusion(
        title=title,
        accuracy=float(1 - wrong.mean()) if wrong.size else 0.0,
        unanswered=int((~answered).sum()),
        counts=pd.DataFrame(counts, index=index, columns=index),
        shares=pd.DataFrame(shares, index=index, columns=index),
        frequent=[] if few else _frequent(labels, predictions, names),
        wrong=int(wrong.sum()),
    )


def _matrix(labels: IntArray, predictions: IntArray, classes: int) -> IntArray:
    places = labels * classes + predictions
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def _frequent(labels: IntArray, predictions: IntArray, names: list[str]) -> list[Frequent]:
    """Those of most images; of as many, the ones of the classes that come first."""
    images = np.bincount(labels, minlength=len(names))
    wrong = labels != predictions
    places, counts = np.unique(labels[wrong] * len(names) + predictions[wrong], return_counts=True)
    most = np.argsort(-counts, kind="stable")[:FREQUENT]
    return [
        Frequent(names[truth], names[said], count, count / int(images[truth]))
        for (truth, said), count in zip(
            (divmod(place, len(names)) for place in places[most].tolist()),
            counts[most].tolist(), strict=True,
        )
    ]  # fmt: skip
