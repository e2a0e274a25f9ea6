"""Assemble the page of a run and write it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from harness.records import ModelInfo, Run, replacing
from harness.search_result import SearchResult
from reports import figures, gallery, minimal, saliency, stored, tables
from reports.figures import Series
from reports.search import section_of
from reports.stored import Pair

NOTHING = "—"
SYMBOLS = {"failed": "✗", "error": "!", "skipped": "–", "passed": "✓", "measured": "·"}
SPACE = "\u202f"
"""Between a number and its percent sign, where no line may break."""


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, its heading, and whether the run holds anything for it."""

    id: str
    title: str
    present: bool


@dataclass(frozen=True)
class Sweep:
    """An attack's accuracies as a chart and a table."""

    attack: str
    chart: Markup
    series: list[Series]
    accuracies: tables.Grid


@dataclass(frozen=True)
class Rungs:
    """What one norm's attacks do to one pair: a chart, and a table of attacks by epsilons."""

    norm: str
    chart: Markup
    series: list[Series]
    epsilons: list[float]
    cells: dict[tuple[str, float], Any]
    lowest: set[tuple[str, float]]


@dataclass(frozen=True)
class Ladder:
    """All attacks on one pair."""

    pair: Pair
    rungs: list[Rungs]


@dataclass(frozen=True)
class Training:
    """The training of one model."""

    pair: Pair
    info: ModelInfo
    charts: list[Markup]
    collapsed: list[int]


def write(run: Run, out: Path, search: SearchResult | None = None) -> Path:
    """Write the page of a run; an older file is replaced only once the new one is complete."""
    text = page(run, search)
    with replacing(out) as stream:
        # A run may hold text that is no Unicode, such as half a surrogate pair.
        stream.write(text.encode("utf-8", "replace"))
    return out


def page(run: Run, search: SearchResult | None = None) -> str:
    """The page of a run, as HTML, with a section on a search if there was one."""
    with figures.styled():
        content = _content(run, search)
    return _environment().get_template("report.html.jinja").render(content)


@cache
def _environment() -> jinja2.Environment:
    """Templates that escape whatever they print, and break on a name that is not there."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        # Jinja's own default is to escape nothing, whatever the file is called.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent, "interval": interval, "threshold": threshold, "number": number,
        "words": words,
    }  # fmt: skip
    environment.globals |= {"symbols": SYMBOLS, "nothing": NOTHING}
    return environment


def _content(run: Run, search: SearchResult | None) -> dict[str, Any]:
    """Everything that the templates print."""
    frame, order = tables.measurements(run), stored.pairs(run)
    series, sweeps = figures.series_of(order), tables.sweeps(frame)
    attack = next(iter(sweeps), None)
    epsilons = sweeps[attack]["epsilon"].unique().tolist() if attack else []
    middle = tables.middle_epsilon(epsilons)
    top = _fraction(stored.spec_value(run, "saliency", "top"))
    accuracy_checks, validity_checks, other_checks = tables.judged(frame)
    matrices = [(pair, _confusions(run, pair, attack, middle)) for pair in order]
    galleries = [gallery.gallery_of(run, pair, attack or "", epsilons) for pair in order]
    content: dict[str, Any] = {
        "run": run,
        "title": str(stored.spec_value(run, "name") or "unnamed spec"),
        "description": str(stored.spec_value(run, "description") or ""),
        "seeds": _seeds(run),
        "counts": tables.status_counts(frame),
        "reasons": tables.verdict_reasons(run, frame),
        "concerns": tables.concerns(frame),
        "attack": attack,
        "middle": middle,
        "key_figures": tables.key_figures(frame, order, attack, middle),
        "sweeps": _sweeps(run, sweeps, series),
        "ladders": _ladders(run, frame, order),
        "minimal": minimal.section_of(run, series),
        "accuracy_checks": tables.per_pair(accuracy_checks, order),
        "validity_checks": tables.grid(validity_checks, order, "check"),
        "other_checks": tables.grid(other_checks, order, "check"),
        "confusions": [(pair, shown) for pair, shown in matrices if shown],
        "examples": [one for one in galleries if one],
        "saliency": saliency.section_of(run, frame, order, top),
        "saliency_epsilon": _number(stored.spec_value(run, "saliency", "epsilon")),
        "measure_names": list(saliency.MEASURES.values()),
        "shares": saliency.COVERED,
        "occlusion": tables.grid(tables.occlusion(frame), order, "check"),
        "occlusion_names": tables.OCCLUSIONS,
        "clean": tables.by_pair(frame[(frame["check"] == "clean") & frame["accuracy"].notna()]),
        "top": top,
        "defended": any(e.pgd_accuracy is not None for m in run.models for e in m.history),
        "trainings": [
            _training(info, place) for place, info in enumerate(run.models) if info.history
        ],
        "search": section_of(search) if search else None,
        "origins": tables.origins(run),
    }
    return content | {"sections": _sections(content)}


def _sections(content: dict[str, Any]) -> list[Section]:
    """The parts of the page, in order."""
    occlusion: tables.Grid = content["occlusion"]
    return [
        Section("accuracy", "Accuracy under attack", bool(content["sweeps"])),
        # What not every run has, and none lacks, is not named where it is absent.
        *([Section("minimal", "Smallest epsilon", True)] if content["minimal"] else []),
        Section("thresholds", "Thresholds", bool(content["accuracy_checks"])),
        *([Section("validity", "Validity", True)] if content["validity_checks"].rows else []),
        Section("conformance", "Conformance", bool(content["other_checks"].rows)),
        Section("confusion", "Confusion matrices", bool(content["confusions"])),
        Section("examples", "Example images", bool(content["examples"])),
        Section("saliency", "Saliency", bool(content["saliency"] or occlusion.rows)),
        Section("training", "Training", bool(content["trainings"])),
        *([Section("search", "Search", True)] if content["search"] else []),
        Section("provenance", "Provenance", True),
    ]


def _sweeps(run: Run, sweeps: dict[str, pd.DataFrame], series: dict[Pair, Series]) -> list[Sweep]:
    """A chart and a table for each attack."""
    found = []
    for place, (attack, frame) in enumerate(sweeps.items()):
        accuracies = tables.grid(frame, list(series), "epsilon")
        lines = [(series[pair], tables.of_pair(frame, pair)) for pair in accuracies.pairs]
        chart = figures.accuracy_chart(
            lines, _chance(run), _axis(frame), f"sweep{place}",
            f"Line chart: accuracy under {attack} against epsilon, for "
            + ", ".join(look.label for look, _ in lines),
        )  # fmt: skip
        found.append(Sweep(attack, chart, [look for look, _ in lines], accuracies))
    return found


def _ladders(run: Run, frame: pd.DataFrame, order: list[Pair]) -> list[Ladder]:
    """For each pair that met several attacks, all of them side by side, a norm at a time."""
    measured = frame.dropna(subset=["epsilon", "accuracy"])
    looks = figures.ladder_of(list(dict.fromkeys(measured["check"].astype(str))))
    found = []
    for place, pair in enumerate(order):
        mine = tables.of_pair(measured, pair)
        rungs = [
            _rungs(run, norm, part, looks, f"ladder{place}-{norm}", pair)
            for norm in figures.AXES
            if (part := mine[mine["norm"] == norm])["check"].nunique() > 0
        ]
        if mine["check"].nunique() > 1:
            found.append(Ladder(pair, rungs))
    return found


def _rungs(
    run: Run,
    norm: str,
    frame: pd.DataFrame,
    looks: dict[str, Series],
    name: str,
    pair: Pair,
) -> Rungs:
    attacks = list(dict.fromkeys(frame["check"].astype(str)))
    lines = [
        (looks[attack], frame[frame["check"] == attack].sort_values("epsilon"))
        for attack in attacks
    ]
    chart = figures.accuracy_chart(
        lines, _chance(run), figures.AXES[norm], name,
        f"Line chart: accuracy of {pair.label} against epsilon, under " + ", ".join(attacks),
    )  # fmt: skip
    cells = {(row.check, row.epsilon): row for row in tables.rows_of(frame)}
    attacked = frame[frame["epsilon"] > 0]
    least = attacked.groupby("epsilon")["accuracy"].transform("min")
    lowest = attacked[attacked["accuracy"] <= least]
    return Rungs(
        norm={"linf": "L∞", "l2": "L2"}[norm],
        chart=chart,
        series=[look for look, _ in lines],
        epsilons=sorted({epsilon for _, epsilon in cells}),
        cells=cells,
        lowest={(row.check, row.epsilon) for row in tables.rows_of(lowest)},
    )


def _axis(frame: pd.DataFrame) -> str:
    """What the epsilons of an attack are."""
    return figures.AXES.get(str(frame["norm"].iloc[0]), figures.AXES["linf"])


def _chance(run: Run) -> float | None:
    """Accuracy of guessing, if the number of classes is known."""
    names = stored.class_names(run)
    return 1 / len(names) if names else None


def _confusions(
    run: Run, pair: Pair, attack: str | None, epsilon: float | None
) -> list[tables.Confusion]:
    """The confusion matrix of the clean images, and of those under attack, as far as stored."""
    confusion = partial(tables.confusion, run, pair)
    shown = [confusion("clean", "Clean images")]
    if attack is not None and epsilon is not None:
        shown.append(confusion(stored.stem(attack, epsilon), f"{attack} at ε = {epsilon:g}"))
    return [matrix for matrix in shown if matrix]


def _training(info: ModelInfo, place: int) -> Training:
    """The training curves of one model."""
    pair = Pair(info.backend, info.target)
    charts = [
        figures.training_chart(
            info.history, quantity, info.best_epoch, f"training{place}-{quantity}",
            f"Line chart: {quantity} of {pair.label} by epoch, in training and validation",
        )
        for quantity in ("loss", "accuracy")
    ]  # fmt: skip
    collapsed = [epoch.epoch for epoch in info.history if epoch.collapsed]
    return Training(pair, info, charts, collapsed)


def _seeds(run: Run) -> list[tuple[str, str]]:
    """The seeds that the spec sets, with what they are for."""
    found = {
        "seed": stored.spec_value(run, "seed"),
        "seed of the split": stored.spec_value(run, "data", "seed"),
    }
    return [(name, str(value)) for name, value in found.items() if value is not None]


def _fraction(value: object) -> float | None:
    """A number that can be a share of the pixels."""
    return float(value) if isinstance(value, (int, float)) and 0 < value <= 1 else None


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def percent(value: float | None, digits: int = 1) -> str:
    """An accuracy for people: ``93.1 %``."""
    if value is None or not math.isfinite(value):
        return NOTHING
    return f"{100 * value:.{digits}f}{SPACE}%"


def interval(row: Any) -> str:
    """The interval of a measurement, in percent: ``92.6–93.6``."""
    ends = (row.ci_low, row.ci_high)
    return (
        "–".join(f"{100 * end:.1f}" for end in ends) if all(map(math.isfinite, ends)) else NOTHING
    )


def threshold(bounds: tuple[float | None, float | None] | None) -> str:
    """What passes, in percent: ``95–100 %``, ``≥ 90 %`` or ``≤ 30 %``."""
    low, high = bounds if isinstance(bounds, tuple) else (None, None)
    if low is None and high is None:
        return NOTHING
    if low is None:
        return f"≤ {number(high, 100)}{SPACE}%"
    if high is None:
        return f"≥ {number(low, 100)}{SPACE}%"
    return f"{number(low, 100)}–{number(high, 100)}{SPACE}%"


def number(value: float | None, factor: int = 1) -> str:
    """A number without needless digits."""
    return NOTHING if value is None or not math.isfinite(value) else f"{factor * value:.6g}"


def words(name: str) -> str:
    """A name as it is written: ``gradient × input``."""
    return name.replace("-x-", " × ").replace("-", " ").replace("_", " ")
