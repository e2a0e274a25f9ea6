"""The section on the smallest epsilon at which each image is misclassified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from harness.results import keys
from harness.results.run import Run
from reports import figures, stored
from reports.agreement import Group
from reports.figures import Series
from reports.formats import words
from reports.section import Section
from reports.stored import FloatArray, Pair, smallest_epsilons
from reports.tiles import Tile, drawn, limits
from reports.view import RunView

NAMES = {"pgd": "PGD", "fgsm": "FGSM"}
"""Methods, the one that finds the smaller epsilons first."""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Method:
    """One way to look for the smallest epsilon, and what it found for each pair.

    Attributes:
        name: ``fgsm`` or ``pgd``.
        chart: The share of images that are not misclassified yet, by epsilon.
        series: How each model looks in it.
        rows: Per pair the number of images and the quantiles of their epsilons.
    """

    name: str
    chart: Markup
    series: list[Series]
    rows: list[tuple[str, int, list[float]]]


@dataclass(frozen=True)
class Extreme:
    """One of the most fragile or of the most robust images.

    Attributes:
        index: Which test image.
        truth: Its true class.
        epsilon: The smallest at which it is misclassified; infinite if it never is.
        clean: The image.
        adversarial: As it is misclassified, and as what; None if it never is.
    """

    index: int
    truth: str
    epsilon: float
    clean: Tile
    adversarial: Tile | None


@dataclass(frozen=True)
class Extremes:
    """The most fragile and the most robust images of a pair, found by the named method."""

    pair: Pair
    method: str
    fragile: list[Extreme]
    robust: list[Extreme]


def extremes_of(run: Run, order: Sequence[Pair]) -> list[Extremes]:
    """Per pair the most fragile and most robust images, by the sharper method that is stored."""
    found = (
        next((one for name in NAMES if (one := _extremes(run, pair, name))), None) for pair in order
    )
    return [one for one in found if one]


def _extremes(run: Run, pair: Pair, method: str) -> Extremes | None:
    labels, epsilons = stored.labels_of(run), smallest_epsilons(run, pair, method)
    kept = stored.extremes(run, pair, method)
    if labels is None or epsilons is None or kept is None or kept.index.max() >= epsilons.size:
        return None
    names, ends = stored.class_names(run), limits(run, kept.clean)
    found = []
    for place, index in enumerate(kept.index.tolist()):
        truth, epsilon = names[labels[index]], float(epsilons[index])
        about = f"Test image {index}, a {truth}"
        adversarial = None
        if np.isfinite(epsilon):
            said = stored.named(names, int(kept.labels[place]))
            adversarial = Tile(
                drawn(kept.adversarial[place], *ends),
                f"{about}, at ε = {epsilon:.3f}; "
                + ("not answered" if said is None else f"predicted {said}"),
                said, wrong=said not in (None, truth), unanswered=said is None,
            )  # fmt: skip
        found.append(Extreme(
            index, truth, epsilon, Tile(drawn(kept.clean[place], *ends), about), adversarial
        ))  # fmt: skip
    half = len(found) // 2
    if not half:
        return None  # one image alone is neither
    return Extremes(pair, NAMES[method], found[:half], found[half:][::-1])


def section_of(run: Run, groups: Sequence[Group]) -> list[Method]:
    """A chart and a table for each method that the run holds; backends that agree are one line."""
    found = []
    looks = figures.ladder_of([group.label for group in groups])
    for name in ("fgsm", "pgd"):
        lines, rows = [], []
        for group, look in zip(groups, looks.values(), strict=True):
            of_pair = {
                pair: epsilons
                for pair in group.pairs
                if (epsilons := smallest_epsilons(run, pair, name)) is not None
            }
            rows += [(pair.label, len(one), _quantiles(one)) for pair, one in of_pair.items()]
            if of_pair:
                lines.append((look, np.concatenate(list(of_pair.values()))))
        if lines:
            chart = figures.robust_chart(
                lines, _limit([epsilons for _, epsilons in lines]),
                f"Line chart: share of images not misclassified by epsilon, by {words(name)}, for "
                + ", ".join(look.label for look, _ in lines),
            )  # fmt: skip
            found.append(Method(name, chart, [look for look, _ in lines], rows))
    return found


def _quantiles(epsilons: FloatArray) -> list[float]:
    """Infinite where so many images are never misclassified."""
    return [float(np.quantile(epsilons, q, method="lower")) for q in QUANTILES]


def _limit(parts: list[FloatArray]) -> float:
    """Where nearly all images are misclassified: the few most robust would flatten the rest."""
    together = np.concatenate(parts)
    finite = together[np.isfinite(together)]
    return float(np.quantile(finite, 0.99)) * 1.05 if finite.any() else 1.0


def _content(view: RunView) -> dict[str, Any] | None:
    methods = section_of(view.run, view.groups)
    extremes = extremes_of(view.run, view.order)
    if not methods and not extremes:
        return None
    drawn = {found.pair for found in extremes}
    undrawn = stored.together(
        (pair, _why_not(view.run, pair)) for pair in view.order if pair not in drawn
    )
    return {"minimal": methods, "extremes": extremes, "undrawn": undrawn}


def _why_not(run: Run, pair: Pair) -> str:
    """Why the extremes of a pair are not drawn; empty if it has none."""
    for name in NAMES:
        if keys.of(*pair, keys.extremes(name, "index")) in run.arrays:
            return stored.undrawn(run, keys.of(*pair, keys.extremes(name, "clean")))
    return ""


SECTION = Section("minimal", "Smallest epsilon", place=40, content=_content, rank=120,
                  learn="learn/fgsm")  # fmt: skip
