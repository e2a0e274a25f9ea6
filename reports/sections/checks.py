"""The section on checks: expectations, validity, conformance; folded where all of them passed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from reports import failures, tables
from reports.failures import Judged
from reports.section import Section
from reports.view import RunView

ABOUT = {
    "expectations": "Every judged accuracy against the range in which it passes, both ends "
    "included.",
    "validity": "Can the accuracies be trusted? Each check looks for one way in which an "
    "evaluation goes wrong silently, such as gradients that vanish or mislead, labels that are "
    "shifted, or logits that change from call to call.",
    "conformance": "Checks that count no images: whether a backend does what the measurements "
    "rely on.",
}


@dataclass(frozen=True)
class Suite:
    """Checks of one kind.

    Attributes:
        id: Its anchor.
        title: Its name.
        about: What they are.
        passed: How many passed.
        decided: Of how many.
        skipped: How many could not be made.
        accuracies: Judged accuracies, those that came out alike in several backends together.
        grid: Checks that have no number, by models.
    """

    id: str
    title: str
    about: str
    passed: int
    decided: int
    skipped: int
    accuracies: list[Judged] = field(default_factory=list)
    grid: tables.Grid | None = None

    @property
    def open(self) -> bool:
        """Whether it is seen at once: where something did not pass."""
        return self.passed < self.decided


def suites_of(view: RunView) -> list[Suite]:
    """What the run holds of each kind."""
    accuracies, validity, others = view.judged
    found = [
        _suite("expectations", accuracies, accuracies=failures.alike(tables.rows_of(accuracies))),
        _suite("validity", validity, grid=tables.grid(validity, view.order, "check")),
        _suite("conformance", others, grid=tables.grid(others, view.order, "check")),
    ]
    return [suite for suite in found if suite.decided or suite.skipped]


def _suite(name: str, rows: pd.DataFrame, **content: Any) -> Suite:
    passed, skipped = (int((rows["status"] == status).sum()) for status in ("passed", "skipped"))
    decided = len(rows) - skipped
    return Suite(name, name.capitalize(), ABOUT[name], passed, decided, skipped, **content)


def _content(view: RunView) -> dict[str, Any] | None:
    found = suites_of(view)
    accuracies = view.judged[0]
    # What a number bounds is said where not all of them are bounds from above.
    bounded = bool((accuracies["bound"] == tables.LOWER).any())
    return {"suites": found, "bounded": bounded, "meanings": tables.meanings()} if found else None


SECTION = Section("checks", "Checks", place=80, content=_content, rank=30, expected=True,
                  learn="mistakes")  # fmt: skip
