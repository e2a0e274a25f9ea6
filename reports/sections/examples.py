"""The examples under an attack: each image and its prediction, at every epsilon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.results import keys
from harness.results.run import Run
from reports import stored
from reports.formats import radius
from reports.section import Section
from reports.stored import Pair
from reports.tiles import Tile, changed, drawn, limits
from reports.view import RunView

MOST = 10
"""A report is read, not stored: more images than this are not shown."""


@dataclass(frozen=True)
class Digit:
    """Which test image a column of the gallery shows, and its true class."""

    index: int
    truth: str


@dataclass(frozen=True)
class Gallery:
    """The examples of a pair under one attack.

    Attributes:
        pair: Which model.
        attack: The attack's name; empty if only clean images are stored.
        digits: What the columns show.
        rows: Per epsilon, from 0 for the clean images, a tile per digit.
        change: The change at the largest epsilon, a tile per digit; empty without an attack.
        colours: Whether the images have several channels.
        missing: The epsilons above 0 at which no pictures are stored.
    """

    pair: Pair
    attack: str
    digits: list[Digit]
    rows: list[tuple[float, list[Tile]]]
    change: list[Tile]
    colours: bool = False
    missing: tuple[float, ...] = ()


def gallery_of(run: Run, pair: Pair, attack: str, epsilons: Sequence[float]) -> Gallery | None:
    """The examples of a pair at those of the epsilons at which they are stored."""
    clean, index = stored.example_images(run, pair, "clean"), stored.example_index(run, pair)
    truths = stored.truths_of(run, pair)[:MOST]
    if clean is None or index is None or not truths:
        return None
    digits = [Digit(int(index[place]), truth) for place, truth in enumerate(truths)]
    rows = [(0.0, _tiles(run, pair, "clean", digits, "unchanged"))]
    change: list[Tile] = []
    wanted = sorted(epsilon for epsilon in epsilons if epsilon > 0)
    for epsilon in wanted:
        name = keys.at(attack, epsilon)
        pixels = stored.example_images(run, pair, name)
        if pixels is None or pixels.shape != clean.shape:
            continue
        words = f"under {attack} at ε = {radius(epsilon)}"
        rows.append((epsilon, _tiles(run, pair, name, digits, words)))
        change = [
            Tile(changed(pixels[place], clean[place], epsilon),
                 f"{_about(digit)}: its change by {attack} at ε = {radius(epsilon)}")
            for place, digit in enumerate(digits)
        ]  # fmt: skip
    stored_at = {epsilon for epsilon, _ in rows}
    missing = tuple(epsilon for epsilon in wanted if epsilon not in stored_at)
    under = attack if len(rows) > 1 else ""
    return Gallery(pair, under, digits, rows, change, clean.ndim == 4, missing)


def why_not(run: Run, pair: Pair) -> str:
    """Why examples of a pair are not drawn; empty if they are, or if there are none."""
    key = keys.of(*pair, keys.example("clean"))
    if stored.example_index(run, pair) is None or key not in run.arrays:
        return ""  # the head of the page says that there are none
    return "" if stored.example_images(run, pair, "clean") is not None else stored.undrawn(run, key)


def _tiles(run: Run, pair: Pair, name: str, digits: Sequence[Digit], words: str) -> list[Tile]:
    """Example images under a name, with predictions and confidences as far as stored."""
    pixels, index = stored.example_images(run, pair, name), stored.example_index(run, pair)
    if pixels is None or index is None:
        return []
    predictions = stored.predictions_of(run, pair, name)
    confidences = stored.example_confidences(run, pair, name)
    names, ends = stored.class_names(run), limits(run, pixels)
    tiles = []
    for place, digit in enumerate(digits):
        label = None if predictions is None else int(predictions[index[place]])
        predicted = None if label is None else stored.named(names, label)
        wrong = predicted not in (None, digit.truth)
        said = "" if predicted is None else f"; predicted {predicted}, {_verdict(wrong)}"
        unanswered = label == stored.UNANSWERED
        said = "; not answered" if unanswered else said
        tiles.append(Tile(
            drawn(pixels[place], *ends), f"{_about(digit)}, {words}{said}", predicted,
            None if confidences is None else float(confidences[place]), wrong,
            unanswered=unanswered,
        ))  # fmt: skip
    return tiles


def _verdict(wrong: bool) -> str:
    return "misclassified" if wrong else "correct"


def _about(digit: Digit) -> str:
    return f"Test image {digit.index}, a {digit.truth}"


def _content(view: RunView) -> dict[str, Any] | None:
    galleries = [
        gallery_of(view.run, pair, view.attack or "", view.epsilons) for pair in view.order
    ]
    shown = {"attack": view.attack, "shown_epsilon": view.shown_epsilon}
    found = [one for one in galleries if one]
    undrawn = stored.together((pair, why_not(view.run, pair)) for pair in view.order)
    if not found and not undrawn:
        return None
    return {"examples": found, "undrawn": undrawn, **shown}


SECTION = Section("examples", "Example images", place=30, content=_content, rank=70, expected=True,
                  learn="learn/samples")  # fmt: skip
