"""Runs ranked: models that share data, norm and ε, by what all attacks together leave of them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from harness.maths.norms import NORMS
from harness.protocol import NormName
from harness.results.run import Run
from reports import stored, tables
from reports.agreement import groups_of
from reports.worst import Curve, Worst, curve_of


@dataclass(frozen=True)
class Entrant:
    """A run that takes part.

    Attributes:
        run: What was measured.
        name: What it is called.
    """

    run: Run
    name: str


@dataclass(frozen=True)
class Entry:
    """A model of a run, in one norm.

    Attributes:
        number: Its number among those of its contest, from 0.
        name: What its run is called.
        run: The run.
        curve: What all attacks leave of it, from clean images on; and what is certified.
        attacks: What each attack alone leaves at each epsilon: the mean of the backends that agree.
    """

    number: int
    name: str
    run: Run
    curve: Curve
    attacks: dict[float, list[tuple[str, float]]]

    @property
    def label(self) -> str:
        """Run and model in a row."""
        return f"{self.name}, {self.curve.group.label}"

    @property
    def parameters(self) -> int | None:
        """How many numbers of the model have been trained; None where that is not known."""
        pairs = {(pair.backend, pair.model) for pair in self.curve.group.pairs}
        counts = [one.parameters for one in self.run.models if (one.backend, one.model) in pairs]
        return next((count for count in counts if count is not None), None)

    @property
    def randomised(self) -> bool:
        """Whether the model is random on purpose, and was counted by votes."""
        models = {(pair.backend, pair.model) for pair in self.curve.group.pairs}
        return any(r.randomised for r in self.run.records if (r.backend, r.model) in models)


@dataclass(frozen=True)
class Place:
    """An entry on a board.

    Attributes:
        rank: From 1; entries share one whose intervals overlap that of the first of them.
        entry: The entry.
        worst: Its accuracy under all attacks up to the board's epsilon, by which it is ranked.
        certified: What is certified there; None if nothing is.
    """

    rank: int
    entry: Entry
    worst: Worst
    certified: Worst | None


@dataclass(frozen=True)
class Board:
    """All entries that were attacked at an epsilon, the most robust first."""

    epsilon: float
    places: list[Place]

    @property
    def certified(self) -> bool:
        """Whether anything is certified of any of them."""
        return any(place.certified is not None for place in self.places)

    @property
    def clean(self) -> bool:
        """Whether the clean accuracy of any of them is known."""
        return any(place.entry.curve.clean is not None for place in self.places)


@dataclass(frozen=True)
class Contest:
    """Models that were attacked on the same images in the same norm.

    Attributes:
        data: What the images are, for people.
        sha256: Their hash.
        norm: The norm.
        entries: The models.
        boards: By rising epsilon.
        headline: The board of the epsilon that the most of them share, of several the middle one.
    """

    data: str
    sha256: str
    norm: NormName
    entries: list[Entry]
    boards: list[Board]
    headline: Board


def contests(entrants: Sequence[Entrant]) -> list[Contest]:
    """All models of some runs, those together that can be compared; the largest contest first."""
    by_data: dict[str, list[Entrant]] = {}
    for at, entrant in enumerate(entrants):
        # Images without a hash are not known to be those of another run.
        by_data.setdefault(entrant.run.data_sha256 or f"unknown-{at}", []).append(entrant)
    found = [
        _contest(mine, norm, entries)
        for mine in by_data.values()
        for norm in NORMS
        if (entries := list(_entries(mine, norm)))
    ]
    return sorted(found, key=lambda one: -len(one.entries))


def ranked(found: Iterable[tuple[Entry, Worst]], epsilon: float) -> list[Place]:
    """Entries by falling accuracy, with their ranks.

    An interval that overlaps that of the first of a rank is of the same rank; the next rank is the
    number of entries before it, and one.
    """
    places: list[Place] = []
    lowest = 0.0
    for entry, worst in sorted(found, key=lambda one: (-one[1].accuracy, one[0].number)):
        rank = places[-1].rank if places and worst.ci_high >= lowest else len(places) + 1
        if rank == len(places) + 1:
            lowest = worst.ci_low
        places.append(Place(rank, entry, worst, entry.curve.certified_at(epsilon)))
    return places


def _contest(entrants: Sequence[Entrant], norm: NormName, entries: list[Entry]) -> Contest:
    epsilons = sorted({row.epsilon for entry in entries for row in entry.curve.attacked})
    boards = [Board(epsilon, ranked(_at(entries, epsilon), epsilon)) for epsilon in epsilons]
    counts = Counter({board.epsilon: len(board.places) for board in boards})
    shared = [epsilon for epsilon in epsilons if counts[epsilon] == max(counts.values())]
    chosen = statistics.median_low(shared)
    run = entrants[0].run
    return Contest(
        _data(run), run.data_sha256, norm, entries, boards,
        next(board for board in boards if board.epsilon == chosen),
    )  # fmt: skip


def _at(entries: Iterable[Entry], epsilon: float) -> Iterator[tuple[Entry, Worst]]:
    """The entries that were attacked at that epsilon."""
    for entry in entries:
        if (worst := entry.curve.at(epsilon)) is not None:
            yield entry, worst


def _entries(entrants: Sequence[Entrant], norm: NormName) -> Iterator[Entry]:
    number = 0
    for entrant in entrants:
        run, frame = entrant.run, tables.measurements(entrant.run)
        attacks = tables.attacks(frame)
        mine = attacks[(attacks["norm"] == norm) & (attacks["epsilon"] > 0)]
        for group in groups_of(frame, stored.pairs(run)):
            own = pd.concat([tables.of_pair(mine, pair) for pair in group.pairs])
            if own.empty:
                continue
            curve = curve_of(run, frame, group, norm)
            if curve.attacked:
                yield Entry(number, entrant.name, run, curve, _alone(own))
                number += 1


def _alone(attacks: pd.DataFrame) -> dict[float, list[tuple[str, float]]]:
    """What each attack leaves at each epsilon, the least first."""
    means = attacks.groupby(["epsilon", "check"], sort=False)["accuracy"].mean()
    found: dict[float, list[tuple[str, float]]] = {}
    for row in tables.rows_of(means.reset_index()):
        found.setdefault(float(row.epsilon), []).append((str(row.check), float(row.accuracy)))
    return {at: sorted(several, key=lambda one: one[1]) for at, several in found.items()}


def _data(run: Run) -> str:
    """The images, as the run or its spec names them."""
    names = [
        run.data.source if run.data is not None else None,
        *(stored.spec_value(run, "data", key) for key in ("name", "file", "folder", "load")),
    ]
    return str(next((name for name in names if name), "images"))
