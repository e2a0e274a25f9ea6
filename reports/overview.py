"""The robustness of all models at a glance: the strongest attack's curves beside clean accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from harness.maths.norms import NORMS
from reports import figures, stored
from reports.figures import Series
from reports.view import RunView
from reports.worst import Curve

MOST = 6
"""Models that a chart tells apart."""
COLUMNS = 7
"""Epsilons in the table, at most; of more those that lie evenly between the first and the last."""


@dataclass(frozen=True)
class Overview:
    """The strongest attack on every model.

    Attributes:
        chart: A line per model, from clean accuracy on.
        looks: How each looks.
        curves: The same as numbers, with those that the chart has no colour for.
        epsilons: The columns of their table.
        norm: The norm as people write it.
        certified: Whether something is certified at one of these epsilons.
    """

    chart: Markup
    looks: list[Series]
    curves: list[Curve]
    epsilons: list[float]
    norm: str
    certified: bool


def overview_of(view: RunView) -> Overview | None:
    """What the strongest attack leaves; None where nothing was attacked."""
    curves = [curve for curve in view.curves if curve.attacked]
    if not curves:
        return None
    drawn = curves[:MOST]
    looks = list(figures.ladder_of([curve.group.label for curve in drawn]).values())
    only = drawn[0].clean if len(drawn) == 1 else None
    chart = figures.accuracy_chart(
        [(look, curve.frame) for look, curve in zip(looks, drawn, strict=True)],
        stored.chance(view.run), figures.AXES[curves[0].norm],
        "Line chart: accuracy under the strongest attack against epsilon, for "
        + ", ".join(look.label for look in looks),
        title="Accuracy under the strongest attack",
        clean=None if only is None else only.accuracy,
    )  # fmt: skip
    epsilons = _chosen(
        sorted({row.epsilon for curve in curves for row in curve.attacked}), view.shown_epsilon
    )
    certified = any(curve.certified_at(at) for curve in curves for at in epsilons)
    return Overview(chart, looks, curves, epsilons, NORMS[curves[0].norm].label, certified)


def _chosen(epsilons: list[float], shown: float | None) -> list[float]:
    """A few of them: the last, the one that the page shows, and others evenly between."""
    if len(epsilons) <= COLUMNS:
        return epsilons
    last = len(epsilons) - 1
    places = {round(at * last / (COLUMNS - 1)) for at in range(COLUMNS)}
    if shown in epsilons and (at := epsilons.index(shown)) not in places:
        places.remove(min(places - {0, last}, key=lambda place: abs(place - at)))
        places.add(at)
    return [epsilons[place] for place in sorted(places)]
