"""Charts as inline SVG that follows the page's theme, drawn by Matplotlib without pyplot."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from harness.results.records import Epoch
from reports import tables
from reports.formats import interval, percent
from reports.stored import FloatArray, Pair

# Matplotlib knows no CSS variables, so each stands in as a colour that nothing else uses.
MUTED, RULE, SURFACE = "#010204", "#010205", "#010206"
SERIES = tuple(f"#0102{number:02x}" for number in range(0x10, 0x16))
CSS_COLOURS = {MUTED: "var(--muted)", RULE: "var(--rule)", SURFACE: "var(--surface)"}
CSS_COLOURS |= {colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)}

STYLE = {
    "svg.fonttype": "none",  # text stays text: readable aloud, selectable, in the page's font
    "svg.hashsalt": "report",  # the same run gives the same ids
    "text.parse_math": False,
    "font.size": 8.5,
    "text.color": MUTED,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": MUTED,
    "grid.color": RULE,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "lines.linewidth": 1.6,
    "lines.markersize": 5.0,
    "lines.markeredgewidth": 0.8,
}
MARKERS = {
    "o": "M21 7a4 4 0 1 0-8 0a4 4 0 1 0 8 0z",
    "s": "M13.5 3.5h7v7h-7z",
    "^": "M17 2.5l4.5 8h-9z",
    "D": "M17 2l5 5l-5 5l-5-5z",
}
"""Matplotlib's markers, and their outlines in the 34 × 14 key of a legend."""
AXES = {"linf": "ε, the largest change of a pixel", "l2": "ε, the L2 length of the change"}
REACH = 7.0
"""Radius in points in which a spot of a chart reacts."""
DASHES = ("", "5 2", "1.5 1.5", "6 2 1.5 2")


@dataclass(frozen=True)
class Spot:
    """A point of a chart that shows its values when it is pointed at."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Series:
    """How a line looks in a chart and its legend: by colour, and by marker and dashes as well."""

    label: str
    number: int
    marker: str
    dashes: str

    @property
    def colour(self) -> str:
        """The stand-in of its colour."""
        return SERIES[self.number - 1]

    @property
    def outline(self) -> str:
        """Its marker as the path of a legend key."""
        return MARKERS[self.marker]

    @property
    def linestyle(self) -> Any:
        """Its dashes as Matplotlib takes them."""
        return (0, tuple(float(length) for length in self.dashes.split())) if self.dashes else "-"


def axis_of(frame: pd.DataFrame) -> str:
    """What the epsilons of an attack's measurements are."""
    return AXES.get(str(frame["norm"].iloc[0]), AXES["linf"])


def styled() -> AbstractContextManager[None]:
    """Within this context charts are drawn; entering it takes about as long as drawing one."""
    context: AbstractContextManager[None] = style.context(["default", STYLE])
    return context


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
    name: str,
    label: str,
) -> Markup:
    """Accuracy against epsilon with interval bands.

    Args:
        lines: What each line looks like, and its measurements by rising epsilon.
        chance: Accuracy of guessing, or None where the number of classes is not known.
        axis: What epsilon is.
        name: Prefix of the ids within the figure, unique on the page.
        label: Its description for readers who cannot see the chart.
    """
    figure = Figure(figsize=(5.4, 3.0))
    axes = figure.add_axes((0.1, 0.17, 0.88, 0.73))
    for look, rows in lines:
        axes.fill_between(
            rows["epsilon"], rows["ci_low"], rows["ci_high"], color=look.colour, alpha=0.16, lw=0
        )
        axes.plot(
            rows["epsilon"], rows["accuracy"], color=look.colour, linestyle=look.linestyle,
            marker=look.marker, markeredgecolor=SURFACE,
        )  # fmt: skip
    chance_line(axes, chance)
    share_axis(axes)
    axes.set_title("Accuracy", pad=10)
    axes.set_xlabel(axis, labelpad=6)
    axes.margins(x=0.02)
    spots = [
        Spot(
            row.epsilon,
            row.accuracy,
            f"{look.label}, ε = {row.epsilon:g}: {percent(row.accuracy)} ({interval(row)})",
        )
        for look, rows in lines
        for row in tables.rows_of(rows)
    ]
    return inline(figure, name, label, spots)


def robust_chart(
    lines: Sequence[tuple[Series, FloatArray]], limit: float, name: str, label: str
) -> Markup:
    """The share of images not misclassified up to an epsilon, from the smallest of each."""
    figure = Figure(figsize=(5.4, 3.0))
    axes = figure.add_axes((0.1, 0.17, 0.88, 0.73))
    for look, smallest in lines:
        places = np.linspace(0, limit, 200)
        robust = (smallest[None] > places[:, None]).mean(axis=1)
        axes.plot(
            places, robust, color=look.colour, linestyle=look.linestyle, marker=look.marker,
            markevery=20, markeredgecolor=SURFACE,
        )  # fmt: skip
    share_axis(axes)
    axes.set_title("Images not misclassified yet", pad=10)
    axes.set_xlabel(AXES["linf"], labelpad=6)
    axes.margins(x=0.02)
    return inline(figure, name, label)


def share_chart(
    lines: Sequence[tuple[Series, FloatArray, FloatArray]],
    title: str,
    axis: str,
    name: str,
    label: str,
    band: tuple[FloatArray, FloatArray] | None = None,
) -> Markup:
    """Shares against shares: each line with its abscissae and ordinates, in [0, 1].

    A band is drawn from abscissae (n,) and its lower and upper ends (2, n).
    """
    figure = Figure(figsize=(4.0, 2.7))
    axes = figure.add_axes((0.125, 0.19, 0.83, 0.68))
    if band is not None:
        axes.fill_between(band[0], *band[1], color=MUTED, alpha=0.2, lw=0)
    for look, places, values in lines:
        axes.plot(
            places, values, color=look.colour, linestyle=look.linestyle, marker=look.marker,
            markevery=max(1, len(places) // 7), markersize=4.2, markeredgecolor=SURFACE,
        )  # fmt: skip
    share_axis(axes)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol="\u202f%"))
    axes.set_title(title, pad=9)
    axes.set_xlabel(axis, labelpad=5)
    axes.margins(x=0.02)
    return inline(figure, name, label)


def training_chart(
    history: Sequence[Epoch], quantity: str, best_epoch: int, name: str, label: str
) -> Markup:
    """A quantity of the training, ``loss`` or ``accuracy``, on training and validation images."""
    figure = Figure(figsize=(4.0, 2.5))
    axes = figure.add_axes((0.125, 0.2, 0.85, 0.66))
    epochs = [epoch.epoch for epoch in history]
    lines = (
        (quantity, "o", "-"), (f"validation_{quantity}", "s", (0, (5, 2))),
        (f"fgsm_{quantity}", "^", (0, (1, 1.5))), (f"pgd_{quantity}", "D", (0, (5, 2, 1, 2))),
        (f"certified_{quantity}", "v", (0, (3, 1))),
    )  # fmt: skip
    for (field, marker, dashes), colour in zip(lines, SERIES, strict=False):
        values = [getattr(epoch, field, None) for epoch in history]
        if all(value is None for value in values):
            continue
        finite = [math.nan if v is None or not math.isfinite(v) else v for v in values]
        axes.plot(
            epochs, finite, color=colour, linestyle=dashes, marker=marker, markersize=3.8,
            markeredgecolor=SURFACE, markeredgewidth=0.6,
        )  # fmt: skip
    if best_epoch in epochs:
        axes.axvline(best_epoch, color=MUTED, linewidth=1.0, linestyle=(0, (2, 2)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if quantity == "accuracy":
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol="\u202f%"))
    axes.set_title(quantity.capitalize(), pad=9)
    axes.set_xlabel("epoch", labelpad=5)
    return inline(figure, name, label)


def chance_line(axes: Axes, chance: float | None) -> None:
    """Mark the accuracy of guessing, where the number of classes is known."""
    if chance is None:
        return
    axes.axhline(chance, color=MUTED, linewidth=1.0, linestyle=(0, (2, 2)))
    axes.annotate(
        f"chance, {100 * chance:.2g}\u202f%",
        (0.0, chance), (3, 4), xycoords=("axes fraction", "data"), textcoords="offset points",
    )  # fmt: skip


def share_axis(axes: Axes) -> None:
    """Let the vertical axis run from 0 to 100 %, with room for markers at its ends."""
    axes.set_ylim(-0.02, 1.03)
    axes.set_yticks([0.0, 0.25, 0.5, 0.75, 1.0])
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol="\u202f%"))


def inline(figure: Figure, name: str, label: str, spots: Sequence[Spot] = ()) -> Markup:
    """A figure as an SVG element that can stand beside others in an HTML page.

    Args:
        figure: The figure.
        name: Prefix of the ids within it, unique on the page.
        label: Its description for readers who cannot see it.
        spots: Points of its first axes that show values when they are pointed at.
    """
    figure.patch.set_alpha(0.0)
    for axes in figure.axes:
        axes.patch.set_alpha(0.0)
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(stream.getvalue())  # noqa: S314  (made on the line above)
    for parent in list(root.iter()):
        for child in list(parent):
            # A <style> within an inline SVG would style the whole page.
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(key): _adapted(_local(key), value, name) for key, value in element.items()
        }
    root.extend(_targets(figure, spots))
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": label}
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704  (escaped above)


def _targets(figure: Figure, spots: Sequence[Spot]) -> list[ElementTree.Element]:
    """Invisible circles around spots, with a title that browsers show by themselves.

    Spots so near that one circle would cover the other share one.
    """
    points = 72 / figure.dpi
    height = figure.get_figheight() * 72
    told: dict[tuple[float, float], list[str]] = {}
    for spot in spots:
        x, y = (figure.axes[0].transData.transform((spot.x, spot.y)) * points).tolist()
        near = next((at for at in told if math.dist(at, (x, y)) <= REACH), (x, y))
        told.setdefault(near, []).append(spot.text)
    circles = []
    for (x, y), texts in told.items():
        circle = ElementTree.Element(
            "circle",
            {"class": "spot", "cx": f"{x:.1f}", "cy": f"{height - y:.1f}", "r": f"{REACH:g}"},
        )
        ElementTree.SubElement(circle, "title").text = "\n".join(texts)
        circles.append(circle)
    return circles


def _local(name: str) -> str:
    """A name without its namespace, which inline SVG does without."""
    return name.rpartition("}")[2]


def _adapted(key: str, value: str, name: str) -> str:
    """An attribute with theme colours, and with ids that are unique on the page."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    value = re.sub(r"url\(#", f"url(#{name}-", value)
    return re.sub(r"#0102[0-9a-f]{2}", lambda found: CSS_COLOURS[found[0]], value)
