"""The leaderboard of several runs as a page of its own, which needs nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup, escape

from harness.errors import HarnessError, encoded, printable
from harness.files import replacing
from reports import drawing, room
from reports.figures import AXES, DASHES, MARKERS, SERIES, SHARES, Series
from reports.formats import percent, radius, spread
from reports.page import OBEYED
from reports.ranking import Contest, Entrant, contests
from reports.section import TEMPLATES
from reports.svg import MARKS, Chart, percent_ticks, round_ticks

SHOWN = 6
"""So many curves are drawn at first: as many as there are colours."""
NORMS = {"linf": "L∞", "l2": "L2"}

__all__ = ["Entrant", "page", "write"]


def write(entrants: Sequence[Entrant], out: Path) -> Path:
    """Write the page; an older file is replaced only once the new one is complete.

    Raises:
        HarnessError: There are more runs than a page holds, or none was attacked.
    """
    text = page(entrants)
    with replacing(out) as stream:
        stream.write(encoded(text))
    return out


def page(entrants: Sequence[Entrant]) -> str:
    """The page as HTML.

    It has at most ``room.ONE`` bytes. If it had more, it has details at the headline epsilon alone;
    and if that does not do, the other epsilons are left out.

    Raises:
        HarnessError: There are more runs than a page holds, or none was attacked.
    """
    if len(entrants) > room.MOST:
        raise HarnessError(
            f"{len(entrants)} runs: a leaderboard holds {room.MOST} at most; name fewer of them"
        )
    found = contests(entrants)
    if not found:
        raise HarnessError("none of the runs holds an accuracy under attack; nothing can be ranked")
    charts = [_chart(contest) for contest in found]
    looks = [looks_of(contest) for contest in found]
    shown = [first_of(contest) for contest in found]
    script = (TEMPLATES / "leaderboard.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = ""
    for detail in ("everywhere", "headline", "alone"):
        html = drawing.environment().get_template("leaderboard.html.jinja").render(
            contests=found, charts=charts, looks=looks, shown=shown, norms=NORMS, detail=detail,
            runs=len(entrants), script=Markup(script), script_hash=f"sha256-{digest}",  # noqa: S704
        )  # fmt: skip
        if room.size(html) <= room.ONE:
            break
    return OBEYED.sub(lambda sign: printable(sign[0]), html)


def looks_of(contest: Contest) -> dict[int, Series]:
    """How each entry's curve looks, by its number; the best have the first colours."""
    order = [place.entry.number for place in contest.headline.places]
    order += [entry.number for entry in contest.entries if entry.number not in order]
    labels = {entry.number: entry.label for entry in contest.entries}
    marks = list(MARKERS)
    return {
        number: Series(
            labels[number],
            at % len(SERIES) + 1,
            marks[at % len(marks)],
            DASHES[at // len(SERIES) % len(DASHES)],
        )
        for at, number in enumerate(order)
    }


def first_of(contest: Contest) -> set[int]:
    """The numbers of the entries whose curves are drawn at first."""
    return {place.entry.number for place in contest.headline.places[:SHOWN]}


def _chart(contest: Contest) -> Markup:
    """All curves over each other; the page's style hides those that are not chosen."""
    furthest = max(board.epsilon for board in contest.boards)
    chart = Chart(
        (0.0, furthest * 1.01), SHARES, round_ticks(0.0, furthest), percent_ticks(),
        "Accuracy under all attacks", AXES[contest.norm],
    )  # fmt: skip
    looks = looks_of(contest)
    # The first in rank is drawn last, above the others.
    curves = "".join(
        _curve(chart, contest, number, look) for number, look in reversed(looks.items())
    )
    label = "Line chart: accuracy under all attacks against epsilon, a line for each model"
    whole = str(chart.markup(label))
    return Markup(f"{whole.removesuffix('</svg>')}{curves}</svg>")  # noqa: S704  (escaped)


def _curve(chart: Chart, contest: Contest, number: int, look: Series) -> str:
    """One model's line, and a mark that tells its values at each epsilon."""
    rows = contest.entries[number].curve.rows
    points = [(chart.x(row.epsilon), chart.y(row.accuracy)) for row in rows]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    dashes = f"; stroke-dasharray: {look.dashes}" if look.dashes else ""
    style = f"fill: none; stroke: {look.colour}; stroke-width: 2{dashes}"
    marks = "".join(
        f'<path d="M{x:.1f} {y:.1f}m{MARKS[look.marker][1:]}">'
        f"<title>{escape(look.label)}, ε = {radius(row.epsilon)}: "
        f"{spread(row.lowest, row.highest)} ({percent(row.ci_low)} to {percent(row.ci_high)})"
        "</title></path>"
        for (x, y), row in zip(points, rows, strict=True)
    )
    return (
        f'<g data-curve="{number}"><path d="M{path}" style="{style}"/>'
        f'<g style="fill: {look.colour}; stroke: var(--surface)">{marks}</g></g>'
    )
