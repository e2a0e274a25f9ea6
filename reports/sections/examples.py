"""The digits under an attack: each image and its prediction, at every epsilon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.results import keys
from harness.results.run import Run
from reports import stored
from reports.section import Section
from reports.stored import Pair
from reports.tiles import CHANGE, GREY, Tile, limits, png
from reports.view import RunView

MOST = 10
"""A report is read, not stored: more digits than this are not shown."""


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
    """

    pair: Pair
    attack: str
    digits: list[Digit]
    rows: list[tuple[float, list[Tile]]]
    change: list[Tile]


def gallery_of(run: Run, pair: Pair, attack: str, epsilons: Sequence[float]) -> Gallery | None:
    """The examples of a pair at those of the epsilons at which they are stored."""
    clean, index = stored.example_images(run, pair, "clean"), stored.example_index(run, pair)
    truths = stored.truths_of(run, pair)[:MOST]
    if clean is None or index is None or not truths:
        return None
    digits = [Digit(int(index[place]), truth) for place, truth in enumerate(truths)]
    rows = [(0.0, _tiles(run, pair, "clean", digits, "unchanged"))]
    change: list[Tile] = []
    for epsilon in sorted(epsilon for epsilon in epsilons if epsilon > 0):
        name = keys.at(attack, epsilon)
        pixels = stored.example_images(run, pair, name)
        if pixels is None or pixels.shape != clean.shape:
            continue
        words = f"under {attack} at ε = {epsilon:g}"
        rows.append((epsilon, _tiles(run, pair, name, digits, words)))
        change = [
            Tile(png(pixels[place] - clean[place], CHANGE, -epsilon, epsilon),
                 f"{_about(digit)}: its change by {attack} at ε = {epsilon:g}")
            for place, digit in enumerate(digits)
        ]  # fmt: skip
    return Gallery(pair, attack if len(rows) > 1 else "", digits, rows, change)


def _tiles(run: Run, pair: Pair, name: str, digits: Sequence[Digit], words: str) -> list[Tile]:
    """Example images under a name, with predictions and confidences as far as stored."""
    pixels, index = stored.example_images(run, pair, name), stored.example_index(run, pair)
    if pixels is None or index is None:
        return []
    predictions = stored.predictions_of(run, pair, name)
    confidences = stored.example_confidences(run, pair, name)
    ends = limits(pixels)
    tiles = []
    for place, digit in enumerate(digits):
        said_of = None if predictions is None else int(predictions[index[place]])
        predicted = None if said_of is None else stored.label_name(run, said_of)
        wrong = predicted not in (None, digit.truth)
        said = "" if predicted is None else f"; predicted {predicted}, {_verdict(wrong)}"
        if said_of == stored.UNANSWERED:
            said = "; not answered"
        tiles.append(Tile(
            png(pixels[place], GREY, *ends), f"{_about(digit)}, {words}{said}", predicted,
            None if confidences is None else float(confidences[place]), wrong,
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
    return {"examples": found, **shown} if found else None


SECTION = Section("examples", "Example images", place=30, content=_content, rank=70, expected=True)
