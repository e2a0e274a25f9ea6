"""Random small distortions of images, in NumPy, so that every backend trains on the same ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from harness.errors import HarnessError
from harness.protocol import FloatArray, IntArray

AT_ONCE = 8
"""Images that are interpolated at once: what is computed on the way should stay in the cache."""
Distortion: TypeAlias = Callable[[FloatArray, np.random.Generator], FloatArray]
"""Distorts images (n, h, w) or (n, h, w, c), each in its own way; returns new ones, float32."""


@dataclass(frozen=True)
class Affine:
    """Ranges of random affine distortions; each is drawn evenly from ± its value.

    Attributes:
        rotation: Degrees.
        scale: Share by which height and width grow or shrink, each on its own.
        shear: Rows a column moves per column.
        shift: Pixels, in height and in width.
        outside: What comes from outside of an image: zero, or the value at its nearest edge.
    """

    rotation: float = 15.0
    scale: float = 0.12
    shear: float = 0.1
    shift: float = 2.0
    outside: Literal["zero", "edge"] = "zero"

    def __call__(self, x: FloatArray, random: np.random.Generator) -> FloatArray:
        """Distorted copies of images (n, h, w) or (n, h, w, c), float32; all channels move alike.

        Values are interpolated bilinearly, so they stay within the range of the image and of what
        comes from outside.
        """
        height, width = x.shape[1:3]
        rows, columns = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32)
        centre = (height - 1) / 2, (width - 1) / 2
        grid = np.stack([rows - centre[0], columns - centre[1], np.ones_like(rows)])
        maps = self._maps(len(x), random)
        border = ((0, 0), (1, 2), (1, 2), (0, 0))[: x.ndim]
        distorted = np.empty_like(x, dtype=np.float32)
        for few in (slice(first, first + AT_ONCE) for first in range(0, len(x), AT_ONCE)):
            source = maps[few] @ grid
            # One pixel before each edge and two behind take whatever lies outside.
            y = np.clip(source[:, 0] + np.float32(centre[0] + 1), 0, height + 1)
            x_ = np.clip(source[:, 1] + np.float32(centre[1] + 1), 0, width + 1)
            padded = np.pad(x[few], border, mode="edge" if self.outside == "edge" else "constant")
            _bilinear(padded, y, x_, distorted[few])
        return distorted

    def _maps(self, count: int, random: np.random.Generator) -> FloatArray:
        """From places in the distorted image to places in the original: (n, 2, 3) float32."""
        angle = np.deg2rad(random.uniform(-self.rotation, self.rotation, count))
        size = 1 + random.uniform(-self.scale, self.scale, (2, count))
        shear = random.uniform(-self.shear, self.shear, count)
        cos, sin = np.cos(angle), np.sin(angle)
        maps = np.empty((count, 2, 3), dtype=np.float32)
        maps[:, 0, 0], maps[:, 0, 1] = cos * size[0], (shear * cos - sin) * size[0]
        maps[:, 1, 0], maps[:, 1, 1] = sin * size[1], (shear * sin + cos) * size[1]
        maps[:, :, 2] = random.uniform(-self.shift, self.shift, (count, 2))
        return maps


@dataclass(frozen=True)
class FlipCrop:
    """Mirrors every second image, by chance, and moves each (He et al. 2016, section 4.2).

    Attributes:
        padding: Pixels by which an image moves at most, in height and in width. What comes from
            outside is the image, mirrored at its edge, which leaves no border to learn from.
    """

    padding: int = 4

    def __call__(self, x: FloatArray, random: np.random.Generator) -> FloatArray:
        """Moved copies of images (n, h, w) or (n, h, w, c), float32."""
        count, height, width = x.shape[:3]
        padded = _mirrored(x, self.padding)
        places: IntArray = random.integers(0, 2 * self.padding + 1, (count, 2))
        turned: IntArray = random.integers(0, 2, (count,))
        moved = np.empty_like(x, dtype=np.float32)
        for index in range(count):
            row, column = places[index].tolist()
            part = padded[index, row : row + height, column : column + width]
            moved[index] = part[:, ::-1] if turned[index] else part
        return moved


@dataclass(frozen=True)
class Cutout:
    """Covers a square at a random place in each image (DeVries & Taylor 2017).

    Attributes:
        share: Side of the square, as a share of height and of width. Near an edge a part of it is
            outside.
    """

    share: float = 0.25

    def __call__(self, x: FloatArray, random: np.random.Generator) -> FloatArray:
        """Copies of images (n, h, w) or (n, h, w, c), float32; a square has the image's mean."""
        covered = x.astype(np.float32)
        height, width = (round(self.share * side) for side in x.shape[1:3])
        rows = (random.integers(0, x.shape[1], len(x)) - height // 2).tolist()
        columns = (random.integers(0, x.shape[2], len(x)) - width // 2).tolist()
        means = x.mean(axis=tuple(range(1, x.ndim)), dtype=np.float64).tolist()
        for index, (row, column, mean) in enumerate(zip(rows, columns, means, strict=True)):
            image = covered[index]
            image[max(row, 0) : row + height, max(column, 0) : column + width] = mean
        return covered


@dataclass(frozen=True)
class Chain:
    """Distortions, one after the other."""

    steps: tuple[Distortion, ...]

    def __call__(self, x: FloatArray, random: np.random.Generator) -> FloatArray:
        """Distorted copies of images (n, h, w) or (n, h, w, c), float32."""
        for step in self.steps:
            x = step(x, random)
        return x


AUGMENTATIONS: dict[str, Distortion | None] = {
    "none": None,
    "affine": Affine(),
    "flip-crop": FlipCrop(),
    "flip-crop-cutout": Chain((FlipCrop(), Cutout())),
    # What FlipCrop moves need not move again.
    "colour": Chain((FlipCrop(), Affine(10.0, 0.1, 0.05, 0.0, outside="edge"))),
}
"""What a spec's ``augmentation`` names."""


def augment(
    name: str, x: FloatArray, random: np.random.Generator, channel_axis: int | None = None
) -> FloatArray:
    """Images, distorted as an augmentation says; themselves, if it is ``none``.

    Args:
        name: One of ``AUGMENTATIONS``.
        x: Images (n, h, w), (n, h, w, c) or (n, c, h, w), float32.
        random: Decides what happens to each. The layout makes no difference.
        channel_axis: Axis of one image that holds its channels, from 0; None if none does.

    Raises:
        HarnessError: They are no such images, such as flat ones, or their channel axis is unknown.
    """
    distort = AUGMENTATIONS[name]
    if distort is None:
        return x
    if x.ndim == 3 and channel_axis is None:
        return distort(x, random)
    if x.ndim != 4 or channel_axis is None:
        raise HarnessError(
            f"augmentation: {name!r} is of images (height, width), with or without channels, and "
            f"one image has the shape {x.shape[1:]}"
            + ("; say channel_axis" if x.ndim == 4 else '; use augmentation = "none"')
        )
    last = np.moveaxis(x, 1 + channel_axis, -1)
    return np.ascontiguousarray(np.moveaxis(distort(last, random), -1, 1 + channel_axis))


def _mirrored(x: FloatArray, padding: int) -> FloatArray:
    """Images (n, h, w, ...) with a border that mirrors them, again and again if they are small."""
    height, width = x.shape[1:3]
    shape = (len(x), height + 2 * padding, width + 2 * padding, *x.shape[3:])
    padded = np.empty_like(x, shape=shape)
    rows, columns = (slice(padding, padding + size) for size in (height, width))
    padded[:, rows, columns] = x
    for place, origin in _border(height, padding):
        padded[:, place, columns] = padded[:, origin, columns]
    for place, origin in _border(width, padding):
        padded[:, :, place] = padded[:, :, origin]
    return padded


def _border(size: int, padding: int) -> Iterator[tuple[int, int]]:
    """Places in the border of a row of pixels, and those in the row that they mirror."""
    period = max(2 * (size - 1), 1)
    for place in (*range(-padding, 0), *range(size, size + padding)):
        origin = min(place % period, -place % period)
        yield padding + place, padding + origin


def _bilinear(padded: FloatArray, y: FloatArray, x: FloatArray, out: FloatArray) -> None:
    """Fill (n, h, w, ...) from larger images at places (n, h * w), none beyond the last pixel."""
    count, height, width = padded.shape[:3]
    top, left = y.astype(np.int32), x.astype(np.int32)
    down, right = y - top.astype(np.float32), x - left.astype(np.float32)
    # Of the type that `take` looks places up by; it would convert any other, at each of its calls.
    first = np.arange(count, dtype=np.intp) * (height * width)
    corner = first[:, None] + (top * width + left)
    places = [corner + step for step in (0, 1, width, width + 1)]
    # Channel by channel, which is faster than pixel by pixel.
    for channel in np.ndindex(padded.shape[3:]):
        plane = (..., *channel)
        flat = padded[plane].ravel()
        upper, beside, lower, across = (flat.take(place) for place in places)
        upper += (beside - upper) * right
        lower += (across - lower) * right
        out[plane] = (upper + (lower - upper) * down).reshape(out.shape[:3])
