"""The search section: a grid's points as a table, as lines across their values, and by cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from harness.results.search import SearchResult, SearchTrial, as_text
from reports.figures import MARKERS, MUTED, RULE, SERIES, SURFACE, inline
from reports.section import Section
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
        """The stand-in of its colour."""
        return SERIES[self.number - 1]

    @property
    def outline(self) -> str:
        """Its marker as the path of a legend key."""
        return MARKERS[self.marker]

    @property
    def linestyle(self) -> Any:
        """Its dashes as Matplotlib takes them."""
        return (0, tuple(map(float, self.dashes.split()))) if self.dashes else "-"


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
    figure = Figure(figsize=(6.6, 3.2))
    axes = figure.add_axes((0.08, 0.14, 0.84, 0.8))
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
        axes.plot(
            heights, color=look.colour, linestyle=look.linestyle, linewidth=look.width,
            alpha=1.0 if look.strong else 0.55,
        )  # fmt: skip
    for place, values in enumerate(choices):
        axes.axvline(place, color=RULE, linewidth=1.0)
        for number, value in enumerate(values):
            axes.annotate(
                value, (place, _height(number, len(values)) + SPREAD / 2), (4, 3),
                textcoords="offset points",
            )  # fmt: skip
    axes.axvline(len(choices), color=RULE, linewidth=1.0)
    for height, score in {0.0: low, 1.0: high}.items() if high > low else {0.5: low}.items():
        axes.annotate(
            f"{100 * score:.1f}\u202f%", (len(choices), height), (5, -3),
            textcoords="offset points",
        )  # fmt: skip
    names = [key.replace("_", " ") for key in result.grid.values]
    axes.set_xticks(range(len(choices) + 1), [*names, "score"])
    axes.set_yticks([])
    axes.set_xlim(-0.05, len(choices) + 0.15)
    axes.set_ylim(-SPREAD, 1.1 + SPREAD / 2)
    label = f"Parallel coordinates: {', '.join(names)} and score of {len(trials)} trials"
    return inline(figure, "search-parallel", label)


def _cost_chart(result: SearchResult, trials: Sequence[SearchTrial]) -> Markup:
    """Validation accuracy against the seconds that a trial took."""
    figure = Figure(figsize=(5.4, 3.0))
    axes = figure.add_axes((0.11, 0.17, 0.86, 0.73))
    for kind, look in reversed(LOOKS.items()):
        chosen = [trial for trial in trials if _kind(trial, result) == kind]
        axes.plot(
            [trial.seconds for trial in chosen], [trial.clean or 0.0 for trial in chosen],
            color=look.colour, marker=look.marker, linestyle="none", markeredgecolor=SURFACE,
            markersize=7.0 if look.strong else 5.0,
        )  # fmt: skip
    axes.set_xlim(left=0.0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol="\u202f%"))
    axes.set_title("Validation accuracy", pad=10)
    axes.set_xlabel("seconds", labelpad=6, color=MUTED)
    label = f"Scatter chart: validation accuracy of {len(trials)} trials against seconds"
    return inline(figure, "search-cost", label)


def _kind(trial: SearchTrial, result: SearchResult) -> str:
    if trial == result.winner:
        return "winner"
    return "default" if trial.default else trial.state


def _height(number: int, count: int) -> float:
    return number / (count - 1) if count > 1 else 0.5


def _content(view: RunView) -> dict[str, Any] | None:
    return {"search": section_of(view.search)} if view.search else None


SECTION = Section("search", "Search", place=130, content=_content, rank=100)
