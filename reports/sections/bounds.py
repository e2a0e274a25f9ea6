"""The section on robust accuracy between its bounds: certified below, under attack above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from harness.maths.norms import NORMS
from reports import brackets, figures, stored
from reports.brackets import Bound, Bracket, Brackets
from reports.figures import Series
from reports.formats import interval, percent, radius, words
from reports.section import Section
from reports.stored import Pair
from reports.svg import Chart, Spot, percent_ticks, round_ticks, stairs
from reports.view import RunView

CHECK = "validity/certified-misclassified"
CERTIFIED = Series("certified", 1, "^", "")
ATTACKED = Series("strongest attack", 2, "s", "5 2")
LABELLED = 0.12
"""Accuracy below which a label has no room under its line."""
SENTENCES = 6
"""Epsilons at which the gap is said in words, at most; the table has all."""


@dataclass(frozen=True)
class Band:
    """A model's robust accuracy in one norm.

    Attributes:
        found: The bounds at each epsilon.
        norm: The norm as people write it.
        chart: Both bounds against epsilon.
        said: The epsilons whose gap is said in words.
        wrong: Those at which the bounds contradict each other.
    """

    found: Brackets
    norm: str
    chart: Markup
    said: list[Bracket]
    wrong: list[Bracket]


@dataclass(frozen=True)
class OfPair:
    """All norms of one pair in which something is certified."""

    pair: Pair
    bands: list[Band]


def section_of(view: RunView) -> list[OfPair]:
    """Each pair that has certificates."""
    chance = stored.chance(view.run)
    found = []
    for pair in view.order:
        bands = [_band(one, chance) for one in brackets.brackets_of(view.run, view.frame, pair)]
        if bands:
            found.append(OfPair(pair, bands))
    return found


def _band(found: Brackets, chance: float | None) -> Band:
    known = [row for row in found.rows if row.lower is not None and row.upper is not None]
    # What was measured on both sides says more than what follows from other epsilons.
    said = [row for row in known if row.measured or row.wrong] or known
    norm = NORMS[found.norm].label
    label = f"Line chart: {norm} bounds on the robust accuracy of {found.pair.label}. " + " ".join(
        _told(row) for row in said[:SENTENCES]
    )
    return Band(
        found, norm, band_chart(found, chance, label), said[:SENTENCES],
        [row for row in found.rows if row.wrong],
    )  # fmt: skip


def _told(row: Bracket) -> str:
    low, high = (percent(None if end is None else end.accuracy) for end in (row.lower, row.upper))
    return f"At epsilon {radius(row.epsilon)}: certified {low}, under attack {high}."


def band_chart(found: Brackets, chance: float | None, label: str) -> Markup:
    """Both bounds against epsilon, and what lies between them.

    They are stairs, for that is what is known between two epsilons: what is certified at the
    larger, and what the attacks leave at the smaller. Marks stand where a bound was measured.
    """
    furthest = found.rows[-1].epsilon
    chart = Chart((0.0, furthest * 1.01), figures.SHARES, round_ticks(0.0, furthest),
                  percent_ticks(), "Robust accuracy", figures.AXES[found.norm])  # fmt: skip
    start = Bracket(0.0, found.clean, found.clean, None)
    rows = [row for row in (start, *found.rows) if row.upper is not None]
    for near, far in pairwise(rows):
        if far.lower is not None and near.upper is not None:
            ends = [near.epsilon, far.epsilon]
            chart.band(ends, [far.lower.accuracy] * 2, [near.upper.accuracy] * 2, CERTIFIED.colour)
    _stairs(chart, ATTACKED, [(row.epsilon, row.upper) for row in rows], before=False)
    rows = [row for row in (start, *found.rows) if row.lower is not None]
    _stairs(chart, CERTIFIED, [(row.epsilon, row.lower) for row in rows], before=True)
    if found.clean is not None:
        chart.marks([(0.0, found.clean.accuracy)], figures.MUTED, "o")
    figures.chance_level(chart, chance)
    for spot in _spots(found):
        chart.spot(spot)
    return chart.markup(label)


def _stairs(
    chart: Chart, look: Series, ends: Sequence[tuple[float, Bound | None]], *, before: bool
) -> None:
    points = [(epsilon, end.accuracy, end.epsilon) for epsilon, end in ends if end is not None]
    if not points:
        return
    corners = stairs([(epsilon, height) for epsilon, height, _ in points], before=before)
    chart.line([x for x, _ in corners], [y for _, y in corners], look.colour, look.dashes)
    measured = [(epsilon, height) for epsilon, height, at in points if 0 < epsilon == at]
    chart.marks(measured, look.colour, look.marker)
    # Along the last stair, outside the band: above the upper one, and below the lower one.
    heights = [height for _, height, _ in points]
    below = before and heights[-1] > LABELLED
    chart.note(
        points[-1][0], heights[-1] if before else heights[-2:][0], look.label,
        -3, 14 if below else -6, "end", look.colour,
    )  # fmt: skip


def _spots(found: Brackets) -> list[Spot]:
    """Each bound with what it is from."""
    spots = []
    if found.clean is not None:
        spots.append(Spot(0.0, found.clean.accuracy, f"clean: {percent(found.clean.accuracy)}"))
    for row in found.rows:
        spots += [
            Spot(row.epsilon, end.accuracy,
                 f"ε = {radius(row.epsilon)}, {words}: {percent(end.accuracy)} ({interval(end)})")
            for end, words in (
                (row.lower, certified_by(row.lower)), (row.upper, left_by(row.upper)),
            ) if end is not None
        ]  # fmt: skip
    return spots


def certified_by(bound: Bound | None) -> str:
    """What a lower bound is from, in words."""
    return f"certified by {words(bound.by) or 'several certifiers together'}" if bound else ""


def left_by(bound: Bound | None) -> str:
    """What an upper bound is from, in words."""
    if bound is None:
        return ""
    if bound.by == brackets.CLEAN:
        return "clean accuracy"
    return f"under {words(bound.by) or 'several attacks together'}"


def _content(view: RunView) -> dict[str, Any] | None:
    found = section_of(view)
    if not found:
        return None
    checked = bool((view.frame["check"] == CHECK).any())
    return {
        "bounds": found, "looks": (ATTACKED, CERTIFIED), "checked": checked,
        "images": _images(view), "certified_by": certified_by,
        "left_by": left_by,
    }  # fmt: skip


def _images(view: RunView) -> int | None:
    """How many test images there are, if that is known."""
    labels = stored.labels_of(view.run)
    return None if labels is None else labels.size


SECTION = Section("bounds", "Bounds on robust accuracy", place=22, content=_content, rank=25,
                  learn="bounds")  # fmt: skip
