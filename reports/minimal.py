"""The section on the smallest epsilon at which each image falls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from harness.records import Run
from reports import figures
from reports.figures import Series
from reports.stored import FloatArray, Pair, smallest_epsilons

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Method:
    """One way to look for the smallest epsilon, and what it found for each pair.

    Attributes:
        name: ``fgsm`` or ``pgd``.
        chart: The share of images that stand against epsilon.
        series: How each pair looks in it.
        rows: Per pair the number of images and the quantiles of their epsilons.
    """

    name: str
    chart: Markup
    series: list[Series]
    rows: list[tuple[str, int, list[float]]]


def section_of(run: Run, series: dict[Pair, Series]) -> list[Method]:
    """A chart and a table for each method that the run holds."""
    found = []
    for name in ("fgsm", "pgd"):
        lines = [
            (look, epsilons)
            for pair, look in series.items()
            if (epsilons := smallest_epsilons(run, pair, name)) is not None
        ]
        if lines:
            chart = figures.standing_chart(
                lines, _limit([epsilons for _, epsilons in lines]), f"minimal-{name}",
                f"Line chart: share of images standing against epsilon, by {name}, for "
                + ", ".join(look.label for look, _ in lines),
            )  # fmt: skip
            rows = [(look.label, len(epsilons), _quantiles(epsilons)) for look, epsilons in lines]
            found.append(Method(name, chart, [look for look, _ in lines], rows))
    return found


def _quantiles(epsilons: FloatArray) -> list[float]:
    """Infinite where so many images stand throughout."""
    return [float(np.quantile(epsilons, q, method="lower")) for q in QUANTILES]


def _limit(parts: list[FloatArray]) -> float:
    """Where nearly all images have fallen, so that the few sturdiest do not flatten the rest."""
    together = np.concatenate(parts)
    finite = together[np.isfinite(together)]
    return float(np.quantile(finite, 0.99)) * 1.05 if finite.any() else 1.0
