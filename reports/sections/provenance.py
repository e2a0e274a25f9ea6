"""The section on provenance: where run, data and models come from, and the run's numbers."""

from __future__ import annotations

from typing import Any

from harness.results.run import Run
from reports import stored, tables
from reports.downloads import downloads_of
from reports.section import Section
from reports.view import RunView


def _seeds(run: Run) -> list[tuple[str, str]]:
    """The seeds that the spec sets, with what they are for."""
    found = {
        "seed": stored.spec_value(run, "seed"),
        "seed of the split": stored.spec_value(run, "data", "seed"),
    }
    return [(name, str(value)) for name, value in found.items() if value is not None]


def _data(run: Run) -> str:
    """The dataset and its split, as the spec names them, or where own images come from."""
    named = stored.spec_value(run, "data", "name") is not None
    keys = ("name", "split") if named else ("file", "folder", "load")
    found = (stored.spec_value(run, "data", key) for key in keys)
    return " ".join(str(value) for value in found if value is not None)


def _content(view: RunView) -> dict[str, Any]:
    return {
        "run": view.run,
        "title": view.title,
        "data": _data(view.run),
        "seeds": _seeds(view.run),
        "origins": tables.origins(view.run),
        "earlier": tables.taken_over(view.run),
        "downloads": downloads_of(view.run, view.frame),
    }


# The numbers lie beside the run, and what is left without them is a quarter of a page.
SECTION = Section(
    "provenance",
    "Provenance",
    place=150,
    content=_content,
    rank=50,
    expected=True,
    folded=True,
    learn="learn/data",
    if_short={"downloads": []},
)
