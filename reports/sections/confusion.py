"""The section on confusions: matrices of few classes, the most frequent pairs of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.results import keys
from harness.results.run import Run
from reports import stored
from reports.confusions import READABLE, Confusion, confusion
from reports.formats import radius
from reports.section import Section
from reports.stored import Pair
from reports.view import RunView


@dataclass(frozen=True)
class Confusions:
    """The confusions of a pair.

    Attributes:
        pair: Which model.
        clean: Of the clean images, if stored.
        attacked: Under the attack at ``shown``, if stored.
        shown: The epsilon above zero that is shown at first: the page's, or else the smallest.
        epsilons: At which matrices are stored.
        counts: Of few classes the matrix at each of these, row by row.
        unanswered: How many images were not answered at each of these.
    """

    pair: Pair
    clean: Confusion | None
    attacked: Confusion | None
    shown: float | None
    epsilons: list[float]
    counts: list[list[list[int]]]
    unanswered: list[int]


def confusions_of(
    run: Run, pair: Pair, attack: str, epsilons: Sequence[float], shown: float | None
) -> Confusions | None:
    """The matrices of a pair, as far as predictions are stored; None without any."""
    found = {
        epsilon: matrix
        for epsilon in epsilons
        if (matrix := confusion(run, pair, keys.at(attack, epsilon),
                                       f"{attack} at ε = {radius(epsilon)}"))
    }  # fmt: skip
    clean = confusion(run, pair, "clean", "Clean images")
    if shown not in found:
        shown = min((epsilon for epsilon in found if epsilon > 0), default=None)
    attacked = None if shown is None else found[shown]
    if clean is None and attacked is None:
        return None
    counts = [matrix.counts.to_numpy().tolist() for matrix in found.values()]
    unanswered = [matrix.unanswered for matrix in found.values()]
    return Confusions(pair, clean, attacked, shown, list(found), counts, unanswered)


def _content(view: RunView) -> dict[str, Any] | None:
    matrices = [
        confusions_of(view.run, pair, view.attack or "", view.epsilons, view.shown_epsilon)
        for pair in view.order
    ]
    found = [one for one in matrices if one]
    if not found:
        return None
    classes = len(stored.class_names(view.run))
    return {
        "confusions": found, "attack": view.attack, "classes": classes,
        "readable": classes <= READABLE,
    }  # fmt: skip


SECTION = Section("confusion", "Confusions", place=50, content=_content, rank=130, expected=True,
                  learn="learn/confusion")  # fmt: skip
