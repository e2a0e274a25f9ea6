"""What of a run a page has room for: its size is bounded, whatever it is made of."""

from __future__ import annotations

from collections.abc import Mapping

from harness.errors import encoded

ONE = 3_000_000
"""Bytes that the page of one run has at most."""
SEVERAL = 6_000_000
"""Bytes that the page of several runs has at most."""
MOST = 50
"""Runs on one page, at most."""
FRAME = 60_000
"""Bytes that are kept for style, script, and navigation."""


def of_each(runs: int, beside: int) -> int:
    """Bytes that each run's chapter may have, with so many taken by what holds them together."""
    whole = ONE if runs == 1 else SEVERAL
    return (whole - FRAME - beside) // runs


def kept(sizes: Mapping[str, int], room: int) -> set[str]:
    """Those that fit: each that finds room, in the order in which they are given.

    Args:
        sizes: Bytes of each by its id.
        room: Bytes for all of them.
    """
    found: set[str] = set()
    for name, taken in sizes.items():
        if taken <= room:
            found.add(name)
            room -= taken
    return found


def size(text: str) -> int:
    """Bytes of a piece of the page."""
    return len(encoded(text))
