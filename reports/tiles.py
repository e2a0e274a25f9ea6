"""Small pictures as PNG data URIs, a pixel per number, and outlines of sets of pixels."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap
from PIL import Image  # comes with Matplotlib

from harness.maths.pictures import SIDE, shrunk
from harness.results.run import Run
from reports.stored import FloatArray

__all__ = ["SIDE", "Tile", "changed", "drawn", "limits", "outline", "png", "shrunk"]

GREY, HEAT = colormaps["gray"], colormaps["magma"]
CHANGE = LinearSegmentedColormap.from_list("change", ["#2166ac", "#f7f7f7", "#b2182b"])
"""Darker, unchanged, lighter; the page explains it by a ramp of these colours."""
LEVELS = 64
"""Shades of a picture: with a small palette hundreds of them fit a page."""
COLOURS, EXACT = 128, 40 * 40
"""So many colours has a picture of more pixels; smaller ones have all of theirs."""


@dataclass(frozen=True)
class Tile:
    """A picture, and what the model predicts for it, if known.

    Attributes:
        uri: The picture as a data URI.
        alt: What it shows, in words.
        predicted: Name of the predicted class, or None.
        confidence: Confidence in it, or None.
        wrong: Whether the prediction is not the true class.
        unanswered: Whether the model gave no answer.
        outline: An SVG path around some of the pixels, in units of pixels; empty for none.
        shape: Height and width in pixels.
    """

    uri: str
    alt: str
    predicted: str | None = None
    confidence: float | None = None
    wrong: bool = False
    outline: str = ""
    shape: tuple[int, int] = (1, 1)
    unanswered: bool = False


def png(pixels: FloatArray, colours: Colormap, low: float, high: float) -> str:
    """Numbers (height, width) as a PNG data URI, in a colour map between two limits."""
    scaled = np.clip((shrunk(pixels) - low) / (high - low), 0.0, 1.0)
    picture = Image.fromarray((scaled * (LEVELS - 1)).round().astype(np.uint8), "P")
    shades = colours(np.linspace(0.0, 1.0, LEVELS), bytes=True)[:, :3]
    picture.putpalette(np.ascontiguousarray(shades).tobytes())
    return _uri(picture)


def drawn(pixels: FloatArray, low: float, high: float) -> str:
    """An image as a PNG data URI, from black to white: (height, width), or (height, width, 3)."""
    if pixels.ndim == 2:
        return png(pixels, GREY, low, high)
    scaled = np.clip((shrunk(pixels) - low) / (high - low), 0.0, 1.0)
    picture = Image.fromarray((255 * scaled).round().astype(np.uint8), "RGB")
    if scaled.shape[0] * scaled.shape[1] > EXACT:
        picture = picture.quantize(COLOURS, dither=Image.Dither.NONE)
    return _uri(picture)


def changed(pixels: FloatArray, clean: FloatArray, epsilon: float) -> str:
    """A change of an image between -epsilon and epsilon; of colours the mean over the channels."""
    change = pixels - clean
    return png(change.mean(axis=2) if change.ndim == 3 else change, CHANGE, -epsilon, epsilon)


def _uri(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def limits(run: Run, pixels: FloatArray) -> tuple[float, float]:
    """Black and white: the images' bounds; of an older run 0 and 1, or what they need."""
    if run.data is not None and run.data.bounds[0] < run.data.bounds[1]:
        return run.data.bounds
    return min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))


def outline(mask: npt.NDArray[np.bool_]) -> str:
    """An SVG path along the borders of a set of pixels (height, width), one unit a pixel."""
    ahead = _borders(mask)
    path = []
    while ahead:
        begin = row, column = next(iter(ahead))
        moves: list[tuple[int, int]] = []
        while not moves or (row, column) != begin:
            down, right = ahead[row, column].pop()
            if not ahead[row, column]:
                del ahead[row, column]
            row, column = row + down, column + right
            if moves and _along(moves[-1], (down, right)):
                down, right = down + moves[-1][0], right + moves.pop()[1]
            moves.append((down, right))
        # The last move is drawn by closing the path.
        drawn = (f"v{down}" if down else f"h{right}" for down, right in moves[:-1])
        path.append(f"M{begin[1]} {begin[0]}{''.join(drawn)}z")
    return "".join(path)


def _borders(mask: npt.NDArray[np.bool_]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """The moves along borders from each corner, with the set on the right, so that loops close."""
    padded = np.pad(mask, 1)
    ahead: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for row, column in np.argwhere(mask).tolist():
        # Each side: the neighbour beyond it, where the move begins, and the move.
        for beyond, corner, move in (
            ((-1, 0), (0, 0), (0, 1)),
            ((0, 1), (0, 1), (1, 0)),
            ((1, 0), (1, 1), (0, -1)),
            ((0, -1), (1, 0), (-1, 0)),
        ):
            if not padded[row + 1 + beyond[0], column + 1 + beyond[1]]:
                ahead.setdefault((row + corner[0], column + corner[1]), []).append(move)
    return ahead


def _along(move: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two moves have one direction."""
    return bool(np.sign(move[0]) == other[0] and np.sign(move[1]) == other[1])
