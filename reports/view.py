"""A run as the sections of the page look at it: what several of them need is computed once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from harness.gate import Comparison
from harness.results.run import Run
from harness.results.search import SearchResult
from reports import agreement, figures, stored, tables, worst
from reports.agreement import Group
from reports.figures import Series
from reports.stored import Pair
from reports.worst import Curve


@dataclass(frozen=True)
class RunView:
    """All that a section is given; it changes nothing of it.

    Attributes:
        run: What was measured: records, models, arrays, timings, spec.
        search: A search over the grid of its spec, if there was one.
        comparison: The run compared with a baseline, if it was.
    """

    run: Run
    search: SearchResult | None = None
    comparison: Comparison | None = None

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The records as a table; see ``tables.measurements``."""
        return tables.measurements(self.run)

    @cached_property
    def order(self) -> list[Pair]:
        """Every model in every backend, in the order in which they are shown."""
        return stored.pairs(self.run)

    @cached_property
    def groups(self) -> list[Group]:
        """Each model once where its backends agree, and else each of them."""
        return agreement.groups_of(self.frame, self.order)

    @cached_property
    def curves(self) -> list[Curve]:
        """What the strongest attack leaves of each group."""
        return worst.curves_of(self.run, self.frame, self.groups)

    @cached_property
    def series(self) -> dict[Pair, Series]:
        """How each of these looks in the charts."""
        return figures.series_of(self.order)

    @cached_property
    def sweeps(self) -> dict[str, pd.DataFrame]:
        """The measured accuracies of each attack; see ``tables.sweeps``."""
        return tables.sweeps(self.frame)

    @cached_property
    def randomised(self) -> list[Pair]:
        """Models that are random on purpose, and were counted by votes."""
        marked = self.frame[self.frame["randomised"].astype(bool)]
        found = {Pair(row.backend, row.model) for row in tables.rows_of(marked)}
        return [pair for pair in self.order if pair in found]

    @cached_property
    def attack(self) -> str | None:
        """The attack that is shown where there is room for one; None if none was measured."""
        return next(iter(self.sweeps), None)

    @cached_property
    def epsilons(self) -> list[float]:
        """The radii at which that attack was measured, rising."""
        return self.sweeps[self.attack]["epsilon"].unique().tolist() if self.attack else []

    @cached_property
    def shown_epsilon(self) -> float | None:
        """The radius that is shown where there is room for one."""
        return tables.headline_epsilon(self.frame)

    @cached_property
    def judged(self) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Judged accuracies, checks of validity, and other checks; see ``tables.judged``."""
        return tables.judged(self.frame)

    @property
    def fragile(self) -> bool:
        """Whether the strongest attack leaves less than half of some model's clean accuracy."""
        return any(curve.fragile for curve in self.curves)

    @property
    def title(self) -> str:
        """Name of the spec."""
        return str(stored.spec_value(self.run, "name") or "unnamed spec")

    @property
    def verdict(self) -> str:
        """The verdict on the run; a baseline judges what is else only measured."""
        said = self.run.verdict
        if self.comparison is None or said == "failed":
            return said
        return "passed" if self.comparison.passed else "failed"

    @property
    def stamp(self) -> str:
        """The same in the title of the page: what it is that holds, or does not."""
        if self.verdict == "passed":
            held = "EXPECTATIONS MET" if self.run.verdict == "passed" else "BASELINE HELD"
            return f"{held}, NOT ROBUST" if self.fragile else held
        return "FAILED" if self.verdict == "failed" else "MEASURED, NOT JUDGED"
