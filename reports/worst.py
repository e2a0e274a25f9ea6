"""The strongest attack: what all attacks together leave of each model, image by image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.protocol import NormName
from harness.results.run import Run
from reports import brackets, tables
from reports.agreement import Group
from reports.brackets import Bound

HALF = 0.5
"""A model that loses more than this of its clean accuracy at the largest ε is said not robust."""


@dataclass(frozen=True)
class Worst:
    """Robust accuracy of a group at one epsilon, as far as attacks bound it.

    Attributes:
        epsilon: The radius; 0 for the images as they are.
        accuracy: Mean over the backends of the share of images that no attack up to there
            misclassifies.
        lowest: The least of these.
        highest: The most.
        ci_low: Lower end of the widest 95 % interval.
        ci_high: Upper end of it.
        by: The attack that leaves as few alone; empty where it takes several, or backends differ.
    """

    epsilon: float
    accuracy: float
    lowest: float
    highest: float
    ci_low: float
    ci_high: float
    by: str = ""


@dataclass(frozen=True)
class Curve:
    """A group from clean images to the largest epsilon, and what is certified.

    Attributes:
        group: Which model.
        norm: Which norm.
        rows: By rising epsilon, clean ones first.
        certified: Likewise what is certified, without clean images; empty where nothing is.
    """

    group: Group
    norm: NormName
    rows: list[Worst]
    certified: list[Worst]

    @property
    def clean(self) -> Worst | None:
        """Clean accuracy."""
        return self.rows[0] if self.rows and self.rows[0].epsilon == 0 else None

    @property
    def attacked(self) -> list[Worst]:
        """The others."""
        return [row for row in self.rows if row.epsilon > 0]

    @property
    def fragile(self) -> bool:
        """Whether more than half of what was right is lost at the largest epsilon."""
        return bool(self.attacked) and self.lost(self.attacked[-1])

    def lost(self, row: Worst) -> bool:
        """Whether more than half of what was right is lost at an epsilon."""
        return self.clean is not None and row.accuracy < HALF * self.clean.accuracy

    def at(self, epsilon: float | None) -> Worst | None:
        """The row of an epsilon."""
        return next((row for row in self.rows if row.epsilon == epsilon), None)

    def certified_at(self, epsilon: float) -> Worst | None:
        """The certified row of an epsilon."""
        return next((row for row in self.certified if row.epsilon == epsilon), None)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows as a table."""
        frame: pd.DataFrame = pd.DataFrame([vars(row) for row in self.rows])
        return frame


def curves_of(run: Run, frame: pd.DataFrame, groups: Sequence[Group]) -> list[Curve]:
    """The strongest attack on each group, in L∞, or in L2 where nothing else was measured."""
    attacked = tables.comparable(frame)
    norm: NormName = "l2" if (attacked["norm"] == "l2").any() else "linf"
    found = (curve_of(run, frame, group, norm) for group in groups)
    return [curve for curve in found if curve.rows]


def curve_of(run: Run, frame: pd.DataFrame, group: Group, norm: NormName) -> Curve:
    """The strongest attack on one group in a norm, and what is certified there."""
    bounds = [brackets.strongest(run, frame, pair, norm) for pair in group.pairs]
    sure = tables.certificates(frame)
    sure = sure[(sure["norm"] == norm) & (sure["epsilon"] > 0)]
    best: dict[float, list[Bound]] = {}
    for pair in group.pairs:
        of_pair = tables.of_pair(sure, pair).sort_values("accuracy", kind="stable")
        for epsilon, row in {row.epsilon: row for row in tables.rows_of(of_pair)}.items():
            best.setdefault(epsilon, []).append(brackets.recorded(row))
    at: dict[float, list[Bound]] = {}
    for rows in bounds:
        for epsilon, bound in rows:
            at.setdefault(epsilon, []).append(bound)
    return Curve(
        group, norm, [_worst(epsilon, at[epsilon]) for epsilon in sorted(at)],
        [_worst(epsilon, best[epsilon]) for epsilon in sorted(best)],
    )  # fmt: skip


def _worst(epsilon: float, bounds: Sequence[Bound]) -> Worst:
    shares = [bound.accuracy for bound in bounds]
    names = {bound.by for bound in bounds}
    return Worst(
        epsilon, sum(shares) / len(shares), min(shares), max(shares),
        min(bound.ci_low for bound in bounds), max(bound.ci_high for bound in bounds),
        names.pop() if len(names) == 1 else "",
    )  # fmt: skip
