"""Linear bounds of each layer, on intervals of what it is given; and the way back through them.

Rows (b, r, n) are coefficients of r linear functions of what a layer makes, for each of b images.
Going back through the layer makes them coefficients of what it is given, and adds to a total,
(b, r), so that rows times values, plus the total, does not grow anywhere on the intervals. What may
be lost by rounding is taken off the total at once: of a layer the slack s, (b, n), is such that the
rounded rows and totals are off by no more than |rows| s; see ``numbers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from harness.certification.layers import Linear, Pooled
from harness.certification.numbers import Numbers
from harness.certification.regions import Interval
from harness.certification.windows import Windows
from harness.protocol import Array


@dataclass(frozen=True)
class Affine:
    """A linear layer: a' (W x + b) = (a' W) x + a' b.

    The rounded a' W is off by no more than γ |a|' |W|, so that its product with x is by no more
    than γ |a|' |W| |x|, and a' b is off by no more than γ |a|' |b|. So the slack is
    γ (|W| |x| + |b|).

    Attributes:
        step: The layer.
        slack: (b, out).
        given: What x may be.
    """

    step: Linear
    slack: Array
    given: Interval

    def taken(self, at: Array) -> Affine:
        """The same of some of the images."""
        take = self.given.numbers.take
        return Affine(self.step, take(self.slack, at), self.given.taken(at))

    def back(self, rows: Array, total: Array) -> tuple[Array, Array]:
        """See the module."""
        step, numbers, xp = self.step, self.step.numbers, self.step.numbers.xp
        if not step.moves:
            total = total + numbers.dot(rows, step.bias)
            total = total - numbers.dot(xp.abs(rows), self.slack)
        count = tuple(rows.shape)[:2]
        flat = step.back(xp.reshape(rows, (-1, step.size[1])))
        return xp.reshape(flat, (*count, step.size[0])), total


@dataclass(frozen=True)
class Bent:
    """A ReLU between two lines, lower x ≤ relu(x) ≤ upper x + above (Zhang et al. 2018).

    A coefficient a ≥ 0 takes the lower line, any other the upper one. With m = (lower + upper) / 2
    and h = (lower - upper) / 2 that is a m + |a| h, and the total gains (a - |a|) / 2 · above.

    Attributes:
        numbers: The arithmetic.
        middle: m, (b, n).
        half: h, likewise.
        above: Half of what the upper line is above the origin at 0.
        slack: That, and what rounding may take.
    """

    numbers: Numbers
    middle: Array
    half: Array
    above: Array
    slack: Array

    @classmethod
    def on(cls, given: Interval) -> Bent:
        """That on an interval, with the adaptive lower line: 0 or x, which is nearer to the ReLU.

        The upper line goes from (l, 0) to (u, u). Its slope s = u / (u - l) is rounded to within
        3 u s, which moves it by no more than 3 u |x|, and what it is at 0 to within 2 u |l|; it is
        raised by more than that.
        """
        numbers, xp = given.numbers, given.numbers.xp
        low, high, most = given.low, given.high, given.largest
        zero, one = 0.0 * low, 0.0 * low + 1.0
        crossing = (low < 0) & (high > 0)
        upper = xp.where(crossing, high / xp.where(crossing, high - low, one), zero)
        upper = xp.where(low >= 0, one, upper)
        lower = xp.where(crossing, xp.where(high > -low, one, zero), upper)
        raised = numbers.gamma(4) * most - upper * low
        above = xp.where(crossing, raised, zero) / 2
        slack = numbers.gamma(low.shape[1]) * 4 * most
        return cls(numbers, (lower + upper) / 2, (lower - upper) / 2, above, above + slack)

    def taken(self, at: Array) -> Bent:
        """The same of some of the images."""
        parts = (self.middle, self.half, self.above, self.slack)
        return Bent(self.numbers, *(self.numbers.take(part, at) for part in parts))

    def back(self, rows: Array, total: Array) -> tuple[Array, Array]:
        """See the module."""
        numbers = self.numbers
        size = numbers.xp.abs(rows)
        total = total + numbers.dot(rows, self.above) - numbers.dot(size, self.slack)
        middle, half = (part[:, None, :] for part in (self.middle, self.half))
        return numbers.bent(rows, size, middle, half), total


@dataclass(frozen=True)
class Peaked:
    """The largest number of each window between two planes.

    With L the largest lower bound in a window, the maximum is no less than the mean of the numbers
    that have it, and max x ≤ L + Σ max(x_i - L, 0) ≤ L + Σ s_i (x_i - l_i), where
    s_i = (u_i - L) / (u_i - l_i) if u_i > L, and else 0. Where only one u_i is above L that is
    x_i itself. The constant U, the largest u_i, takes the place of the sum if that is larger in the
    middle of the interval.

    Attributes:
        numbers: The arithmetic.
        step: The layer.
        middle: As of ``Bent``, of each place of each window, (b, channels · size · count).
        half: Likewise.
        above: As of ``Bent``, (b, channels · count).
        slack: Likewise.
    """

    numbers: Numbers
    step: Pooled
    middle: Array
    half: Array
    above: Array
    slack: Array

    @classmethod
    def on(cls, step: Pooled, given: Interval) -> Peaked:
        """That on an interval, (b, channels · pixels)."""
        numbers, xp, size = given.numbers, given.numbers.xp, step.windows.size
        low, high = (
            seen(step, given.low, numbers, -np.inf),
            seen(step, given.high, numbers, -np.inf),
        )
        plain, ends = seen(step, given.low, numbers, 0.0), seen(step, given.high, numbers, 0.0)
        most = xp.maximum(xp.abs(plain), xp.abs(ends))
        least, top = (xp.max(part, axis=2, keepdims=True) for part in (low, high))
        zero, one = 0.0 * plain, 0.0 * plain + 1.0
        tied = xp.where(low >= least, one, zero)
        lower = tied / xp.sum(tied, axis=2, keepdims=True)
        over, wide = high > least, ends > plain
        upper = xp.where(over, (high - least) / xp.where(over & wide, ends - plain, one), zero)
        # A number that is known exactly is its own lower bound, and is L itself.
        upper = xp.where(tied > 0, xp.where(over, one, zero), upper)
        # Of the numbers that have L, those that do not go beyond it add nothing to the sum.
        excess = xp.sum(xp.where(over, high - least, zero), axis=2, keepdims=True)
        constant = excess / 2 > top - least
        upper = xp.where(constant, zero, upper)
        weight = xp.max(most, axis=2)
        above = least - xp.sum(upper * plain, axis=2, keepdims=True)
        above = xp.where(constant, top, above)[:, :, 0, :]
        above = (above + numbers.gamma(size + 8) * (size + 3) * weight) / 2
        slack = numbers.gamma(given.low.shape[1]) * (2 * size + 8) * weight
        parts = ((lower + upper) / 2, (lower - upper) / 2, above, above + slack)
        return cls(numbers, step, *(xp.reshape(part, (part.shape[0], -1)) for part in parts))

    def taken(self, at: Array) -> Peaked:
        """The same of some of the images."""
        parts = (self.middle, self.half, self.above, self.slack)
        return Peaked(self.numbers, self.step, *(self.numbers.take(part, at) for part in parts))

    def back(self, rows: Array, total: Array) -> tuple[Array, Array]:
        """See the module."""
        numbers, xp, windows = self.numbers, self.numbers.xp, self.step.windows
        size = xp.abs(rows)
        total = total + numbers.dot(rows, self.above) - numbers.dot(size, self.slack)
        images, count = tuple(rows.shape)[:2]
        shape = (images, count, self.step.channels, 1, windows.count)
        places = (images, 1, self.step.channels, windows.size, windows.count)
        parts = numbers.bent(
            xp.reshape(rows, shape), xp.reshape(size, shape),
            xp.reshape(self.middle, places), xp.reshape(self.half, places),
        )  # fmt: skip
        many = windows.size * windows.count
        maps = windows.spread(numbers, xp.reshape(parts, (-1, self.step.channels, many)))
        return xp.reshape(maps, (images, count, -1)), total


@dataclass(frozen=True)
class Joined:
    """A sum of two branches: each carries the rows back, and both sums are added.

    Attributes:
        numbers: The arithmetic.
        branch: The nodes of one.
        shortcut: Those of the other.
        slack: Of the sum of the rows, (b, n).
    """

    numbers: Numbers
    branch: Path
    shortcut: Path
    slack: Array

    def taken(self, at: Array) -> Joined:
        """The same of some of the images."""
        branch, shortcut = (taken(path, at) for path in (self.branch, self.shortcut))
        return Joined(self.numbers, branch, shortcut, self.numbers.take(self.slack, at))

    def back(self, rows: Array, total: Array) -> tuple[Array, Array]:
        """See the module."""
        one, total = backward(self.branch, rows, total)
        other, total = backward(self.shortcut, rows, total)
        both = one + other
        return both, total - self.numbers.dot(self.numbers.xp.abs(both), self.slack)


@dataclass(frozen=True)
class Inside:
    """Numbers that are there, and others beyond the edge of a map, which are 0.

    Attributes:
        numbers: The arithmetic.
        mask: 1 for those that are there, 0 for the others, (b, n).
    """

    numbers: Numbers
    mask: Array

    def taken(self, at: Array) -> Inside:
        """The same of some of the images."""
        return Inside(self.numbers, self.numbers.take(self.mask, at))

    def back(self, rows: Array, total: Array) -> tuple[Array, Array]:
        """See the module."""
        return rows * self.mask[:, None, :], total


Node: TypeAlias = Affine | Bent | Peaked | Joined | Inside
Path: TypeAlias = tuple[Node, ...]


def backward(path: Sequence[Node], rows: Array, total: Array) -> tuple[Array, Array]:
    """Back through layers one after another, from the last of them."""
    for node in reversed(path):
        rows, total = node.back(rows, total)
    return rows, total


def taken(path: Sequence[Node], at: Array) -> Path:
    """The layers' bounds of some of the images."""
    return tuple(node.taken(at) for node in path)


def seen(step: Pooled, maps: Array, numbers: Numbers, padding: float) -> Array:
    """What the windows see of maps (b, channels · pixels): (b, channels, size, count)."""
    xp, windows = numbers.xp, step.windows
    shape = (-1, step.channels, windows.size, windows.count)
    found = windows.gather(numbers, xp.reshape(maps, (-1, step.channels, windows.pixels)))
    found = xp.reshape(found, shape)
    if padding == 0.0 or windows.valid.all():
        return found
    return xp.where(_valid(windows, numbers), found, 0.0 * found + padding)


def _valid(windows: Windows, numbers: Numbers) -> Array:
    return numbers.floats(windows.valid.astype(np.float64)[None, None]) > 0
