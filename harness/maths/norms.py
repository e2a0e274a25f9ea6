"""The norms that bound perturbations: lengths, projections, steepest directions, random points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from harness.protocol import Array, ArrayNamespace, Bounds, FloatArray, NormName

TOLERANCE = 1e-6
"""How far an image may lie outside ball or box, in pixel units: float32 rounding of x ± ε."""
LEVELS = 255
"""Steps of a pixel of eight bits, in which epsilons are told that are no short number."""
SHORT = 6
"""Signs of an epsilon that is written as it is, such as ``0.0025``."""


class Norm(Protocol):
    """A norm over the pixels of an image; radii are floats, or (n, 1, ...) for one per image."""

    @property
    def label(self) -> str:
        """What it is called in messages."""

    def length(self, xp: ArrayNamespace, change: Array) -> Array:
        """The length of each of n changes (n, *shape): (n,)."""

    def longest(self, xp: ArrayNamespace, changes: Array) -> Array:
        """The largest of their lengths, a scalar."""

    def dual(self, xp: ArrayNamespace, gradient: Array) -> Array:
        """How much a function of each gradient (n, *shape) rises by a change of length one: (n,).

        That is the gradient's length in the dual norm.
        """

    def within(self, xp: ArrayNamespace, change: Array, radius: Array | float) -> Array:
        """The nearest changes that are no longer than the radius."""

    def steepest(self, xp: ArrayNamespace, gradient: Array) -> Array:
        """The change of length one along which a function of this gradient rises most."""

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """A random change of an image, evenly from the ball of radius one, float32."""


@dataclass(frozen=True)
class Linf:
    """The largest change of a pixel."""

    label: str = "L∞"

    def length(self, xp: ArrayNamespace, change: Array) -> Array:
        """See ``Norm``."""
        flat = xp.reshape(change, (change.shape[0], -1))
        return xp.maximum(xp.max(flat, axis=1), -xp.min(flat, axis=1))  # no copy of all pixels

    def longest(self, xp: ArrayNamespace, changes: Array) -> Array:
        """See ``Norm``."""
        return xp.maximum(xp.max(changes), -xp.min(changes))

    def dual(self, xp: ArrayNamespace, gradient: Array) -> Array:
        """See ``Norm``."""
        return xp.sum(xp.reshape(xp.abs(gradient), (gradient.shape[0], -1)), axis=1)

    def within(self, xp: ArrayNamespace, change: Array, radius: Array | float) -> Array:
        """See ``Norm``."""
        if isinstance(radius, float):
            return xp.clip(change, -radius, radius)
        return xp.minimum(xp.maximum(change, -radius), radius)

    def steepest(self, xp: ArrayNamespace, gradient: Array) -> Array:
        """See ``Norm``."""
        return xp.sign(gradient)

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """See ``Norm``."""
        return (2 * random.random(shape, dtype=np.float32) - 1).astype(np.float32)


@dataclass(frozen=True)
class L2:
    """The square root of the summed squares of the changes."""

    label: str = "L2"

    def length(self, xp: ArrayNamespace, change: Array) -> Array:
        """See ``Norm``."""
        flat = xp.reshape(change, (change.shape[0], -1))
        return xp.sqrt(xp.sum(flat * flat, axis=1))

    def longest(self, xp: ArrayNamespace, changes: Array) -> Array:
        """See ``Norm``."""
        return xp.max(self.length(xp, changes))

    def dual(self, xp: ArrayNamespace, gradient: Array) -> Array:
        """See ``Norm``."""
        scaled, largest = self._scaled(xp, gradient)
        return self.length(xp, scaled) * largest

    def within(self, xp: ArrayNamespace, change: Array, radius: Array | float) -> Array:
        """See ``Norm``."""
        length = self._lengths(xp, change)
        return change * (xp.minimum(length, radius + 0.0 * length) / length)

    def steepest(self, xp: ArrayNamespace, gradient: Array) -> Array:
        """See ``Norm``; a gradient of zero has no direction, and gives no change."""
        scaled, _ = self._scaled(xp, gradient)
        return scaled / self._lengths(xp, scaled)

    def draw(self, random: np.random.Generator, shape: tuple[int, ...]) -> FloatArray:
        """See ``Norm``."""
        direction = random.standard_normal(shape)
        size = random.random() ** (1 / direction.size)
        return np.asarray(direction * (size / np.linalg.norm(direction)), dtype=np.float32)

    def _scaled(self, xp: ArrayNamespace, gradient: Array) -> tuple[Array, Array]:
        """Gradients over their largest entries, because the squares of small ones underflow."""
        largest = xp.max(xp.reshape(xp.abs(gradient), (gradient.shape[0], -1)), axis=1)
        largest = xp.where(largest > 0, largest, 0.0 * largest + 1.0)
        return gradient / per_image(xp, largest, gradient), largest

    def _lengths(self, xp: ArrayNamespace, change: Array) -> Array:
        """What each change is divided by: its length, or one where that is zero."""
        length = self.length(xp, change)
        return per_image(xp, xp.where(length > 0, length, 0.0 * length + 1.0), change)


NORMS: dict[NormName, Norm] = {"linf": Linf(), "l2": L2()}


def per_image(xp: ArrayNamespace, values: Array, images: Array) -> Array:
    """A value per image (n,) in a shape that broadcasts over the images (n, *shape)."""
    return xp.reshape(values, (images.shape[0], *(1 for _ in images.shape[1:])))


def rounding(bounds: Bounds) -> float:
    """How far a pixel may lie outside of its bounds, or of a ball, by rounding."""
    return TOLERANCE * max(1.0, *map(abs, bounds))


def rounding_of_length(norm: NormName, epsilon: float, bounds: Bounds) -> float:
    """How much longer than epsilon a perturbation may be by rounding."""
    # An L2 length sums the rounding of all pixels.
    return rounding(bounds) if norm == "linf" else epsilon * 1e-5 + 10 * rounding(bounds)


def written(epsilon: float) -> str:
    """An epsilon in pixel units, for reading: ``0.1``, or ``8/255`` in place of ``0.0313725``."""
    plain = f"{epsilon:g}"
    halves = round(2 * LEVELS * epsilon)
    if len(plain) <= SHORT or f"{halves / (2 * LEVELS):g}" != plain:
        return plain
    return f"{halves / 2:g}/{LEVELS}"
