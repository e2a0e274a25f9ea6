"""Where the images of a certificate lie, and the least that linear functions are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from harness.certification.numbers import Numbers
from harness.maths.norms import rounding, rounding_of_length
from harness.protocol import Array, Bounds, NormName


@dataclass(frozen=True)
class Interval:
    """All vectors between two, of b images.

    Attributes:
        numbers: The arithmetic.
        low: The lowest, (b, n).
        high: The highest, likewise.
    """

    numbers: Numbers
    low: Array
    high: Array

    @property
    def middle(self) -> Array:
        """Its middle, rounded."""
        return (self.low + self.high) / 2

    @property
    def radius(self) -> Array:
        """How far it reaches from there, rounded; slack has room for both roundings."""
        return (self.high - self.low) / 2

    @property
    def largest(self) -> Array:
        """The largest absolute value in it."""
        xp = self.numbers.xp
        return xp.maximum(xp.abs(self.low), xp.abs(self.high))

    def taken(self, at: Array) -> Interval:
        """That of some of the images."""
        take = self.numbers.take
        return Interval(self.numbers, take(self.low, at), take(self.high, at))

    def within(self, other: Interval) -> Interval:
        """What lies in both."""
        xp = self.numbers.xp
        low, high = xp.maximum(self.low, other.low), xp.minimum(self.high, other.high)
        return Interval(self.numbers, low, high)

    def lowest(self, rows: Array) -> Array:
        """A lower bound of the products with rows (b, r, n): (b, r)."""
        numbers, middle, radius = self.numbers, self.middle, self.radius
        slack = numbers.gamma(rows.shape[2]) * (numbers.xp.abs(middle) + radius)
        return numbers.dot(rows, middle) - numbers.dot(numbers.xp.abs(rows), radius + slack)


@dataclass(frozen=True)
class Ball:
    """All vectors within a distance in L2 of others, those of b images.

    Attributes:
        numbers: The arithmetic.
        centre: The others, (b, n).
        radius: The distance.
    """

    numbers: Numbers
    centre: Array
    radius: float

    def taken(self, at: Array) -> Ball:
        """That of some of the images."""
        return Ball(self.numbers, self.numbers.take(self.centre, at), self.radius)

    def lowest(self, rows: Array) -> Array:
        """A lower bound of the products with rows (b, r, n): (b, r), by the dual norm."""
        numbers, xp = self.numbers, self.numbers.xp
        gamma = numbers.gamma(rows.shape[2])
        length = xp.sqrt(xp.sum(rows * rows, axis=2)) * (self.radius * (1 + gamma))
        slack = numbers.dot(xp.abs(rows), gamma * xp.abs(self.centre))
        return numbers.dot(rows, self.centre) - length - slack


@dataclass(frozen=True)
class Region:
    """The images of a certificate: an interval, and in L2 a ball within it.

    Attributes:
        interval: Of each of b images, (b, n).
        ball: In L2.
    """

    interval: Interval
    ball: Ball | None = None

    def taken(self, at: Array) -> Region:
        """That of some of the images."""
        ball = None if self.ball is None else self.ball.taken(at)
        return Region(self.interval.taken(at), ball)

    def lowest(self, rows: Array) -> Array:
        """A lower bound of the products with rows (b, r, n): (b, r)."""
        found = self.interval.lowest(rows)
        if self.ball is None:
            return found
        return self.interval.numbers.xp.maximum(found, self.ball.lowest(rows))


def region_around(
    numbers: Numbers, x: Array, epsilon: float, norm: NormName, bounds: Bounds
) -> Region:
    """All images that count as within epsilon of some, and within the box.

    Images are float32, so that one at ε is a little further away; ``check_perturbation`` allows
    for that. What it allows is within this region.

    Args:
        numbers: The arithmetic.
        x: Images as vectors, (b, n).
        epsilon: Radius in pixel units.
        norm: That of the radius.
        bounds: Lowest and highest pixel value.
    """
    xp, spare = numbers.xp, rounding(bounds)
    reach = epsilon + rounding_of_length(norm, epsilon, bounds)
    slack = numbers.gamma(1) * (xp.abs(x) + reach)
    low, high = bounds[0] - spare, bounds[1] + spare
    interval = Interval(
        numbers, _clipped(xp, x - reach - slack, low, high),
        _clipped(xp, x + reach + slack, low, high),
    )  # fmt: skip
    if norm == "linf":
        return Region(interval)
    return Region(interval, Ball(numbers, x, reach))


def _clipped(xp: Array, values: Array, low: float, high: float) -> Array:
    clip: Callable[..., Array] = np.clip if xp is np else xp.clip
    return clip(values, low, high)
