"""The section on saliency: maps of every method, and whether they can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from harness.checks.sanity.checks import OWN
from harness.results import keys
from harness.results.run import Run
from harness.saliency.covers import IN_WORDS
from harness.saliency.maps import top_pixels
from harness.saliency.topk import GRID, SHARES
from reports import figures, stored, tables
from reports.figures import Series
from reports.formats import words
from reports.section import Section
from reports.stored import FloatArray, Pair
from reports.tiles import HEAT, Tile, drawn, limits, outline, over, png, shrunk
from reports.view import RunView

TOP = 0.15
"""Share of the pixels that is outlined where the spec does not say."""
DIGITS = 6
"""A page is read, not stored: maps of more digits than this are not shown."""
MEASURES = {
    "deletion": "Deletion area", "insertion": "Insertion area", "stability": "Stability",
    "strokes": "On strokes",
}  # fmt: skip


@dataclass(frozen=True)
class MapRow:
    """One digit: as it is and under FGSM, each with the maps of all methods."""

    index: int
    truth: str
    images: tuple[Tile, Tile | None]
    maps: list[tuple[Tile | None, Tile | None]]


@dataclass(frozen=True)
class CascadeRow:
    """One method: its maps of one digit by models of which ever more layers are random."""

    method: str
    tiles: list[Tile]
    similarities: list[tuple[float, float] | None]


@dataclass(frozen=True)
class Verdicts:
    """Sanity checks by methods: ``cells[rule, method]`` where there is one."""

    methods: list[str]
    rules: list[tuple[str, str]]
    cells: dict[tuple[str, str], Any]

    def counted(self, method: str | None = None) -> tuple[int, int]:
        """How many checks of a method, or of all, passed, and of how many."""
        statuses = [row.status for (_, of), row in self.cells.items() if method in (None, of)]
        made = [status for status in statuses if status != "skipped"]
        return made.count("passed"), len(made)


@dataclass(frozen=True)
class Explained:
    """All that is known of the saliency maps of one pair; what is not stored is empty.

    Attributes:
        pair: Which model.
        methods: Methods whose maps are shown, the columns of ``rows``.
        rows: Digits by methods.
        cascade: Methods by depth of randomisation.
        curves: Charts of deletion, insertion, and accuracy after covering.
        looks: How each method looks in them.
        measures: Per method one number per measure, None where it was not measured.
        covered: Per method the accuracies at each share, with the most and the least salient
            pixels covered.
        at_random: The same with random pixels, and its interval.
        verdicts: The sanity checks.
        colours: Whether the images have several channels, over which maps are summed.
        undrawn: Why no maps are drawn though there are some; empty if they are.
    """

    pair: Pair
    methods: list[str]
    rows: list[MapRow]
    cascade: list[CascadeRow]
    curves: list[Markup]
    looks: list[Series]
    measures: list[tuple[str, list[float | None]]]
    covered: list[tuple[str, FloatArray, FloatArray]]
    at_random: tuple[FloatArray, FloatArray] | None
    verdicts: Verdicts | None
    colours: bool = False
    undrawn: str = ""


def section_of(
    run: Run, frame: pd.DataFrame, order: Sequence[Pair], top: float | None
) -> list[Explained]:
    """What is known of each pair's maps, for the pairs of which anything is."""
    found = [_explained(run, frame, pair, top or TOP) for pair in order]
    return [
        one for one in found
        if one.rows or one.cascade or one.curves or one.verdicts or one.undrawn
    ]  # fmt: skip


def _explained(run: Run, frame: pd.DataFrame, pair: Pair, top: float) -> Explained:
    methods = stored.saliency_methods(run, pair)
    looks = figures.ladder_of([*methods, "random"])
    clean = stored.example_images(run, pair, "clean")
    measures = {
        (row.check.split("/")[1], row.check.split("/")[2]): row.value
        for row in tables.rows_of(tables.of_pair(frame, pair))
        if str(row.check).startswith("saliency/") and row.check.count("/") == 2
    }
    return Explained(
        pair=pair,
        methods=(shown := [m for m in methods if stored.saliency_maps(run, pair, m) is not None]),
        rows=(rows := _rows(run, pair, shown, top)),
        cascade=_cascade(run, pair, methods),
        curves=_curves(run, pair, looks),
        looks=list(looks.values()),
        measures=[
            (method, [measures.get((method, measure)) for measure in MEASURES])
            for method in methods
            if any((method, measure) in measures for measure in MEASURES)
        ],
        covered=[
            (method, most, least)
            for method in methods
            if (most := _covered(run, pair, keys.curve(method, "top/accuracy"))) is not None
            and (least := _covered(run, pair, keys.curve(method, "least/accuracy"))) is not None
        ],
        at_random=_at_random(run, pair),
        verdicts=_verdicts(frame, pair),
        colours=clean is not None and clean.ndim == 4,
        undrawn="" if rows or not methods else _why_not(run, pair),
    )


def _why_not(run: Run, pair: Pair) -> str:
    """Why no maps are drawn; empty where no examples are known, and so none could be."""
    if not stored.truths_of(run, pair):
        return ""
    images = keys.of(*pair, keys.example("clean"))
    drawable = stored.example_images(run, pair, "clean") is not None
    return stored.undrawn(run, keys.of(*pair, keys.MAPS) if drawable else images)


def _rows(run: Run, pair: Pair, methods: list[str], top: float) -> list[MapRow]:
    clean = stored.example_images(run, pair, "clean")
    index, truths = stored.example_index(run, pair), stored.truths_of(run, pair)
    maps = {method: stored.saliency_maps(run, pair, method) for method in methods}
    if clean is None or index is None or not methods:
        return []
    moved = stored.example_images(run, pair, "moved")
    said = stored.example_labels(run, pair, "moved")
    then_maps = {m: stored.example_maps(run, pair, keys.maps(m, moved=True)) for m in methods}
    first = stored.predictions_of(run, pair, "clean")
    names, low_high = stored.class_names(run), limits(run, clean)
    rows = []
    for place, truth in enumerate(truths[:DIGITS]):
        about = f"Test image {index[place]}, a {truth}"
        then = f"{about}, under FGSM"
        label = None if first is None else int(first[index[place]])
        label_then = None if said is None else int(said[place])
        rows.append(MapRow(
            int(index[place]), truth,
            (
                _picture(clean[place], low_high, about, names, truth, label),
                None if moved is None
                else _picture(moved[place], low_high, then, names, truth, label_then),
            ),
            [
                (
                    _map(before, place, f"{words(method)} of: {about}", top, clean, low_high),
                    _map(after, place, f"{words(method)} of: {then}", top, moved, low_high),
                )
                for method, before, after in zip(
                    methods, maps.values(), then_maps.values(), strict=True
                )
            ],
        ))  # fmt: skip
    return rows


def _picture(
    pixels: FloatArray,
    low_high: tuple[float, float],
    about: str,
    names: Sequence[str],
    truth: str,
    label: int | None,
) -> Tile:
    predicted = None if label is None else stored.named(names, label)
    unanswered = label == stored.UNANSWERED
    said = "; not answered" if unanswered else f"; predicted {predicted}" if predicted else ""
    return Tile(
        drawn(pixels, *low_high), about + said, predicted, wrong=predicted not in (None, truth),
        shape=(pixels.shape[0], pixels.shape[1]), unanswered=unanswered,
    )  # fmt: skip


def _map(
    maps: FloatArray | None, place: int, about: str, top: float | None,
    images: FloatArray | None = None, low_high: tuple[float, float] = (0.0, 1.0),
) -> Tile | None:  # fmt: skip
    """The size of a map's numbers, on its own scale, with the largest outlined.

    It lies over the image where there is one of its size.
    """
    if maps is None:
        return None
    size = shrunk(np.abs(maps[place]))
    around = "" if top is None else outline(top_pixels(size[None], top)[0])
    if images is not None and images.shape[1:3] == maps.shape[1:3]:
        uri = over(size, images[place], *low_high)
    else:
        uri = png(size, HEAT, 0.0, float(size.max()) or 1.0)
    return Tile(uri, about, outline=around, shape=(size.shape[0], size.shape[1]))


def _cascade(run: Run, pair: Pair, methods: list[str]) -> list[CascadeRow]:
    """The maps of the first example, by the model itself and by each of the cascade."""
    truths, rows = stored.truths_of(run, pair), []
    for method in methods:
        own = stored.saliency_maps(run, pair, method)
        layers = stored.cascade_maps(run, pair, method)
        similar = stored.array(run, pair, keys.curve(method, "cascade"), (None, 2))
        if own is None or layers is None or similar is None or len(similar) != len(layers):
            continue
        name = words(method)
        first = _map(own, 0, f"{name} of a {truths[0]} by the trained model", None)
        tiles = [first] if first else []
        for depth, maps in enumerate(layers, start=1):
            about = f"{name} of a {truths[0]} by the model with {random_layers(depth)} random"
            if drawn := _map(maps, 0, about, None):
                tiles.append(drawn)
        pairs = [(float(ranks), float(structure)) for ranks, structure in similar]
        rows.append(CascadeRow(method, tiles, [None, *pairs]))
    return rows


def random_layers(depth: int) -> str:
    """Which layers are random at a depth of the cascade, in words."""
    return "the last layer" if depth == 1 else f"the last {depth} layers"


def _curves(run: Run, pair: Pair, looks: dict[str, Series]) -> list[Markup]:
    charts = []
    for kind, title, pixels in (
        (
            "deletion",
            "Deletion: confidence in the true class",
            "pixels blackened, most salient first",
        ),
        (
            "insertion",
            "Insertion: confidence in the true class",
            "pixels shown, most salient first",
        ),
    ):
        lines = [
            (look, np.array(GRID), curve)
            for method, look in looks.items()
            if (curve := stored.array(run, pair, keys.curve(method, kind), (len(GRID),)))
            is not None
        ]
        if lines:
            charts.append(figures.share_chart(
                lines, title, f"share of the {pixels}",
                f"Line chart: {kind} curves of {pair.label}, for "
                + ", ".join(look.label for look, _, _ in lines),
            ))  # fmt: skip
    lines = [
        (look, np.array(SHARES), covered)
        for method, look in looks.items()
        if (covered := _covered(run, pair, keys.curve(method, "top/accuracy"))) is not None
    ]
    at_random, done = _at_random(run, pair), IN_WORDS[stored.cover(run)]
    if lines and at_random is not None:
        lines.append((looks["random"], np.array(SHARES), at_random[0]))
        charts.append(figures.share_chart(
            lines, f"Accuracy with pixels {done}",
            "share of the pixels covered, most salient first",
            f"Line chart: accuracy of {pair.label} with the most salient pixels {done}",
            band=(np.array(SHARES), at_random[1]),
        ))  # fmt: skip
    return charts


def _covered(run: Run, pair: Pair, key: str) -> FloatArray | None:
    """Values with pixels covered as the spec says, one a share."""
    found = stored.array(run, pair, key, (2, len(SHARES)))
    return None if found is None else found[0]


def _at_random(run: Run, pair: Pair) -> tuple[FloatArray, FloatArray] | None:
    """Mean accuracy with random pixels covered, (shares,), and its interval, (2, shares)."""
    found = stored.array(run, pair, keys.curve("random", "accuracy"), (None, 2, len(SHARES)))
    ends = stored.array(
        run, pair, keys.curve("random", "accuracy/interval"), (2, 2, len(SHARES)), finite=False
    )
    if found is None or ends is None:
        return None
    return found.mean(axis=0)[0], ends[:, 0]


def _verdicts(frame: pd.DataFrame, pair: Pair) -> Verdicts | None:
    cells = {}
    for row in tables.rows_of(tables.of_pair(frame, pair)):
        method, slash, rule = str(row.check).removeprefix(tables.SANITY).partition("/")
        if str(row.check).startswith(tables.SANITY) and slash:
            cells[rule, method] = row
    if not cells:
        return None
    rules, methods = (list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
    # In the order of the checks, whatever the order in which they ran.
    rules.sort(key=lambda rule: list(OWN).index(rule) if rule in OWN else len(OWN))
    return Verdicts(methods, [(rule, tables.asks(OWN.get(rule))) for rule in rules], cells)


def _content(view: RunView) -> dict[str, Any] | None:
    run, frame = view.run, view.frame
    top = _fraction(stored.spec_value(run, "saliency", "top"))
    found = section_of(run, frame, view.order, top)
    occlusion = tables.grid(tables.occlusion(frame), view.order, "check")
    if not found and not occlusion.rows:
        return None
    epsilon = stored.spec_value(run, "saliency", "epsilon")
    return {
        "saliency": found,
        "saliency_epsilon": float(epsilon) if isinstance(epsilon, (int, float)) else None,
        "measure_names": list(MEASURES.values()),
        "shares": SHARES,
        "occlusion": occlusion,
        "occluding": stored.occluding(run),
        "cover": stored.cover(run),
        "covered_in_words": IN_WORDS[stored.cover(run)],
        "occlusion_names": tables.OCCLUSIONS,
        "clean": tables.by_pair(frame[(frame["check"] == "clean") & frame["accuracy"].notna()]),
        "top": top,
    }


def _fraction(value: object) -> float | None:
    """A number that can be a share of the pixels."""
    return float(value) if isinstance(value, (int, float)) and 0 < value <= 1 else None


SECTION = Section("saliency", "Saliency", place=70, content=_content, rank=60, expected=True,
                  learn="learn/saliency")  # fmt: skip
