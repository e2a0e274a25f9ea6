"""Example images and saliency maps, as tiles made of PNG data URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap
from PIL import Image  # comes with Matplotlib

from harness.records import Run
from reports import stored
from reports.stored import FloatArray, Pair

MOST_EXAMPLES = 8
"""A report is read, not stored: more rows than this are not shown."""
MOST_EPSILONS = 3
GREY, HEAT = colormaps["gray"], colormaps["magma"]
CHANGE = LinearSegmentedColormap.from_list("change", ["#2166ac", "#f7f7f7", "#b2182b"])
"""Darker, unchanged, lighter; the page explains it by a ramp of these colours."""
MARK = np.array([255, 106, 0], dtype=np.float64)
"""Colour of the most salient pixels, on grey."""


@dataclass(frozen=True)
class Tile:
    """An image, and what the model said of it where it was asked.

    Attributes:
        uri: The image as a data URI.
        alt: What it shows, in words.
        predicted: Name of the predicted class, or None.
        confidence: Confidence in it, or None.
        wrong: Whether the prediction is not the true class.
    """

    uri: str
    alt: str
    predicted: str | None = None
    confidence: float | None = None
    wrong: bool = False


@dataclass(frozen=True)
class ExampleRow:
    """One test image: clean, and per epsilon how it was changed and what came out."""

    index: int
    truth: str
    clean: Tile
    attacked: list[tuple[Tile, Tile]]


@dataclass(frozen=True)
class Examples:
    """The examples of a pair under one attack."""

    pair: Pair
    epsilons: list[float]
    rows: list[ExampleRow]


@dataclass(frozen=True)
class SaliencyColumn:
    """One test image, its saliency map, and its most salient pixels."""

    index: int
    truth: str
    image: Tile
    heat: Tile
    top: Tile | None


@dataclass(frozen=True)
class Saliency:
    """The saliency maps of a pair."""

    pair: Pair
    columns: list[SaliencyColumn]


@dataclass(frozen=True)
class _Shown:
    """Example images under one name, with everything known of each."""

    pixels: FloatArray
    predicted: list[str | None]
    wrong: list[bool]
    confidence: list[float | None]


def examples_of(run: Run, pair: Pair, attack: str, epsilons: Sequence[float]) -> Examples | None:
    """Example images of a pair for a few of the epsilons, if they are stored."""
    clean, index = _shown(run, pair, "clean"), stored.example_index(run, pair)
    if clean is None or index is None:
        return None
    attacked = {
        epsilon: shown
        for epsilon in epsilons
        if epsilon > 0 and (shown := _shown(run, pair, stored.stem(attack, epsilon))) is not None
        and shown.pixels.shape == clean.pixels.shape
    }  # fmt: skip
    chosen = spread(sorted(attacked), MOST_EPSILONS)
    truths = _truths(run, pair)
    limits = _limits(clean.pixels)
    rows = []
    for place, truth in enumerate(truths[:MOST_EXAMPLES]):
        about = f"Test image {index[place]}, a {truth}"
        tiles = []
        for epsilon in chosen:
            shown = attacked[epsilon]
            change = shown.pixels[place] - clean.pixels[place]
            tiles.append((
                Tile(_png(change, CHANGE, -epsilon, epsilon),
                     f"{about}: its change by {attack} at ε = {epsilon:g}"),
                _tile(shown, place, limits, f"{about}, under {attack} at ε = {epsilon:g}"),
            ))  # fmt: skip
        tile = _tile(clean, place, limits, f"{about}, unchanged")
        rows.append(ExampleRow(int(index[place]), truth, tile, tiles))
    return Examples(pair, chosen, rows)


def saliency_of(run: Run, pair: Pair) -> Saliency | None:
    """The saliency maps of a pair beside the images, if they are stored."""
    clean, index = _shown(run, pair, "clean"), stored.example_index(run, pair)
    heat = stored.example_images(run, pair, "saliency")
    top = stored.example_images(run, pair, "saliency/top")
    if clean is None or index is None or heat is None or heat.shape != clean.pixels.shape:
        return None
    limits = _limits(clean.pixels)
    columns = []
    for place, truth in enumerate(_truths(run, pair)[:MOST_EXAMPLES]):
        about = f"Test image {index[place]}, a {truth}"
        marked = None
        if top is not None and top.shape == clean.pixels.shape:
            overlay = _overlay(clean.pixels[place], top[place] > 0, limits)
            marked = Tile(overlay, f"{about}: its most salient pixels marked")
        columns.append(SaliencyColumn(
            int(index[place]), truth,
            image=_tile(clean, place, limits, f"{about}, unchanged"),
            heat=Tile(_png(heat[place], HEAT, 0.0, float(heat[place].max()) or 1.0),
                      f"{about}: its saliency map"),
            top=marked,
        ))  # fmt: skip
    return Saliency(pair, columns)


def spread(values: Sequence[float], most: int) -> list[float]:
    """At most so many of the values, evenly spread over them, the ends included."""
    if len(values) <= most:
        return list(values)
    return [values[round(place * (len(values) - 1) / (most - 1))] for place in range(most)]


def _shown(run: Run, pair: Pair, name: str) -> _Shown | None:
    """The example images under a name, with predictions and confidences as far as stored."""
    pixels, index = stored.example_images(run, pair, name), stored.example_index(run, pair)
    labels = stored.labels_of(run)
    if pixels is None or index is None or labels is None:
        return None
    predictions = stored.predictions_of(run, pair, name)
    confidence = stored.example_confidences(run, pair, name)
    names = stored.class_names(run)
    shown = _Shown(pixels, [None] * index.size, [False] * index.size, [None] * index.size)
    if predictions is not None:
        shown.predicted[:] = [names[label] for label in predictions[index]]
        shown.wrong[:] = (predictions[index] != labels[index]).tolist()
    if confidence is not None:
        shown.confidence[:] = confidence.tolist()
    return shown


def _truths(run: Run, pair: Pair) -> list[str]:
    """The true class of each example, by name."""
    index, labels = stored.example_index(run, pair), stored.labels_of(run)
    if index is None or labels is None:
        return []
    names = stored.class_names(run)
    return [names[label] for label in labels[index]]


def _limits(pixels: FloatArray) -> tuple[float, float]:
    """Black and white: 0 and 1, or what the images need."""
    return min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))


def _tile(shown: _Shown, place: int, limits: tuple[float, float], about: str) -> Tile:
    """One image with its prediction."""
    predicted, wrong = shown.predicted[place], shown.wrong[place]
    said = "" if predicted is None else f"; predicted {predicted}, {'wrong' if wrong else 'right'}"
    uri = _png(shown.pixels[place], GREY, *limits)
    return Tile(uri, about + said, predicted, shown.confidence[place], wrong)


def _overlay(pixels: FloatArray, mask: npt.NDArray[np.bool_], limits: tuple[float, float]) -> str:
    """An image in grey with the pixels of a mask tinted."""
    grey = _colours(pixels, GREY, *limits).astype(np.float64)
    tinted = np.where(mask[..., None], 0.25 * grey + 0.75 * MARK, grey)
    return _data_uri(tinted.round().astype(np.uint8))


def _png(pixels: FloatArray, colours: Colormap, low: float, high: float) -> str:
    """Floats as a PNG, one pixel per number, in a colour map between two limits."""
    return _data_uri(_colours(pixels, colours, low, high))


def _colours(
    pixels: FloatArray, colours: Colormap, low: float, high: float
) -> npt.NDArray[np.uint8]:
    scaled = np.clip((pixels - low) / (high - low), 0.0, 1.0)
    rgba: npt.NDArray[np.uint8] = colours(scaled, bytes=True)
    return rgba[..., :3]


def _data_uri(rgb: npt.NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgb)).save(stream, "png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
