"""Small pictures as PNG data URIs, a pixel per number, and outlines of sets of pixels."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from harness.maths.pictures import SIDE, shrunk
from harness.results.run import Run
from reports.stored import FloatArray

__all__ = ["SIDE", "Tile", "changed", "drawn", "limits", "outline", "over", "png", "shrunk"]

LEVELS = 64
"""Shades of a picture: with a small palette hundreds of them fit a page."""
Palette: TypeAlias = npt.NDArray[np.uint8]
"""Shades (LEVELS, 3) from the lowest value to the highest."""


def _palette(*anchors: str) -> Palette:
    """Shades through colours that lie at equal distances."""
    colours = np.array([list(bytes.fromhex(anchor)) for anchor in anchors], dtype=np.float64)
    places, at = np.linspace(0, 1, LEVELS), np.linspace(0, 1, len(anchors))
    shades = [np.interp(places, at, channel) for channel in colours.T]
    palette: Palette = np.stack(shades, axis=1).round().astype(np.uint8)
    return palette


GREY = _palette("000000", "ffffff")
HEAT = _palette(
    "000004", "180f3d", "440f76", "721f81", "9e2f7f", "cd4071", "f1605d", "fd9668", "feca8d",
    "fcfdbf",
)  # fmt: skip
CHANGE = _palette("2166ac", "f7f7f7", "b2182b")
"""Darker, unchanged, lighter; the page explains it by a ramp of these colours."""
STEPS = 16
"""Shades of the image, and of the map, where a map lies over an image."""
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


def png(pixels: FloatArray, colours: Palette, low: float, high: float) -> str:
    """Numbers (height, width) as a PNG data URI, in a colour map between two limits."""
    return _indexed(_levels(shrunk(pixels), low, high, LEVELS), colours)


def over(heat: FloatArray, pixels: FloatArray, low: float, high: float) -> str:
    """A map (height, width) over the image that it explains, as a PNG data URI.

    The image is grey, and gives way to the map's colour the larger the map's number is; of one in
    colours, (height, width, 3), the mean over the channels is drawn.
    """
    grey = shrunk(pixels.mean(axis=2) if pixels.ndim == 3 else pixels)
    hot = _levels(heat, 0.0, float(heat.max()) or 1.0, STEPS)
    return _indexed(_levels(grey, low, high, STEPS) * STEPS + hot, _OVER)


def _over() -> Palette:
    """The colour of each shade of grey under each of heat, (STEPS * STEPS, 3)."""
    places = np.linspace(0, LEVELS - 1, STEPS).round().astype(int)
    share = (np.linspace(0, 1, STEPS) ** 0.7)[None, :, None]
    mixed = (1 - share) * 0.75 * GREY[places][:, None] + share * HEAT[places][None]
    palette: Palette = mixed.reshape(-1, 3).round().astype(np.uint8)
    return palette


_OVER = _over()


def _levels(pixels: FloatArray, low: float, high: float, count: int) -> Palette:
    """Numbers as indices from 0 to ``count - 1`` between two limits."""
    scaled = np.clip((pixels - low) / (high - low), 0.0, 1.0)
    levels: Palette = (scaled * (count - 1)).round().astype(np.uint8)
    return levels


def _indexed(indices: Palette, colours: Palette) -> str:
    picture = Image.fromarray(indices, "P")
    picture.putpalette(colours.tobytes())
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
