"""Assemble the page of one run, or of several side by side, and write it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from harness.errors import BIDI, HarnessError, encoded, printable
from harness.files import replacing
from harness.gate import Comparison
from harness.results.records import ModelInfo
from harness.results.run import Run
from harness.results.search import SearchResult
from harness.saliency.topk import SHARES
from reports import figures, formats, room, stored, tables  # fmt: skip
from reports.sections import (
    attacks,
    backends,
    baseline,
    classes,
    downloads,
    gallery,
    minimal,
    runs,
    saliency,
    speed,
)
from reports.sections.search import section_of
from reports.stored import Pair

SYMBOLS = {"failed": "✗", "error": "!", "skipped": "–", "passed": "✓", "measured": "·"}
TEMPLATES = Path(__file__).parent / "templates"
CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
OBEYED = re.compile(f"[{CONTROLS}{''.join(BIDI)}]")
"""Signs of a name or reason that would do something instead of being seen; they are escaped."""
PADDED = 105
"""Percent of its size that a section of several runs takes, with prefixes before its ids."""


@dataclass(frozen=True)
class Source:
    """What a page is made of.

    Attributes:
        run: What was measured.
        name: What the run is called where there are several.
        search: A search over the grid of its spec, which gets a section.
        comparison: The run held against a baseline, likewise.
    """

    run: Run
    name: str = ""
    search: SearchResult | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Section:
    """A part of the page: its anchor, its heading, and whether the run holds anything for it."""

    id: str
    title: str
    present: bool


@dataclass(frozen=True)
class Chapter:
    """All sections of one run.

    Attributes:
        name: What the run is called where there are several.
        prefix: What the ids of its sections begin with.
        verdict: ``failed`` if a check of the run or its comparison with a baseline failed, else
            ``measured`` if nothing judged its accuracies, else ``passed``.
        title: Name of the spec.
        sections: Those that are there.
        body: Their HTML.
    """

    name: str
    prefix: str
    verdict: str
    title: str
    sections: list[Section]
    body: Markup


@dataclass(frozen=True)
class Training:
    """The training of one model."""

    pair: Pair
    info: ModelInfo
    charts: list[Markup]
    collapsed: list[int]


def write(sources: Sequence[Source], out: Path) -> Path:
    """Write the page; an older file is replaced only once the new one is complete."""
    text = page(sources)
    with replacing(out) as stream:
        stream.write(encoded(text))
    return out


def page(sources: Sequence[Source]) -> str:
    """The page as HTML. Of several runs each has a chapter, after one that compares them.

    It has at most ``room.ONE`` bytes, or ``room.SEVERAL``; sections without room are named.

    Raises:
        HarnessError: There are more runs than a page holds.
    """
    if len(sources) > room.MOST:
        raise HarnessError(
            f"{len(sources)} runs: a report holds {room.MOST} at most; name fewer of them"
        )
    several = len(sources) > 1
    with figures.styled():
        beside = _beside(sources) if several else []
        space = room.of_each(len(sources), room.size("".join(beside)))
        chapters = [
            _chapter(source, f"run{place}-" if several else "", space)
            for place, source in enumerate(sources, start=1)
        ]
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = _environment().get_template("report.html.jinja").render(
        chapters=chapters, beside=beside, sources=sources, script=Markup(script),  # noqa: S704  (ours)
        script_hash=f"sha256-{digest}",
    )  # fmt: skip
    return OBEYED.sub(lambda sign: printable(sign[0]), html)


@cache
def _environment() -> jinja2.Environment:
    """Templates that escape whatever they print, and break on a name that is not there."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        # Jinja's own default is to escape nothing, whatever the file is called.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": formats.percent, "interval": formats.interval, "threshold": formats.threshold,
        "number": formats.number, "words": formats.words, "points": formats.points,
        "code": formats.code,
    }  # fmt: skip
    environment.globals |= {"symbols": SYMBOLS, "nothing": formats.NOTHING}
    return environment


def _beside(sources: Sequence[Source]) -> list[Markup]:
    """What compares the runs, a block for each model, as far as half of the page has room."""
    names, measured = [source.name for source in sources], [source.run for source in sources]
    template = _environment().get_template("beside.html.jinja")
    blocks = [
        template.render(found=found, names=names, first=place == 0)
        for place, found in enumerate(runs.side_by_side(names, measured))
    ]
    kept = room.kept({str(place): room.size(one) for place, one in enumerate(blocks)},
                     room.SEVERAL // 2)  # fmt: skip
    return [Markup(one) for place, one in enumerate(blocks) if str(place) in kept]  # noqa: S704


def _chapter(source: Source, prefix: str, space: int) -> Chapter:
    content = _content(source) | {"name": source.name if prefix else "", "left_out": []}
    sections = _sections(content)
    environment = _environment()
    bodies = {
        section.id: environment.get_template(f"{section.id}.html.jinja").render(content)
        for section in sections
        if section.present
    }
    if room.size("".join(bodies.values())) > space:
        # The numbers lie beside the run, and what is left without them is a quarter of a page.
        bodies["provenance"] = environment.get_template("provenance.html.jinja").render(
            content | {"downloads": []}
        )
    heads = environment.get_template("verdict.html.jinja")
    head = heads.render(content | {"sections": sections})
    sizes = {name: PADDED * room.size(body) // 100 for name, body in bodies.items()}
    kept = room.kept(sizes, space - 2 * room.size(head))
    content["left_out"] = [s.title for s in sections if s.present and s.id not in kept]
    head = heads.render(content | {"sections": sections})
    if 2 * room.size(head) > space:
        head = heads.render(
            content | {"sections": [], "concerns": [], "key_figures": [], "description": ""}
        )
    shown = [section for section in sections if section.id in kept]
    body = head + environment.get_template("run.html.jinja").render(
        sections=shown, bodies={name: Markup(html) for name, html in bodies.items()}  # noqa: S704
    )  # fmt: skip
    return Chapter(
        source.name, prefix, content["verdict"], content["title"], shown,
        Markup(_distinct(body, prefix) if prefix else body),  # noqa: S704  (a template escaped it)
    )  # fmt: skip


def _distinct(body: str, prefix: str) -> str:
    """A chapter whose ids and references to them begin with a prefix.

    What stands in angle brackets is a tag for certain, and what it quotes an attribute: elsewhere
    these signs are escaped.
    """

    def marked(tag: re.Match[str]) -> str:
        return re.sub(
            r' ((?:id|for|aria-labelledby)="|href="#|clip-path="url\(#)', rf" \1{prefix}", tag[0]
        )

    return re.sub(r"<[^<>]+>", marked, body)


def _content(source: Source) -> dict[str, Any]:
    """Everything that the templates print of a run."""
    run = source.run
    frame, order = tables.measurements(run), stored.pairs(run)
    series, sweeps = figures.series_of(order), tables.sweeps(frame)
    attack = next(iter(sweeps), None)
    epsilons = sweeps[attack]["epsilon"].unique().tolist() if attack else []
    shown = tables.headline_epsilon(frame)
    top = _fraction(stored.spec_value(run, "saliency", "top"))
    accuracy_checks, validity_checks, other_checks = tables.judged(frame)
    confusions = [classes.confusions_of(run, p, attack or "", epsilons, shown) for p in order]
    per_class = [classes.per_class_of(run, p, attack or "", epsilons) for p in order]
    galleries = [gallery.gallery_of(run, pair, attack or "", epsilons) for pair in order]
    return {
        "run": run,
        "verdict": _verdict(source),
        "title": str(stored.spec_value(run, "name") or "unnamed spec"),
        "description": str(stored.spec_value(run, "description") or ""),
        "seeds": _seeds(run),
        "counts": tables.status_counts(frame),
        "reasons": tables.verdict_reasons(run, frame),
        "concerns": tables.concerns(frame),
        "attack": attack,
        "shown_epsilon": shown,
        "key_figures": tables.key_figures(frame, order, attack, shown),
        "sweeps": attacks.sweeps_of(run, sweeps, series),
        "ladders": attacks.ladders_of(run, frame, order),
        "minimal": minimal.section_of(run, series),
        "extremes": minimal.extremes_of(run, order),
        "accuracy_checks": tables.per_pair(accuracy_checks, order),
        "validity_checks": tables.grid(validity_checks, order, "check"),
        "other_checks": tables.grid(other_checks, order, "check"),
        "meanings": tables.meanings(),
        "across": backends.across(run, frame, order),
        "confusions": [one for one in confusions if one],
        "per_class": [one for one in per_class if one],
        "examples": [one for one in galleries if one],
        "saliency": saliency.section_of(run, frame, order, top),
        "saliency_epsilon": _number(stored.spec_value(run, "saliency", "epsilon")),
        "measure_names": list(saliency.MEASURES.values()),
        "shares": SHARES,
        "occlusion": tables.grid(tables.occlusion(frame), order, "check"),
        "occlusion_names": tables.OCCLUSIONS,
        "clean": tables.by_pair(frame[(frame["check"] == "clean") & frame["accuracy"].notna()]),
        "top": top,
        "defended": any(e.pgd_accuracy is not None for m in run.models for e in m.history),
        "trainings": [
            _training(info, place) for place, info in enumerate(run.models) if info.history
        ],
        "search": section_of(source.search) if source.search else None,
        "against": baseline.section_of(source.comparison) if source.comparison else None,
        "speed": speed.section_of(run, order),
        "origins": tables.origins(run),
        "downloads": downloads.downloads_of(run, frame),
    }


def _verdict(source: Source) -> str:
    """The verdict on a run; a baseline judges what is else only measured."""
    said = source.run.verdict
    if source.comparison is None or said == "failed":
        return said
    return "passed" if source.comparison.passed else "failed"


def _sections(content: dict[str, Any]) -> list[Section]:
    """The parts of a chapter, in order."""
    occlusion: tables.Grid = content["occlusion"]
    return [
        *_optional("baseline", "Against the baseline", content["against"]),
        Section("accuracy", "Accuracy under attack", bool(content["sweeps"])),
        Section("examples", "Example images", bool(content["examples"])),
        # What not every run has, and none lacks, is not named where it is absent.
        *_optional("minimal", "Smallest epsilon", content["minimal"] or content["extremes"]),
        Section("confusion", "Confusion matrices", bool(content["confusions"])),
        *_optional("classes", "Accuracy by class", content["per_class"]),
        Section("saliency", "Saliency", bool(content["saliency"] or occlusion.rows)),
        *_optional("validity", "Validity", content["validity_checks"].rows),
        Section("thresholds", "Thresholds", bool(content["accuracy_checks"])),
        Section("conformance", "Conformance", bool(content["other_checks"].rows)),
        *_optional("backends", "Across backends", content["across"]),
        Section("training", "Training", bool(content["trainings"])),
        *_optional("search", "Search", content["search"]),
        *_optional("speed", "Speed", content["speed"]),
        Section("provenance", "Provenance", True),
    ]


def _optional(id: str, title: str, content: object) -> list[Section]:
    return [Section(id, title, True)] if content else []


def _training(info: ModelInfo, place: int) -> Training:
    """The training curves of one model."""
    pair = Pair(info.backend, info.model)
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
