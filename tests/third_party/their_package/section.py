"""A section of the report."""

from pathlib import Path

from reports.section import Section


def hardest(view):
    """The lowest accuracy of the run, and under what it was measured; None without any."""
    measured = view.frame.dropna(subset=["accuracy"])
    if measured.empty:
        return None
    return {"row": measured.loc[measured["accuracy"].idxmin()]}


HARDEST = Section(
    "hardest", "The hardest test", place=25, content=hardest,
    template=Path(__file__).with_name("hardest.html.jinja"),
)  # fmt: skip
