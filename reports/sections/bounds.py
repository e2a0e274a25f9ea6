"""The section on robust accuracy between its bounds: certified below, under attack above."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.maths.norms import NORMS
from reports import brackets, figures, stored
from reports.brackets import Bound, Bracket, Brackets
from reports.figures import Series, Spot
from reports.formats import interval, percent
from reports.section import Section
from reports.stored import Pair
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
    for place, pair in enumerate(view.order):
        bands = [
            _band(one, chance, f"bounds{place}-{one.norm}")
            for one in brackets.brackets_of(view.run, view.frame, pair)
        ]
        if bands:
            found.append(OfPair(pair, bands))
    return found


def _band(found: Brackets, chance: float | None, name: str) -> Band:
    known = [row for row in found.rows if row.lower is not None and row.upper is not None]
    # What was measured on both sides says more than what follows from other epsilons.
    said = [row for row in known if row.measured or row.wrong] or known
    norm = NORMS[found.norm].label
    label = f"Line chart: {norm} bounds on the robust accuracy of {found.pair.label}. " + " ".join(
        _told(row) for row in said[:SENTENCES]
    )
    return Band(
        found, norm, band_chart(found, chance, name, label), said[:SENTENCES],
        [row for row in found.rows if row.wrong],
    )  # fmt: skip


def _told(row: Bracket) -> str:
    low, high = (percent(None if end is None else end.accuracy) for end in (row.lower, row.upper))
    return f"At epsilon {row.epsilon:g}: certified {low}, under attack {high}."


def band_chart(found: Brackets, chance: float | None, name: str, label: str) -> Markup:
    """Both bounds against epsilon, and what lies between them.

    They are stairs, for that is what is known between two epsilons: what is certified at the
    larger, and what the attacks leave at the smaller. Marks stand where a bound was measured.
    """
    figure = Figure(figsize=(5.4, 3.0))
    axes = figure.add_axes((0.1, 0.17, 0.88, 0.73))
    start = Bracket(0.0, found.clean, found.clean, None)
    rows = [row for row in (start, *found.rows) if row.upper is not None]
    for near, far in pairwise(rows):
        if far.lower is not None and near.upper is not None:
            axes.fill_between(
                [near.epsilon, far.epsilon], far.lower.accuracy, near.upper.accuracy,
                color=CERTIFIED.colour, alpha=0.16, lw=0,
            )  # fmt: skip
    _stairs(axes, ATTACKED, [(row.epsilon, row.upper) for row in rows], "steps-post")
    rows = [row for row in (start, *found.rows) if row.lower is not None]
    _stairs(axes, CERTIFIED, [(row.epsilon, row.lower) for row in rows], "steps-pre")
    if found.clean is not None:
        axes.plot(0.0, found.clean.accuracy, color=figures.MUTED, marker="o", clip_on=False,
                  markeredgecolor=figures.SURFACE)  # fmt: skip
    figures.chance_line(axes, chance)
    figures.share_axis(axes)
    axes.set_title("Robust accuracy", pad=10)
    axes.set_xlabel(figures.AXES[found.norm], labelpad=6)
    axes.margins(x=0.02)
    return figures.inline(figure, name, label, _spots(found))


def _stairs(
    axes: Axes, look: Series, ends: Sequence[tuple[float, Bound | None]], steps: str
) -> None:
    points = [(epsilon, end) for epsilon, end in ends if end is not None]
    if not points:
        return
    heights = [end.accuracy for _, end in points]
    axes.plot(
        [epsilon for epsilon, _ in points], heights, color=look.colour, linestyle=look.linestyle,
        marker=look.marker, markeredgecolor=figures.SURFACE, drawstyle=steps,
        markevery=[
            place for place, (epsilon, end) in enumerate(points) if 0 < epsilon == end.epsilon
        ],
    )  # fmt: skip
    # Along the last stair, outside the band: above the upper one, and below the lower one.
    below = look is CERTIFIED and heights[-1] > LABELLED
    axes.annotate(
        look.label, (points[-1][0], heights[-1] if look is CERTIFIED else heights[-2:][0]),
        (-2, -4 if below else 4), textcoords="offset points", ha="right",
        va="top" if below else "bottom", color=look.colour,
    )  # fmt: skip


def _spots(found: Brackets) -> list[Spot]:
    """Each bound with what it is from."""
    spots = []
    if found.clean is not None:
        spots.append(Spot(0.0, found.clean.accuracy, f"clean: {percent(found.clean.accuracy)}"))
    for row in found.rows:
        spots += [
            Spot(row.epsilon, end.accuracy,
                 f"ε = {row.epsilon:g}, {words}: {percent(end.accuracy)} ({interval(end)})")
            for end, words in (
                (row.lower, certified_by(row.lower)), (row.upper, left_by(row.upper)),
            ) if end is not None
        ]  # fmt: skip
    return spots


def certified_by(bound: Bound | None) -> str:
    """What a lower bound is from, in words."""
    return f"certified by {bound.by or 'several certifiers together'}" if bound else ""


def left_by(bound: Bound | None) -> str:
    """What an upper bound is from, in words."""
    if bound is None:
        return ""
    if bound.by == brackets.CLEAN:
        return "clean accuracy"
    return f"under {bound.by or 'several attacks together'}"


def _content(view: RunView) -> dict[str, Any] | None:
    found = section_of(view)
    if not found:
        return None
    checked = bool((view.frame["check"] == CHECK).any())
    return {
        "bounds": found, "looks": (ATTACKED, CERTIFIED), "checked": checked,
        "images": _images(view), "randomised": view.randomised,
        "certified_by": certified_by, "left_by": left_by,
    }  # fmt: skip


def _images(view: RunView) -> int | None:
    """How many test images there are, if that is known."""
    labels = stored.labels_of(view.run)
    return None if labels is None else labels.size


SECTION = Section("bounds", "Bounds on robust accuracy", place=22, content=_content, rank=25)
