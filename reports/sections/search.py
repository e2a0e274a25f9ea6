"""The search section: a grid's points as a table, as lines across their values, and by cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from harness.results.search import SearchResult, SearchTrial, as_text
from reports.figures import MARKERS, RULE, SERIES
from reports.formats import percent
from reports.section import Section
from reports.svg import Chart, Ticks, round_ticks
from reports.view import RunView

SPREAD = 0.1
"""Height of the bundle of lines through one value, of the height between the outermost values."""


@dataclass(frozen=True)
class Look:
    """How a kind of trials looks in the charts and the legend."""

    name: str
    number: int
    marker: str
    dashes: str = ""
    width: float = 1.0
    strong: bool = False

    @property
    def colour(self) -> str:
        """Its colour, as the theme has it."""
        return SERIES[self.number - 1]

    @property
    def outline(self) -> str:
        """Its marker as the path of a legend key."""
        return MARKERS[self.marker]


# The most telling first.
LOOKS = {
    "winner": Look("best", 2, "D", width=2.4, strong=True),
    "default": Look("the spec's own", 3, "s", "5 2", width=2.0, strong=True),
    "complete": Look("complete", 1, "o"),
    "pruned": Look("pruned", 6, "^", "1 2"),
}


@dataclass(frozen=True)
class Search:
    """What the section shows.

    Attributes:
        result: The search.
        columns: The searched parameters, for people.
        rows: Each trial with the values of its parameters, best first.
        looks: Those of the kinds of trials that are drawn.
        parallel: The chart of all trials across their values; None if none has a score.
        cost: The chart of accuracy against training time; None likewise.
    """

    result: SearchResult
    columns: list[str]
    rows: list[tuple[SearchTrial, list[str]]]
    looks: list[Look]
    parallel: Markup | None
    cost: Markup | None


def section_of(result: SearchResult) -> Search:
    """The section of a search."""
    scored = [trial for trial in result.trials if trial.score is not None]
    drawn = scored if result.default in scored or result.default.score is None else [
        *scored, result.default,
    ]  # fmt: skip
    kinds = [_kind(trial, result) for trial in drawn]
    return Search(
        result=result,
        columns=[key.replace("_", " ") for key in result.grid.values],
        rows=[(trial, trial.parameters.texts) for trial in result.trials],
        looks=[look for kind, look in LOOKS.items() if kind in kinds],
        parallel=_parallel_chart(result, scored) if scored else None,
        cost=_cost_chart(result, drawn) if drawn else None,
    )


def _parallel_chart(result: SearchResult, trials: Sequence[SearchTrial]) -> Markup:
    """A line per trial from value to value and to its score; all are points of the grid."""
    choices = [[as_text(value) for value in values] for values in result.grid.values.values()]
    scores = [trial.score or 0.0 for trial in trials]
    low, high = min(scores), max(scores)
    names = [key.replace("_", " ") for key in result.grid.values]
    chart = Chart(
        (-0.05, len(choices) + 0.15), (-SPREAD, 1.1 + SPREAD / 2),
        Ticks(range(len(choices) + 1), lambda place: [*names, "score"][int(place)]),
        size=(640.0, 300.0),
    )  # fmt: skip
    # The best come last, and lie on top.
    for rank, (trial, score) in enumerate(zip(reversed(trials), reversed(scores), strict=True)):
        # Lines through the same value lie side by side, the better ones higher.
        aside = SPREAD * (_height(rank, len(trials)) - 0.5)
        heights = [
            _height(values.index(value), len(values)) + aside
            for values, value in zip(choices, trial.parameters.texts, strict=True)
        ]
        heights.append((score - low) / (high - low) if high > low else 0.5)
        look = LOOKS[_kind(trial, result)]
        chart.line(
            range(len(heights)), heights, look.colour, look.dashes, width=look.width,
            opacity=1.0 if look.strong else 0.55,
        )  # fmt: skip
    for place, values in enumerate(choices):
        chart.upright(place, "", RULE)
        for number, value in enumerate(values):
            chart.note(place, _height(number, len(values)) + SPREAD / 2, value, 5, -3)
    chart.upright(len(choices), "", RULE)
    for height, score in {0.0: low, 1.0: high}.items() if high > low else {0.5: low}.items():
        chart.note(len(choices), height, percent(score), -6, -4, "end")
    return chart.markup(
        f"Parallel coordinates: {', '.join(names)} and score of {len(trials)} trials"
    )


def _cost_chart(result: SearchResult, trials: Sequence[SearchTrial]) -> Markup:
    """Validation accuracy against the seconds that a trial took."""
    accuracies = [trial.clean or 0.0 for trial in trials]
    low, high = min(accuracies), max(accuracies)
    margin = 0.05 * (high - low) or 0.05
    slowest = max(trial.seconds for trial in trials) or 1.0
    ticks = round_ticks(100 * low, 100 * high, 5)
    chart = Chart(
        (0.0, slowest * 1.03), (low - margin, high + margin), round_ticks(0.0, slowest),
        Ticks([value / 100 for value in ticks.values], lambda value: f"{100 * value:.4g}\u202f%"),
        "Validation accuracy", "seconds",
    )  # fmt: skip
    for kind, look in reversed(LOOKS.items()):
        chosen = [trial for trial in trials if _kind(trial, result) == kind]
        chart.marks(
            [(trial.seconds, trial.clean or 0.0) for trial in chosen], look.colour, look.marker
        )
    return chart.markup(
        f"Scatter chart: validation accuracy of {len(trials)} trials against seconds"
    )


def _kind(trial: SearchTrial, result: SearchResult) -> str:
    if trial == result.winner:
        return "winner"
    return "default" if trial.default else trial.state


def _height(number: int, count: int) -> float:
    return number / (count - 1) if count > 1 else 0.5


def _content(view: RunView) -> dict[str, Any] | None:
    return {"search": section_of(view.search)} if view.search else None


SECTION = Section("search", "Search", place=130, content=_content, rank=100,
                  learn="learn/grid-search")  # fmt: skip
