"""Random small distortions of images, in NumPy, so that every backend trains on the same ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.protocol import FloatArray


@dataclass(frozen=True)
class Affine:
    """Ranges of random affine distortions; each is drawn evenly from ± its value.

    Attributes:
        rotation: Degrees.
        scale: Share by which height and width grow or shrink, each on its own.
        shear: Rows a column moves per column.
        shift: Pixels, in height and in width.
    """

    rotation: float = 15.0
    scale: float = 0.12
    shear: float = 0.1
    shift: float = 2.0

    def __call__(self, x: FloatArray, random: np.random.Generator) -> FloatArray:
        """Distorted copies of images (n, h, w), float32; what comes from outside is zero.

        Values are interpolated bilinearly, so they stay within the range of the image and zero.
        """
        count, height, width = x.shape
        rows, columns = np.mgrid[:height, :width].reshape(2, -1).astype(np.float32)
        centre = (height - 1) / 2, (width - 1) / 2
        grid = np.stack([rows - centre[0], columns - centre[1], np.ones_like(rows)])
        source = self._maps(count, random) @ grid
        # One pixel of zeros before each edge and two behind take whatever lies outside.
        y = np.clip(source[:, 0] + np.float32(centre[0] + 1), 0, height + 1)
        x_ = np.clip(source[:, 1] + np.float32(centre[1] + 1), 0, width + 1)
        return _bilinear(np.pad(x, ((0, 0), (1, 2), (1, 2))), y, x_).reshape(x.shape)

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


def _bilinear(padded: FloatArray, y: FloatArray, x: FloatArray) -> FloatArray:
    """Values of images (n, h, w) at places (n, m), none beyond the last pixel but one."""
    count, height, width = padded.shape
    top, left = y.astype(np.int32), x.astype(np.int32)
    down, right = y - top.astype(np.float32), x - left.astype(np.float32)
    flat = padded.ravel()
    corner = (np.arange(count, dtype=np.int32) * (height * width))[:, None] + top * width + left
    upper = flat.take(corner)
    upper += (flat.take(corner + 1) - upper) * right
    lower = flat.take(corner + width)
    lower += (flat.take(corner + width + 1) - lower) * right
    return np.asarray(upper + (lower - upper) * down)
