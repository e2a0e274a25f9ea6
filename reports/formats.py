"""Numbers and names as a page shows them."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup, escape

NOTHING = "—"
SPACE = "\u202f"
"""Between a number and its percent sign, where no line may break."""


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


def few(value: float) -> str:
    """A mean count with as many digits as it takes to tell it: ``1``, ``38.4`` or ``1,940``."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def words(name: str) -> str:
    """A name as it is written: ``gradient × input``."""
    return name.replace("-x-", " × ").replace("-", " ").replace("_", " ")


def points(change: float | None, digits: int = 1) -> str:
    """A change of an accuracy in percentage points: ``+0.4``, ``−1.2`` or ``0.0``."""
    if change is None or not math.isfinite(change):
        return NOTHING
    rounded = round(100 * change, digits)
    return (
        f"{abs(rounded):.{digits}f}" if rounded == 0 else f"{rounded:+.{digits}f}".replace("-", "−")
    )


def code(text: str) -> Markup:
    """Text in which what stands between backticks is a command."""
    parts = text.split("`")
    # Without its partner the last backtick is one.
    if len(parts) % 2 == 0:
        parts[-2:] = ["`".join(parts[-2:])]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )
