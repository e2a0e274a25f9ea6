"""What a section of the page is; the harness has its own, and other packages add theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reports.view import RunView

TEMPLATES = Path(__file__).parent / "templates"
DOCS = "https://github.com/robustness-harness/robustness-harness/blob/main/docs/{}.md"
"""Where the documentation on a topic is, by its page; the project's address is pyproject's."""


@dataclass(frozen=True)
class Section:
    """A part of the page, in its own file and with its own template.

    Attributes:
        id: Its anchor, and its name in the registry: small letters, digits and hyphens.
        title: Its heading.
        place: Where it is: sections follow each other by rising place. Those of the harness have
            places from 10 to 150, with room between them.
        content: What its template prints of a run, by name; None where the run holds nothing for
            the section, which is then not on the page.
        template: The file of its Jinja template; ``templates/ID.html.jinja`` of the report if it
            is not given. What it prints is escaped, a name that is not there is an error, and it
            may import the macros of ``macros.html.jinja``.
        rank: When it gets room on a page that is too small for all: those of lower rank first.
        expected: Whether the page says so where a run holds nothing for it.
        if_short: What replaces parts of its content on a page that is too small for all.
        folded: Whether only its heading is seen until it is opened.
        learn: The page of the documentation on its topic, which "What is this?" leads to; empty
            for none.
    """

    id: str
    title: str
    place: int
    content: Callable[[RunView], Mapping[str, Any] | None]
    template: Path | None = None
    rank: int = 1000
    expected: bool = False
    if_short: Mapping[str, Any] = field(default_factory=dict)
    folded: bool = False
    learn: str = ""

    @property
    def file(self) -> Path:
        """The file of its template."""
        return self.template or TEMPLATES / f"{self.id}.html.jinja"
