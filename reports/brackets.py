"""Robust accuracy between its bounds: images that are certified, misclassified, or neither."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from harness.maths.norms import NORMS
from harness.maths.statistics import wilson
from harness.protocol import NormName
from harness.results import keys
from harness.results.run import Run
from reports import stored, tables
from reports.stored import BoolArray, Pair

CLEAN = "clean"
SEARCHES = ("pgd", "fgsm")
"""Methods that look for the smallest epsilon of each image, in L∞."""
TOGETHER = ""
"""In place of a name where several certifiers, or attacks, know more than each of them."""


@dataclass(frozen=True)
class Bound:
    """A bound on robust accuracy.

    Attributes:
        by: The certifier or attack, or a search for the smallest epsilons; ``clean`` where no
            attack was measured at so small an epsilon; ``TOGETHER`` where several say more than
            one.
        epsilon: The radius at which it was measured. What is certified at a larger one holds at a
            smaller one, and what misclassifies at a smaller one does at a larger one.
        correct: Images that are certified; or not misclassified.
        total: Of how many.
        accuracy: ``correct / total``.
        ci_low: Lower end of its 95 % Wilson interval.
        ci_high: Upper end of it.
        alone: Of several together the one that says the most by itself.
    """

    by: str
    epsilon: float
    correct: int
    total: int
    accuracy: float
    ci_low: float
    ci_high: float
    alone: Bound | None = None


@dataclass(frozen=True)
class Outcomes:
    """What is known of each image at an epsilon; the four are all images.

    Attributes:
        certified: No image of the ball has another prediction.
        misclassified: As it is, or by an attack in the ball.
        unknown: Neither.
        both: Both, which cannot be: the certifier or the attack is wrong.
    """

    certified: int
    misclassified: int
    unknown: int
    both: int


@dataclass(frozen=True)
class Bracket:
    """Robust accuracy at one epsilon, between the bounds that are known.

    Attributes:
        epsilon: The radius.
        lower: What is certified there or further out; None beyond the last certificate.
        upper: What the attacks leave; None if neither attack nor clean accuracy is known.
        outcomes: The same by image; None where the outcome of each is not stored.
    """

    epsilon: float
    lower: Bound | None
    upper: Bound | None
    outcomes: Outcomes | None

    @property
    def measured(self) -> bool:
        """Whether both bounds were measured at this very epsilon."""
        return all(
            end is not None and end.epsilon == self.epsilon for end in (self.lower, self.upper)
        )

    @property
    def wrong(self) -> bool:
        """Whether the bounds contradict each other."""
        if self.outcomes is not None:
            return self.outcomes.both > 0
        lower, upper = self.lower, self.upper
        if lower is None or upper is None or lower.total != upper.total:
            return False
        return lower.correct > upper.correct


@dataclass(frozen=True)
class Brackets:
    """A model's robust accuracy in one norm, at each epsilon of a certificate or an attack.

    Attributes:
        pair: Which model.
        norm: Which norm.
        clean: Its clean accuracy, on the same images; None if it is not known.
        rows: By rising epsilon.
        images: How many images are counted, the first ones; None where the outcome of each is not
            stored, and each bound is counted on its own.
    """

    pair: Pair
    norm: NormName
    clean: Bound | None
    rows: list[Bracket]
    images: int | None


@dataclass(frozen=True)
class Told:
    """Which of the first images a check certifies at an epsilon, or misclassifies."""

    by: str
    epsilon: float
    images: BoolArray


def brackets_of(run: Run, frame: pd.DataFrame, pair: Pair) -> list[Brackets]:
    """A pair's robust accuracy in each norm in which something was certified."""
    mine = tables.of_pair(frame, pair).dropna(subset=["accuracy", "correct", "total"])
    sure, attacked = tables.certificates(mine), tables.attacks(mine)
    clean = tables.rows_of(mine[mine["check"] == CLEAN])[-1:]
    return [
        _brackets(
            run, pair, norm, tables.rows_of(here),
            tables.rows_of(attacked[attacked["norm"] == norm]), clean,
        )
        for norm in NORMS
        if ((here := sure[sure["norm"] == norm])["epsilon"] > 0).any()
    ]  # fmt: skip


def strongest(
    run: Run, frame: pd.DataFrame, pair: Pair, norm: NormName
) -> list[tuple[float, Bound]]:
    """What all attacks of a norm together leave of a pair, at 0 and at each of their epsilons.

    Image by image where the outcome of each is stored: one is counted as misclassified as soon as
    any attack up to that epsilon misclassifies it. Expensive attacks are often measured on the
    first images alone: where the share of these that is left is below the interval of that of all,
    they are what is counted. Else it is the lowest accuracy that was recorded up to there.
    """
    mine = tables.of_pair(frame, pair).dropna(subset=["accuracy", "correct", "total"])
    clean = tables.rows_of(mine[mine["check"] == CLEAN])[-1:]
    attacks = tables.attacks(mine)
    attacked = tables.rows_of(attacks[attacks["norm"] == norm])
    epsilons = sorted({row.epsilon for row in attacked if row.epsilon > 0})
    epsilons = [0.0, *epsilons] if clean else epsilons
    wrong = _all(_misclassified(run, pair, row) for row in (*clean, *attacked))
    if not clean or wrong is None:
        found = ((at, _by_record([], clean + attacked, at).upper) for at in epsilons)
        return [(at, bound) for at, bound in found if bound is not None]
    return [
        (at, fewest_left(nearer, at))
        for at in epsilons
        if (nearer := [told for told in wrong + _searched(run, pair, norm, at)
                       if told.epsilon <= at])
    ]  # fmt: skip


def fewest_left(told: Sequence[Told], epsilon: float) -> Bound:
    """What all leave together, of all images, or of the first ones if that is surely less."""

    def left(images: int) -> Bound:
        return _best(told, images, epsilon, lambda count: images - count)

    most, *fewer = sorted({one.images.size for one in told}, reverse=True)
    found = left(most)
    for images in fewer:
        less = left(images)
        if less.accuracy < found.ci_low:
            found = less
    return found


def _brackets(
    run: Run, pair: Pair, norm: NormName, sure: list[Any], attacked: list[Any], clean: list[Any]
) -> Brackets:
    epsilons = sorted({row.epsilon for row in (*sure, *attacked) if row.epsilon > 0})
    certified = _all(_certified(run, pair, row) for row in sure)
    wrong = _all(_misclassified(run, pair, row) for row in (*clean, *attacked))
    if clean and certified is not None and wrong is not None:
        images = _shared(certified, [*wrong[1:], *_searched(run, pair, norm, 0.0)] or wrong)
        rows = [
            _by_image(certified, wrong + _searched(run, pair, norm, epsilon), epsilon, images)
            for epsilon in epsilons
        ]
        left = images - int(_any(wrong[:1], images).sum())
        start = _bound(CLEAN, 0.0, left, images)
        return Brackets(pair, norm, start, rows, images)
    rows = [_by_record(sure, clean + attacked, epsilon) for epsilon in epsilons]
    return Brackets(pair, norm, recorded(clean[0]) if clean else None, rows, None)


def _all(told: Iterable[Told | None]) -> list[Told] | None:
    """All of them; None if one is missing."""
    found = list(told)
    known = [one for one in found if one is not None]
    return known if len(known) == len(found) else None


def _name(row: Any) -> str:
    """A certifier's name, or an attack's."""
    return str(row.check).removeprefix(keys.CERTIFIED)


def _radius(row: Any) -> float:
    """Of a record; clean images are at radius 0."""
    return 0.0 if row.check == CLEAN else float(row.epsilon)


def _certified(run: Run, pair: Pair, row: Any) -> Told | None:
    name = _name(row)
    found = stored.certified_of(run, pair, name, row.epsilon)
    return None if found is None else Told(name, float(row.epsilon), found)


def _misclassified(run: Run, pair: Pair, row: Any) -> Told | None:
    labels = stored.labels_of(run)
    epsilon = None if row.check == CLEAN else row.epsilon
    found = stored.first_predictions(run, pair, keys.at(row.check, epsilon))
    if labels is None or found is None:
        return None
    missed = (found != labels[: found.size]) & (found != stored.UNANSWERED)
    return Told(_name(row), _radius(row), missed)


def _searched(run: Run, pair: Pair, norm: NormName, epsilon: float) -> list[Told]:
    """What the searches for the smallest epsilons of images tell at any epsilon."""
    return [
        Told(f"the search with {method}", epsilon, found <= epsilon)
        for method in (SEARCHES if norm == "linf" else ())
        if (found := stored.smallest_epsilons(run, pair, method)) is not None
    ]


def _shared(certified: Sequence[Told], wrong: Sequence[Told]) -> int:
    """How many of the first images are counted: those of the best certifier that were attacked.

    Certifiers are compared on the images that all of them have; an attack of fewer images than
    another counts for those that it has.
    """
    sizes = _sizes(certified)
    fewest = min(sizes.values())
    epsilons = {told.epsilon for told in certified}

    def found(name: str) -> int:
        mine = [told for told in certified if told.by == name]
        return sum(
            int(_any([told for told in mine if told.epsilon >= epsilon], fewest).sum())
            for epsilon in epsilons
        )

    best = max(sizes, key=lambda name: (found(name), sizes[name]))
    return min(sizes[best], max(_sizes(wrong).values()))


def _sizes(told: Sequence[Told]) -> dict[str, int]:
    """How many images each has, at all its epsilons."""
    sizes: dict[str, int] = {}
    for one in told:
        sizes[one.by] = min(one.images.size, sizes.get(one.by, one.images.size))
    return sizes


def _any(told: Sequence[Told], images: int) -> BoolArray:
    """Of which of the first images any of them tells it, (images,)."""
    found = np.zeros(images, dtype=bool)
    for one in told:
        here = one.images[:images]
        found[: here.size] |= here
    return found


def _by_image(
    certified: Sequence[Told], wrong: Sequence[Told], epsilon: float, images: int
) -> Bracket:
    further = [told for told in certified if told.epsilon >= epsilon]
    nearer = [told for told in wrong if told.epsilon <= epsilon]
    sure, missed = _any(further, images), _any(nearer, images)
    both = sure & missed
    outcomes = Outcomes(
        certified=int((sure & ~both).sum()), misclassified=int((missed & ~both).sum()),
        unknown=int((~sure & ~missed).sum()), both=int(both.sum()),
    )  # fmt: skip
    lower = _best(further, images, epsilon, lambda count: count) if further else None
    upper = _best(nearer, images, epsilon, lambda count: images - count)
    return Bracket(epsilon, lower, upper, outcomes)


def _best(
    told: Sequence[Told], images: int, epsilon: float, correct: Callable[[int], int]
) -> Bound:
    """The bound of several together, by the name of one if it says as much alone."""
    whole = int(_any(told, images).sum())
    alone = {
        name: (
            int(_any(mine, images).sum()),
            min((one.epsilon for one in mine), key=lambda radius: abs(radius - epsilon)),
        )
        for name in dict.fromkeys(one.by for one in told)
        if (mine := [one for one in told if one.by == name])
    }
    # Of several that say as much the one that was measured nearest.
    name = max(alone, key=lambda name: (alone[name][0], -abs(alone[name][1] - epsilon)))
    count, radius = alone[name]
    one = _bound(name, radius, correct(count), images)
    if count == whole:
        return one
    nearest = min(
        (radius for _, radius in alone.values()), key=lambda radius: abs(radius - epsilon)
    )
    return _bound(TOGETHER, nearest, correct(whole), images, one)


def _by_record(sure: list[Any], attacked: list[Any], epsilon: float) -> Bracket:
    """The same of the recorded accuracies alone, which may be of other images."""
    further = [row for row in sure if row.epsilon >= epsilon]
    nearer = [row for row in attacked if _radius(row) <= epsilon]
    lower = max(further, key=lambda row: (row.accuracy, -row.epsilon), default=None)
    upper = min(nearer, key=lambda row: (row.accuracy, -_radius(row)), default=None)
    low, high = (None if row is None else recorded(row) for row in (lower, upper))
    return Bracket(epsilon, low, high, None)


def recorded(row: Any) -> Bound:
    """The bound that a row of the table of measurements is."""
    return Bound(
        _name(row), _radius(row), int(row.correct), int(row.total), row.accuracy, row.ci_low,
        row.ci_high,
    )  # fmt: skip


def _bound(by: str, epsilon: float, correct: int, total: int, alone: Bound | None = None) -> Bound:
    return Bound(by, epsilon, correct, total, correct / total, *wilson(correct, total), alone)
