"""Numbers and names as a page shows them."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from markupsafe import Markup, escape

from harness.maths.norms import written

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
    if high is None:
        return f"≥ {100 * (low or 0.0):.4g}{SPACE}%"
    if low is None:
        return f"≤ {100 * high:.4g}{SPACE}%"
    return f"{100 * low:.4g}–{100 * high:.4g}{SPACE}%"


def number(value: float | None) -> str:
    """A number without needless digits."""
    return NOTHING if value is None or not math.isfinite(value) else f"{value:.6g}"


def radius(epsilon: float | None) -> str:
    """An epsilon: ``0.1``, or ``8/255`` in place of ``0.0313725``."""
    return NOTHING if epsilon is None or not math.isfinite(epsilon) else written(epsilon)


def few(value: float) -> str:
    """A mean count with as many digits as it takes to tell it: ``1``, ``38.4`` or ``1,940``."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


SPELLED = {
    "apgd": "APGD", "autoattack": "AutoAttack", "crown": "CROWN", "ddn": "DDN",
    "deepfool": "DeepFool", "dlr": "DLR", "fab": "FAB", "fgsm": "FGSM", "fmn": "FMN", "ibp": "IBP",
    "l2": "L2", "linf": "L∞", "mlp": "MLP", "onnx": "ONNX", "pgd": "PGD", "x": "×",
}  # fmt: skip
"""Parts of names that are written in another way."""


def words(name: str) -> str:
    """A name as it is written: ``gradient × input``, ``PGD L2``."""
    parts = name.replace("_", " ").replace("-", " ").split(" ")
    return " ".join(SPELLED.get(part, part) for part in parts)


def check_words(check: str) -> str:
    """A check in words: ``clean``, ``FGSM``, ``certified by CROWN``, ``vanishing gradients``."""
    kind, _, rest = check.partition("/")
    if not rest:
        return words(check)
    if kind == "certified":
        return f"certified by {words(rest)}"
    if kind == "saliency-sanity":
        return f"maps of {words(rest.replace('/', ': ', 1))}"
    if kind in ("validity", "conformance", "training"):
        return words(rest.replace("/", " "))
    return words(check.replace("/", ": ", 1).replace("/", " "))


def share(low: float, high: float) -> str:
    """A share that lies between two numbers, in whole percent as a person says it."""
    ends = [f"{100 * end:.0f}" for end in (low, high)]
    if high <= 0:
        return "none"
    if low >= 1:
        return "all"
    if ends == ["0", "0"]:
        return f"less than 1{SPACE}%"
    return f"{ends[0] if ends[0] == ends[1] else '–'.join(ends)}{SPACE}%"


def spread(low: float, high: float, digits: int = 1) -> str:
    """The same exactly: ``93.1 %``, or ``92.8–93.3 %`` where the ends differ."""
    ends = [f"{100 * end:.{digits}f}" for end in (low, high)]
    return f"{ends[0] if ends[0] == ends[1] else '–'.join(ends)}{SPACE}%"


def duration(seconds: float) -> str:
    """A time as one tells it: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``1 h 39 min``."""
    if seconds < 9.95:
        return f"{seconds:.2g} s" if seconds < 0.1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else (
        f"{minutes // 60} h {minutes % 60} min")  # fmt: skip


def moment(text: str) -> str:
    """A time of ISO 8601 to the minute: ``27 November 2026, 01:35 UTC``; others as they are."""
    try:
        at = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return text
    zone = f" {at.tzname()}" if at.tzinfo else ""
    return f"{at.day} {at:%B %Y, %H:%M}{zone}"


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
