"""Sections as HTML; what another package's section does wrong costs that section alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import escape

from harness.errors import HarnessError, one_line
from reports import failures, formats
from reports.section import DOCS, TEMPLATES, Section
from reports.sections import SECTIONS
from reports.view import RunView

SYMBOLS = {"failed": "✗", "error": "!", "skipped": "–", "passed": "✓", "measured": "·"}
ANCHOR = r"[a-z][a-z0-9-]*"
TAKEN = ("content", "runs", "verdict")
"""Anchors of the page that are of no section."""
VOID = {"br", "hr", "img", "input", "wbr"}
"""Elements that have no end."""
END = "end-of-section"
"""An element that marks where a section ends, while its tags are counted."""


@dataclass(frozen=True)
class Drawn:
    """A section of one run.

    Attributes:
        section: Which.
        html: It; empty if the run holds nothing for it.
        short: The same with less in it, for a page that is too small for all.
    """

    section: Section
    html: str = ""
    short: str = ""


@cache
def environment() -> jinja2.Environment:
    """Templates that escape whatever they print, and break on a name that is not there."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        # Jinja's own default is to escape nothing, whatever the file is called.
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "percent": formats.percent, "interval": formats.interval, "threshold": formats.threshold,
        "number": formats.number, "radius": formats.radius, "words": formats.words,
        "points": formats.points, "code": formats.code, "few": formats.few,
        "check_words": formats.check_words, "spread": formats.spread,
        "duration": formats.duration, "moment": formats.moment,
    }  # fmt: skip
    made.globals |= {
        "symbols": SYMBOLS, "nothing": formats.NOTHING, "anchor_of": failures.anchor_of,
        "shown_at_once": failures.SHOWN, "docs": DOCS,
    }  # fmt: skip
    return made


def drawn(view: RunView) -> list[Drawn]:
    """All sections of a run in their order on the page, those without content among them."""
    found = [
        _theirs(name, view) if SECTIONS.package_of(name) else _own(name, view) for name in SECTIONS
    ]
    return sorted(found, key=lambda one: one.section.place)


def _own(name: str, view: RunView) -> Drawn:
    section = SECTIONS[name]
    content = section.content(view)
    return Drawn(section) if content is None else _drawn(section, content)


def _theirs(name: str, view: RunView) -> Drawn:
    """A section of another package, or one line on what is wrong with it."""
    package = escape(SECTIONS.package_of(name))
    anchor = name if _is_anchor(name) else re.sub(r"[^a-z0-9]+", "-", f"section-{name.lower()}")
    section = Section(anchor, name, place=1000, content=lambda _: None)
    try:
        section = _usable(name)
        # A view of its own: what it does to a table is done to no other section's.
        if (content := section.content(replace(view))) is None:
            return Drawn(section)
        found = _drawn(section, content)
        for html in (found.html, found.short):
            if problem := _unbalanced(html):
                raise HarnessError(problem)
    except Exception as error:  # another package's code raises whatever it likes
        kind = "" if isinstance(error, HarnessError) else f"{type(error).__name__}: "
        said = escape(one_line(f"{kind}{error}"))
        html = f'<p class="reason">This section of {package} is missing: {said}</p>'
        return Drawn(section, html, html)
    note = f'\n<p class="note">This section is by {package}.</p>'
    return Drawn(section, found.html + note, found.short + note)


def _drawn(section: Section, content: Mapping[str, Any]) -> Drawn:
    template = _template(section.file)
    html = template.render(content)
    short = template.render({**content, **section.if_short}) if section.if_short else html
    return Drawn(section, html, short)


def _usable(name: str) -> Section:
    """Another package's section, if it is one.

    Raises:
        HarnessError: It is none, does not import, or two packages have one of this name.
    """
    section = SECTIONS[name]
    if not isinstance(section, Section):
        raise HarnessError(f"{name} is a {type(section).__name__}, not a reports.section.Section")
    if not _is_anchor(name):
        raise HarnessError(f"{name} cannot be an anchor; choose another name for the entry point")
    if not isinstance(section.title, str):
        raise HarnessError(f"its title is {section.title!r}, not a text")
    if section.id != name:
        raise HarnessError(f"its id is {section.id}, but its entry point is called {name}")
    if not isinstance(section.place, int) or not isinstance(section.rank, int):
        raise HarnessError("place and rank must be whole numbers")
    return section


def _is_anchor(name: str) -> bool:
    return re.fullmatch(ANCHOR, name) is not None and name not in TAKEN


@cache
def _template(file: Path) -> jinja2.Template:
    return environment().from_string(file.read_text(encoding="utf-8"))


def _unbalanced(html: str) -> str:
    """What keeps a piece of the page from standing alone; empty if nothing does."""
    tags = _Tags()
    tags.feed(f"{html}<{END}>")
    tags.close()
    if tags.wrong:
        return tags.wrong
    if tags.open[-1:] != [END]:
        return "it ends within a tag, a comment or a script"
    return f"<{tags.open[-2]}> is not closed" if len(tags.open) > 1 else ""


class _Tags(HTMLParser):
    """The elements that are open at the end, and the first end that closes none of them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element without content, as within SVG."""

    def handle_endtag(self, tag: str) -> None:
        if self.open[-1:] == [tag]:
            self.open.pop()
        else:
            self.wrong = self.wrong or f"</{tag}> closes nothing"
