"""A chart as inline SVG that follows the page's theme: axes, lines, bands, marks and spots."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from markupsafe import Markup, escape

LEFT, RIGHT, TOP, BOTTOM = 50.0, 10.0, 28.0, 40.0
"""Room around the plot, in units of the view box: for labels of the axes and the title."""
REACH = 9.0
"""Radius in which a spot of a chart reacts."""
NEAR = 0.8
"""Points of a line that are nearer than this lie on each other."""
MARKS = {
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "s": "M-3.5-3.5h7v7h-7z",
    "^": "M0-4.5l4.5 8h-9z",
    "v": "M0 4.5l-4.5-8h9z",
    "D": "M0-5l5 5l-5 5l-5-5z",
}
"""Outlines of marks around the point that they stand on."""


@dataclass(frozen=True)
class Spot:
    """A point of a chart that shows its values when it is pointed at."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Ticks:
    """Where an axis is labelled, and how."""

    values: Sequence[float]
    text: Callable[[float], str]


def percent_ticks() -> Ticks:
    """An axis of shares, from 0 to 100 %."""
    return Ticks((0.0, 0.25, 0.5, 0.75, 1.0), lambda value: f"{100 * value:.0f}\u202f%")


def round_ticks(low: float, high: float, most: int = 6, *, whole: bool = False) -> Ticks:
    """Round numbers between two ends, at most so many; whole ones where nothing lies between."""
    span = high - low if high > low else 1.0
    size = 10.0 ** math.floor(math.log10(span / most))
    step = next(size * by for by in (1.0, 2.0, 2.5, 5.0, 10.0) if span <= most * size * by)
    if whole:
        step = max(1.0, round(step))
    first = math.ceil(low / step - 1e-9)
    values = [round(step * at, 12) for at in range(first, math.floor(high / step + 1e-9) + 1)]
    return Ticks(values, lambda value: f"{value:g}")


@dataclass
class Chart:
    """A plot that is drawn on from back to front.

    Attributes:
        x_range: The data at its left and right end.
        y_range: The data at its lower and upper end.
        x_ticks: Labels below it; None for none.
        y_ticks: Labels beside it, each with a line across; None for none.
        title: What the vertical axis is.
        axis: What the horizontal one is.
        size: Width and height of the view box.
    """

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    x_ticks: Ticks | None = None
    y_ticks: Ticks | None = None
    title: str = ""
    axis: str = ""
    size: tuple[float, float] = (480.0, 250.0)
    _drawn: list[str] = field(default_factory=list)
    _spots: dict[tuple[float, float], list[str]] = field(default_factory=dict)

    def x(self, value: float) -> float:
        """A place along the horizontal axis, in units of the view box."""
        low, high = self.x_range
        return LEFT + (value - low) / (high - low or 1.0) * (self.size[0] - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """A place along the vertical axis, likewise."""
        low, high = self.y_range
        height = self.size[1] - TOP - BOTTOM
        return TOP + height - (value - low) / (high - low or 1.0) * height

    def band(
        self, xs: Iterable[float], lows: Iterable[float], highs: Iterable[float], colour: str,
        opacity: float = 0.16,
    ) -> None:  # fmt: skip
        """What lies between two lines."""
        xs = list(xs)
        edge = [*zip(xs, highs, strict=True), *reversed(list(zip(xs, lows, strict=True)))]
        path = self._path(edge)
        if path:
            self._add(f'<path d="{path}z" style="fill: {colour}; opacity: {opacity}"/>')

    def line(
        self, xs: Sequence[float], ys: Sequence[float], colour: str, dashes: str = "",
        mark: str = "", every: int = 1, width: float = 2.0, opacity: float = 1.0,
    ) -> None:  # fmt: skip
        """A line through points, which breaks at NaN, with marks on every so many of them."""
        points = list(zip(xs, ys, strict=True))
        style = f"fill: none; stroke: {colour}; stroke-width: {width:g}"
        style += f"; stroke-dasharray: {dashes}" if dashes else ""
        style += f"; opacity: {opacity:g}" if opacity < 1 else ""
        self._add(f'<path d="{self._path(points)}" style="{style}"/>')
        if mark:
            self.marks(points[::every], colour, mark)

    def marks(self, points: Iterable[tuple[float, float]], colour: str, mark: str) -> None:
        """Marks at points."""
        path = "".join(
            f"M{self.x(x):.1f} {self.y(y):.1f}m{MARKS[mark][1:]}"
            for x, y in points if math.isfinite(y)
        )  # fmt: skip
        self._add(f'<path d="{path}" style="fill: {colour}; stroke: var(--surface)"/>')

    def level(self, value: float, text: str = "", colour: str = "var(--muted)") -> None:
        """A dashed line across the plot, with its name above its left end."""
        self.line(self.x_range, (value, value), colour, "3 3", width=1.2)
        if text:
            self._text(LEFT + 4, self.y(value) - 4, text)

    def upright(self, value: float, dashes: str = "3 3", colour: str = "var(--muted)") -> None:
        """A line from the lower end of the plot to the upper one."""
        self.line((value, value), self.y_range, colour, dashes, width=1.2)

    def note(
        self, x: float, y: float, text: str, dx: float = 0.0, dy: float = 0.0,
        anchor: str = "start", colour: str = "var(--muted)",
    ) -> None:  # fmt: skip
        """Words beside a point."""
        self._text(self.x(x) + dx, self.y(y) + dy, text, anchor, colour)

    def spot(self, spot: Spot) -> None:
        """Let a point tell its values; those so near that one would cover the other are one."""
        at = (self.x(spot.x), self.y(spot.y))
        near = next((one for one in self._spots if math.dist(one, at) <= REACH), at)
        self._spots.setdefault(near, []).append(spot.text)

    def markup(self, label: str) -> Markup:
        """The SVG element, with its description for readers who cannot see it."""
        width, height = self.size
        circles = "".join(
            f'<circle class="spot" cx="{x:.1f}" cy="{y:.1f}" r="{REACH:g}">'
            f"<title>{_escaped(texts)}</title></circle>"
            for (x, y), texts in self._spots.items()
        )
        return Markup(  # noqa: S704  (what comes from a run is escaped)
            f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(label)}">'
            f"{''.join(self._axes())}{''.join(self._drawn)}{circles}</svg>"
        )

    def _axes(self) -> Iterable[str]:
        width, height = self.size
        foot = height - BOTTOM
        if self.title:
            yield _text(LEFT, 14, self.title)
        for value in self.y_ticks.values if self.y_ticks else ():
            y = self.y(value)
            yield _rule(LEFT, y, width - RIGHT, y)
            yield _text(LEFT - 6, y + 4, self.y_ticks.text(value), "end")  # type: ignore[union-attr]
        yield _rule(LEFT, foot, width - RIGHT, foot)
        for value in self.x_ticks.values if self.x_ticks else ():
            x = self.x(value)
            yield _rule(x, foot, x, foot + 4)
            yield _text(x, foot + 17, self.x_ticks.text(value), "middle")  # type: ignore[union-attr]
        if self.axis:
            yield _text((LEFT + width - RIGHT) / 2, height - 5, self.axis, "middle")

    def _path(self, points: Sequence[tuple[float, float]]) -> str:
        """Through points that are numbers; one that the pen stands on already is left out."""
        path, pen = [], (math.inf, math.inf)
        lifted = True
        for x, y in points:
            if not (math.isfinite(x) and math.isfinite(y)):
                lifted = True
                continue
            at = (self.x(x), self.y(y))
            if lifted or math.dist(at, pen) >= NEAR:
                path.append(f"{'M' if lifted else 'L'}{at[0]:.1f} {at[1]:.1f}")
                pen = at
            lifted = False
        return "".join(path)

    def _text(
        self, x: float, y: float, text: str, anchor: str = "start", colour: str = "var(--muted)"
    ) -> None:
        self._add(_text(x, y, text, anchor, colour))

    def _add(self, element: str) -> None:
        self._drawn.append(element)


def stairs(points: Sequence[tuple[float, float]], *, before: bool) -> list[tuple[float, float]]:
    """The same with a corner between each two: the step comes before the next point, or after."""
    found = list(points[:1])
    for (x, y), (after, then) in pairwise(points):
        found += [(x, then) if before else (after, y), (after, then)]
    return found


def _text(
    x: float, y: float, text: str, anchor: str = "start", colour: str = "var(--muted)"
) -> str:
    aligned = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}"{aligned} style="fill: {colour}">{escape(text)}</text>'


def _rule(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" style="stroke: var(--rule)"/>'


def _escaped(texts: Iterable[str]) -> str:
    return "\n".join(str(escape(text)) for text in texts)
