"""Backends of a model that agree, which the page shows as one: a mean, and how far they spread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reports import tables
from reports.stored import Pair

APART = 0.03
"""So far may the intervals of backends that agree lie apart: they train models of their own."""


@dataclass(frozen=True)
class Group:
    """One model in the backends whose accuracies agree, or in one of them.

    Attributes:
        model: The model's name.
        pairs: The backends.
        alone: Whether the model was measured in no other backend.
    """

    model: str
    pairs: tuple[Pair, ...]
    alone: bool = True

    @property
    def backends(self) -> str:
        """The backends in a row."""
        return ", ".join(pair.backend for pair in self.pairs if pair.backend)

    @property
    def label(self) -> str:
        """The model for people, with its backends where they are told apart, or are one."""
        if self.alone and len(self.pairs) > 1:
            return self.model
        return " · ".join(part for part in (self.backends, self.model) if part)

    @property
    def labels(self) -> list[str]:
        """The names by which the page's reader chooses one of them."""
        return [pair.label for pair in self.pairs]


def groups_of(frame: pd.DataFrame, order: Sequence[Pair]) -> list[Group]:
    """Each model that was measured: once where its backends agree, and else each of these.

    They agree if no accuracy that several of them have differs by more than ``APART`` beyond what
    its 95 % intervals explain.
    """
    measured = tables.accuracies(frame)
    found = []
    for model in dict.fromkeys(pair.model for pair in order):
        mine = measured[measured["model"] == model]
        known = set(mine["backend"])
        pairs = tuple(pair for pair in order if pair.model == model and pair.backend in known)
        ends = mine.groupby(["check", "epsilon"], dropna=False)
        agree = bool((ends["ci_low"].max() - ends["ci_high"].min() <= APART).all())
        if pairs and (agree or len(pairs) == 1):
            found.append(Group(model, pairs))
        else:
            found += [Group(model, (pair,), alone=False) for pair in pairs]
    return found


def merged(frame: pd.DataFrame, group: Group) -> pd.DataFrame:
    """The measurements of a group, a row for each check and epsilon, in the order of the records.

    ``accuracy`` and ``value`` are means over the backends, ``lowest`` and ``highest`` the
    accuracies between which they lie, and the interval reaches from the lowest end to the highest.
    """
    mine = frame[frame["model"].eq(group.model) & frame["backend"].isin(
        [pair.backend for pair in group.pairs])]  # fmt: skip
    together = mine.groupby(["check", "epsilon", "norm"], dropna=False, sort=False)
    found: pd.DataFrame = together.agg(
        accuracy=("accuracy", "mean"), lowest=("accuracy", "min"), highest=("accuracy", "max"),
        ci_low=("ci_low", "min"), ci_high=("ci_high", "max"), value=("value", "mean"),
        total=("total", "max"), bound=("bound", "first"),
    ).reset_index()  # fmt: skip
    return found
