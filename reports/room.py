"""What of a run a page has room for: its size is bounded, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping

from harness.text import encoded

ONE = 3_000_000
"""Bytes that the page of one run has at most."""
SEVERAL = 6_000_000
"""Bytes that the page of several runs has at most."""
MOST = 50
"""Runs on one page, at most."""
FRAME = 60_000
"""Bytes that are kept for style, script, and navigation."""
PRIORITY = (
    "baseline", "accuracy", "thresholds", "validity", "provenance", "saliency", "examples",
    "backends", "conformance", "search", "speed", "minimal", "confusion", "classes", "training",
)  # fmt: skip
"""Sections in the order in which they get room."""


def of_each(runs: int, beside: int) -> int:
    """Bytes that each run's chapter may have, with so many taken by what holds them together."""
    whole = ONE if runs == 1 else SEVERAL
    return (whole - FRAME - beside) // runs


def kept(sizes: Mapping[str, int], room: int) -> set[str]:
    """The sections that fit: each that finds room, in the order of their priority.

    Args:
        sizes: Bytes of each section by its id.
        room: Bytes for all of them.
    """
    found: set[str] = set()
    for name in sorted(sizes, key=_rank):
        if sizes[name] <= room:
            found.add(name)
            room -= sizes[name]
    return found


def size(text: str) -> int:
    """Bytes of a piece of the page."""
    return len(encoded(text))


def _rank(name: str) -> int:
    return PRIORITY.index(name) if name in PRIORITY else len(PRIORITY)
