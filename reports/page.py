"""Assemble the page of one run, or of several side by side, and write it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from harness.errors import BIDI, HarnessError, encoded, printable
from harness.files import replacing
from harness.gate import Comparison
from harness.results.run import Run
from harness.results.search import SearchResult
from reports import about, drawing, failures, overview, room, runs, stored, verdict
from reports.formats import number, radius
from reports.section import TEMPLATES, Section
from reports.view import RunView

CONTROLS = r"\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff"
OBEYED = re.compile(f"[{CONTROLS}{''.join(BIDI)}]")
"""Signs of a name or reason that would do something instead of being seen; they are escaped."""
REGION = 'role="region" tabindex="0" aria-label="'
"""How the tag of a box that scrolls goes on; such boxes have names that no two share."""
PADDED = 105
"""Percent of its size that a section of several runs takes, with prefixes before its ids."""


@dataclass(frozen=True)
class Source:
    """What a page is made of.

    Attributes:
        run: What was measured.
        name: What the run is called where there are several.
        search: A search over the grid of its spec, which gets a section.
        comparison: The run compared with a baseline, likewise.
    """

    run: Run
    name: str = ""
    search: SearchResult | None = None
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Chapter:
    """All sections of one run.

    Attributes:
        name: What the run is called where there are several.
        prefix: What the ids of its sections begin with.
        verdict: ``failed`` if a check of the run or its comparison with a baseline failed, else
            ``measured`` if nothing judged its accuracies, else ``passed``.
        stamp: The same in words.
        fragile: Whether the strongest attack leaves less than half of some model's accuracy.
        title: Name of the spec.
        epsilon: The radius that is shown where there is room for one.
        sections: Those that are there.
        body: Their HTML.
    """

    name: str
    prefix: str
    verdict: str
    stamp: str
    fragile: bool
    title: str
    epsilon: float | None
    sections: list[Section]
    body: Markup


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
    beside = _beside(sources) if several else []
    space = room.of_each(len(sources), room.size("".join(beside)))
    chapters = [
        _chapter(source, f"run{place}-" if several else "", space)
        for place, source in enumerate(sources, start=1)
    ]
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = drawing.environment().get_template("report.html.jinja").render(
        chapters=chapters, beside=beside, sources=sources, script=Markup(script),  # noqa: S704  (ours)
        script_hash=f"sha256-{digest}", epsilon=chapters[0].epsilon,
        written=_written(sources),
    )  # fmt: skip
    return OBEYED.sub(lambda sign: printable(sign[0]), html)


def _written(sources: Sequence[Source]) -> dict[str, str]:
    """Epsilons of the runs that read otherwise than as the number by which they are told apart."""
    told = {record.epsilon for source in sources for record in source.run.records}
    found = {number(epsilon): radius(epsilon) for epsilon in told if epsilon is not None}
    return {key: found[key] for key in sorted(found) if found[key] != key}


def _beside(sources: Sequence[Source]) -> list[Markup]:
    """What compares the runs, a block for each model, as far as half of the page has room."""
    names, measured = [source.name for source in sources], [source.run for source in sources]
    template = drawing.environment().get_template("beside.html.jinja")
    blocks = [
        template.render(found=found, names=names, first=place == 0)
        for place, found in enumerate(runs.side_by_side(names, measured))
    ]
    kept = room.kept({str(place): room.size(one) for place, one in enumerate(blocks)},
                     room.SEVERAL // 2)  # fmt: skip
    return [Markup(one) for place, one in enumerate(blocks) if str(place) in kept]  # noqa: S704


def _chapter(source: Source, prefix: str, space: int) -> Chapter:
    view = RunView(source.run, source.search, source.comparison)
    parts = drawing.drawn(view)
    if sum(room.size(part.html) for part in parts) > space:
        parts = [replace(part, html=part.short) for part in parts]
    heads = drawing.environment().get_template("verdict.html.jinja")
    content = _head(view) | {"name": source.name if prefix else "", "left_out": [], "absent": [
        part.section.title for part in parts if part.section.expected and not part.html
    ]}  # fmt: skip
    present = [part for part in parts if part.html]
    sizes = {
        part.section.id: PADDED * room.size(part.html) // 100
        for part in sorted(present, key=lambda part: part.section.rank)
    }
    kept = room.kept(sizes, space - 2 * room.size(heads.render(content)))
    content["left_out"] = [part.section.title for part in present if part.section.id not in kept]
    head = heads.render(content)
    if 2 * room.size(head) > space:
        head = heads.render(
            content
            | {
                "absent": [],
                "causes": [],
                "skipped": [],
                "robustness": [],
                "randomised": [],
                "description": "",
                "about": None,
                "overview": None,
                "notes": [],
            }
        )
    shown = [part for part in present if part.section.id in kept]
    sections = [part.section for part in shown]
    body = head + drawing.environment().get_template("run.html.jinja").render(
        sections=sections, bodies={part.section.id: Markup(part.html) for part in shown}  # noqa: S704
    )  # fmt: skip
    body = _linked(body)
    return Chapter(
        source.name, prefix, view.verdict, view.stamp, view.fragile, view.title,
        view.shown_epsilon, sections,
        Markup(_distinct(body, prefix, source.name) if prefix else body),  # noqa: S704  (a template escaped it)
    )  # fmt: skip


def _linked(body: str) -> str:
    """A chapter whose references to what found no room lead to its head."""
    ids = set(re.findall(r'<[^<>]* id="([^"]*)"', body))

    def found(link: re.Match[str]) -> str:
        return link[0] if link[1] in ids else ' href="#verdict"'

    return re.sub(r' href="#([^"]*)"(?=[^<>]*>)', found, body)


def _distinct(body: str, prefix: str, name: str) -> str:
    """A chapter whose ids and references to them begin with a prefix, and its regions' names too.

    What stands in angle brackets is a tag for certain, and what it quotes an attribute: elsewhere
    these signs are escaped.
    """
    regions = f"{REGION}{escape(name)}: "

    def marked(tag: re.Match[str]) -> str:
        own = re.sub(r' ((?:id|for|name|aria-labelledby)="|href="#)', rf" \1{prefix}", tag[0])
        return own.replace(REGION, regions)

    return re.sub(r"<[^<>]+>", marked, body)


def _head(view: RunView) -> dict[str, Any]:
    """What the head of a chapter prints of a run."""
    run, frame = view.run, view.frame
    causes = failures.causes_of(frame)
    return {
        "verdict": view.verdict,
        "title": view.title,
        "description": str(stored.spec_value(run, "description") or ""),
        "comparison": view.comparison,
        "opening": verdict.opening(run, frame, view.comparison),
        "robustness": verdict.robustness(view.curves, view.shown_epsilon),
        "answers": verdict.answers_of(run, frame, view.comparison),
        "causes": [cause for cause in causes if cause.status != "skipped"],
        "skipped": [cause for cause in causes if cause.status == "skipped"],
        "notes": about.notes_of(run),
        "about": about.about(run),
        "randomised": view.randomised,
        "overview": overview.overview_of(view),
        "fragile": view.fragile,
    }
