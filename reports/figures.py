"""The charts of the page: accuracies against epsilon, shares, and training, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from harness.results.records import Epoch
from reports import tables
from reports.formats import interval, percent, radius
from reports.stored import FloatArray, Pair
from reports.svg import Chart, Spot, Ticks, percent_ticks, round_ticks

SERIES = tuple(f"var(--series-{number})" for number in range(1, 7))
MUTED, RULE = "var(--muted)", "var(--rule)"
MARKERS = {
    "o": "M21 7a4 4 0 1 0-8 0a4 4 0 1 0 8 0z",
    "s": "M13.5 3.5h7v7h-7z",
    "^": "M17 2.5l4.5 8h-9z",
    "D": "M17 2l5 5l-5 5l-5-5z",
}
"""Marks of lines, and their outlines in the 34 × 14 key of a legend."""
AXES = {"linf": "ε, the largest change of a pixel", "l2": "ε, the L2 length of the change"}
DASHES = ("", "5 2", "1.5 1.5", "6 2 1.5 2")
SHARES = (-0.02, 1.03)
"""The vertical axis of shares, with room for marks at its ends."""
SMALL = (400.0, 210.0)
"""Size of a chart that stands beside another."""


@dataclass(frozen=True)
class Series:
    """How a line looks in a chart and its legend: by colour, and by marker and dashes as well."""

    label: str
    number: int
    marker: str
    dashes: str

    @property
    def colour(self) -> str:
        """Its colour, as the theme has it."""
        return SERIES[self.number - 1]

    @property
    def outline(self) -> str:
        """Its marker as the path of a legend key."""
        return MARKERS[self.marker]


def axis_of(frame: pd.DataFrame) -> str:
    """What the epsilons of an attack's measurements are."""
    return AXES.get(str(frame["norm"].iloc[0]), AXES["linf"])


def series_of(order: Sequence[Pair]) -> dict[Pair, Series]:
    """A look for each pair; a backend keeps its dashes, so equal curves do not hide each other."""
    backends = list(dict.fromkeys(pair.backend for pair in order))
    markers = list(MARKERS)
    return {
        pair: Series(
            label=pair.label,
            number=place % len(SERIES) + 1,
            marker=markers[place % len(markers)],
            dashes=DASHES[backends.index(pair.backend) % len(DASHES)],
        )
        for place, pair in enumerate(order)
    }


def ladder_of(attacks: Sequence[str]) -> dict[str, Series]:
    """A look for each attack."""
    markers = list(MARKERS)
    return {
        attack: Series(
            label=attack,
            number=place % len(SERIES) + 1,
            marker=markers[place % len(markers)],
            dashes=DASHES[place // len(SERIES) % len(DASHES)],
        )
        for place, attack in enumerate(attacks)
    }


def accuracy_chart(
    lines: Sequence[tuple[Series, pd.DataFrame]],
    chance: float | None,
    axis: str,
    label: str,
    *,
    title: str = "Accuracy",
    clean: float | None = None,
) -> Markup:
    """Accuracy against epsilon with interval bands.

    Args:
        lines: What each line looks like, and its measurements by rising epsilon.
        chance: Accuracy of guessing, or None where the number of classes is not known.
        axis: What epsilon is.
        label: Its description for readers who cannot see the chart.
        title: What the vertical axis is.
        clean: Clean accuracy, which is drawn as a level; None for none.
    """
    rows_by_line = [(look, tables.rows_of(rows)) for look, rows in lines]
    furthest = max((row.epsilon for _, rows in rows_by_line for row in rows), default=0.0) or 1.0
    chart = Chart((0.0, furthest * 1.01), SHARES, round_ticks(0.0, furthest), percent_ticks(),
                  title, axis)  # fmt: skip
    if clean is not None:
        chart.level(clean, f"clean, {percent(clean)}", MUTED)
    for look, rows in rows_by_line:
        chart.band(
            [row.epsilon for row in rows], [row.ci_low for row in rows],
            [row.ci_high for row in rows], look.colour,
        )  # fmt: skip
        chart.line(
            [row.epsilon for row in rows], [row.accuracy for row in rows], look.colour,
            look.dashes, look.marker,
        )  # fmt: skip
        for row in rows:
            where = f"{look.label}, ε = {radius(row.epsilon)}"
            text = f"{where}: {percent(row.accuracy)} ({interval(row)})"
            chart.spot(Spot(row.epsilon, row.accuracy, text))
    chance_level(chart, chance)
    return chart.markup(label)


def robust_chart(lines: Sequence[tuple[Series, FloatArray]], limit: float, label: str) -> Markup:
    """The share of images not misclassified up to an epsilon, from the smallest of each."""
    chart = Chart((0.0, limit), SHARES, round_ticks(0.0, limit), percent_ticks(),
                  "Images not misclassified yet", AXES["linf"])  # fmt: skip
    for look, smallest in lines:
        places = np.linspace(0, limit, 120)
        robust = (smallest[None] > places[:, None]).mean(axis=1)
        chart.line(
            places.tolist(), robust.tolist(), look.colour, look.dashes, look.marker, every=12
        )
    return chart.markup(label)


def share_chart(
    lines: Sequence[tuple[Series, FloatArray, FloatArray]],
    title: str,
    axis: str,
    label: str,
    band: tuple[FloatArray, FloatArray] | None = None,
) -> Markup:
    """Shares against shares: each line with its abscissae and ordinates, in [0, 1].

    A band is drawn from abscissae (n,) and its lower and upper ends (2, n).
    """
    furthest = max((float(places.max()) for _, places, _ in lines), default=1.0)
    percents = [value / 100 for value in round_ticks(0.0, 100 * furthest).values]
    chart = Chart((0.0, furthest * 1.01), SHARES, Ticks(percents, percent_ticks().text),
                  percent_ticks(), title, axis, SMALL)  # fmt: skip
    if band is not None:
        chart.band(band[0].tolist(), band[1][0].tolist(), band[1][1].tolist(), MUTED, 0.2)
    for look, places, values in lines:
        chart.line(
            places.tolist(), values.tolist(), look.colour, look.dashes, look.marker,
            every=max(1, len(places) // 7),
        )  # fmt: skip
    return chart.markup(label)


def training_chart(history: Sequence[Epoch], quantity: str, best_epoch: int, label: str) -> Markup:
    """A quantity of the training, ``loss`` or ``accuracy``, on training and validation images."""
    lines = (
        (quantity, "o", ""), (f"validation_{quantity}", "s", "5 2"),
        (f"fgsm_{quantity}", "^", "1 1.5"), (f"pgd_{quantity}", "D", "5 2 1 2"),
        (f"certified_{quantity}", "v", "3 1"),
    )  # fmt: skip
    drawn = [
        (colour, marker, dashes, values)
        for (field, marker, dashes), colour in zip(lines, SERIES, strict=False)
        if not all(map(math.isnan, values := _values(history, field)))
    ]
    finite = [value for *_, values in drawn for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    margin = 0.05 * (high - low) or 0.05
    epochs = [float(epoch.epoch) for epoch in history]
    y_ticks = round_ticks(low, high, 5)
    if quantity == "accuracy":
        y_ticks = Ticks(y_ticks.values, lambda value: f"{100 * value:.4g}\u202f%")
    chart = Chart(
        (min(epochs) - 0.2, max(epochs) + 0.2), (low - margin, high + margin),
        round_ticks(min(epochs), max(epochs), whole=True), y_ticks, quantity.capitalize(), "epoch",
        SMALL,
    )  # fmt: skip
    for colour, marker, dashes, values in drawn:
        chart.line(epochs, values, colour, dashes, marker, every=max(1, len(epochs) // 20))
    if best_epoch in epochs:
        chart.upright(best_epoch)
    return chart.markup(label)


def _values(history: Sequence[Epoch], field: str) -> list[float]:
    """A quantity by epoch; NaN where it was not measured."""
    found = (getattr(epoch, field, None) for epoch in history)
    return [math.nan if value is None else float(value) for value in found]


def chance_level(chart: Chart, chance: float | None) -> None:
    """Mark the accuracy of guessing, where the number of classes is known."""
    if chance is not None:
        chart.level(chance, f"chance, {100 * chance:.2g}\u202f%")
