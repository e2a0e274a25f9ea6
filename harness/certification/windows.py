"""Sliding windows as positions: which pixels each window sees, and which windows see each pixel.

There is no convolution in the array API standard. Gathering by these and multiplying matrices makes
one, both ways, in every namespace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.certification.numbers import Numbers
from harness.protocol import Array, BoolArray, IntArray, Padding, Pair, Shape


@dataclass(frozen=True)
class Windows:
    """Windows over the pixels of maps.

    Attributes:
        pixels: How many pixels a map has before, h · w.
        size: How many pixels a window has, padding included.
        count: How many windows there are.
        seen: Position of each pixel of each window, (size · count,); ``pixels`` is padding.
        viewers: Of each pixel the windows, and its places in them, among size · count,
            (most, pixels) as one row; size · count where there are fewer than the most.
        most: How many windows see a pixel, at most.
    """

    pixels: int
    size: int
    count: int
    seen: IntArray
    viewers: IntArray
    most: int

    @classmethod
    def of(cls, before: Shape, window: Pair, stride: Pair, padding: Padding) -> Windows:
        """Those over maps (channels, height, width)."""
        height, width = before[1:]
        numbered = np.arange(height * width).reshape(height, width)
        padded = np.pad(numbered, padding, constant_values=height * width)
        view = np.lib.stride_tricks.sliding_window_view(padded, window)
        view = view[:: stride[0], :: stride[1]]
        size, count = window[0] * window[1], view.shape[0] * view.shape[1]
        seen = view.transpose(2, 3, 0, 1).reshape(-1)
        viewers, most = _viewers(seen, height * width)
        return cls(height * width, size, count, seen, viewers, most)

    @property
    def views(self) -> IntArray:
        """``seen``, (size, count): at one place of a window each sees another pixel."""
        return self.seen.reshape(self.size, self.count)

    @property
    def valid(self) -> BoolArray:
        """Which places of the windows are pixels, (size, count)."""
        return np.asarray(self.views < self.pixels)

    def gather(self, numbers: Numbers, maps: Array) -> Array:
        """What windows see of maps (n, c, pixels): (n, c, size · count), zeros in the padding."""
        return _gathered(numbers, maps, self.seen, self.pixels)

    def spread(self, numbers: Numbers, parts: Array) -> Array:
        """The sum over all windows of what each has at a pixel: of (n, c, size · count)."""
        found = _gathered(numbers, parts, self.viewers, self.size * self.count)
        if self.most == 1:
            return found
        count, channels = found.shape[:2]
        found = numbers.xp.reshape(found, (count, channels, self.most, self.pixels))
        return numbers.xp.sum(found, axis=2)


def _viewers(seen: IntArray, pixels: int) -> tuple[IntArray, int]:
    """See ``Windows``; none sees a pixel that strides skip."""
    places = np.flatnonzero(seen < pixels)
    order = places[np.argsort(seen[places], kind="stable")]
    counts = np.bincount(seen[order], minlength=pixels)
    most = max(1, int(counts.max(initial=0)))
    table = np.full((most, pixels), len(seen))
    first = np.cumsum(counts) - counts
    table[np.arange(len(order)) - first[seen[order]], seen[order]] = order
    return table.reshape(-1), most


def _gathered(numbers: Numbers, array: Array, at: IntArray, nothing: int) -> Array:
    """Entries along the last axis; zeros where the position is that of nothing."""
    lacking = at >= nothing
    if not lacking.any():
        return numbers.take(array, numbers.places(at), axis=2)
    if numbers.on_host:
        found = numbers.take(array, at, axis=2)
        found[:, :, lacking] = 0.0
        return found
    empty = numbers.xp.zeros_like(array[:, :, :1])
    return numbers.take(numbers.joined([array, empty], axis=2), numbers.places(at), axis=2)
