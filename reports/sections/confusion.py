"""The section of confusion matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.results import keys
from harness.results.run import Run
from reports import stored, tables
from reports.section import Section
from reports.stored import Pair
from reports.view import RunView

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


def _content(view: RunView) -> dict[str, Any] | None:
    matrices = [
        confusions_of(view.run, pair, view.attack or "", view.epsilons, view.shown_epsilon)
        for pair in view.order
    ]
    found = [one for one in matrices if one]
    return {"confusions": found, "attack": view.attack} if found else None


SECTION = Section(
    "confusion", "Confusion matrices", place=50, content=_content, rank=130, expected=True
)
