"""Intervals from layer to layer (Gowal et al. 2018), and what rounding can make of them.

An interval with the middle c and the radius r becomes W c + b ± |W| r. With γ of the longest sum
of the layer, the rounded middle is off by no more than γ (|W| |c| + |b|), and the rounded radius by
no more than γ |W| r; so the radius is γ (|W| (|c| + r) + |b|) larger. ReLUs and maxima are exact.

What is attacked is a model in a precision of its own, such as float32. Let what it makes of the
image be off by no more than e where the layer begins. Behind it that is no more than
|W| e + γ' (|W| (m + e) + |b|), where m bounds what is exact, and γ' is that of the model's
precision, which holds for sums in any order. It does not hold where a model computes with TF32,
half precision or fast transforms that it does not have for its dtype; then certificates are those
of its network in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from harness.certification.layers import Branches, Linear, Pooled, Rectified, Step
from harness.certification.numbers import Numbers
from harness.certification.regions import Ball, Interval, Region
from harness.certification.relaxations import Affine, Bent, Joined, Path, Peaked, seen
from harness.protocol import Array


@dataclass(frozen=True)
class Known:
    """What is known of the numbers between two layers, of b images.

    Attributes:
        interval: Where they are, (b, n).
        error: How far those of the model may be off, (b, n).
        ball: In L2, as long as they are pixels.
    """

    interval: Interval
    error: Array
    ball: Ball | None = None


Refine: TypeAlias = Callable[[Step, Known, Path], Interval]
"""A narrower interval for what a layer is given, from the layers before it."""


@dataclass(frozen=True)
class Propagation:
    """A pass of intervals through a network.

    Attributes:
        numbers: The arithmetic.
        refine: Makes intervals narrower before ReLUs and maxima; None leaves them.
    """

    numbers: Numbers
    refine: Refine | None = None

    def network(self, steps: tuple[Step, ...], region: Region) -> tuple[Known, Path]:
        """What is known of the logits, and linear bounds of all layers."""
        error = 0.0 * region.interval.low
        return self.through(steps, Known(region.interval, error, region.ball), ())

    def through(self, steps: tuple[Step, ...], known: Known, path: Path) -> tuple[Known, Path]:
        """The same behind some steps, and behind those of the path."""
        for step in steps:
            if self.refine is not None and isinstance(step, Rectified | Pooled):
                known = replace(known, interval=self.refine(step, known, path), ball=None)
            if isinstance(step, Linear):
                known, slack, given = self._linear(step, known)
                path = (*path, Affine(step, slack, given))
            elif isinstance(step, Rectified):
                path = (*path, Bent.on(known.interval))
                known = self._rectified(known)
            elif isinstance(step, Pooled):
                path = (*path, Peaked.on(step, known.interval))
                known = self._pooled(step, known)
            else:
                known, path = self._branches(step, known, path)
        return known, path

    def _linear(self, step: Linear, known: Known) -> tuple[Known, Array, Interval]:
        given = known.interval
        if step.moves:
            return self._moved(step, known), 0.0 * given.low, given
        numbers, xp = self.numbers, self.numbers.xp
        gamma, theirs = numbers.gamma(step.terms), numbers.model_gamma(step.fan)
        middle, radius, count = given.middle, given.radius, given.low.shape[0]
        sizes = numbers.joined([radius, xp.abs(middle) + radius, known.error], axis=0)
        sums = step.spread(sizes)
        reach, error = sums[:count, :], sums[2 * count :, :]
        most = sums[count : 2 * count, :] + xp.abs(step.bias)
        slack = gamma * (1 + gamma) * most
        interval = _around(numbers, step.forth(middle) + step.bias, reach, slack)
        if known.ball is not None:
            length = known.ball.radius * (1 + gamma) * xp.sqrt(step.squares())
            centre = step.forth(known.ball.centre) + step.bias
            interval = interval.within(_around(numbers, centre, length + 0.0 * reach, slack))
        error = (error + theirs * (most + error)) * (1 + gamma)
        return Known(interval, error), slack, given

    def _moved(self, step: Linear, known: Known) -> Known:
        interval = Interval(
            self.numbers, step.forth(known.interval.low), step.forth(known.interval.high)
        )
        ball = known.ball
        if ball is not None:
            ball = replace(ball, centre=step.forth(ball.centre))
        return Known(interval, step.forth(known.error), ball)

    def _rectified(self, known: Known) -> Known:
        xp, low, high = self.numbers.xp, known.interval.low, known.interval.high
        zero = xp.zeros_like(low)
        return Known(
            Interval(self.numbers, xp.maximum(low, zero), xp.maximum(high, zero)), known.error
        )

    def _pooled(self, step: Pooled, known: Known) -> Known:
        xp, count = self.numbers.xp, known.error.shape[0]

        def largest(maps: Array, padding: float) -> Array:
            windows = seen(step, maps, self.numbers, padding)
            return xp.reshape(xp.max(windows, axis=2), (count, -1))

        nothing = -float("inf")
        low, high = (largest(end, nothing) for end in (known.interval.low, known.interval.high))
        return Known(Interval(self.numbers, low, high), largest(known.error, 0.0))

    def _branches(self, step: Branches, known: Known, path: Path) -> tuple[Known, Path]:
        numbers = self.numbers
        one, branch = self.through(step.branch, known, path)
        other, shortcut = self.through(step.shortcut, known, path)
        gamma, theirs = numbers.gamma(1), numbers.model_gamma(1)
        most = one.interval.largest + other.interval.largest
        slack = gamma * most
        low = one.interval.low + other.interval.low - slack
        high = one.interval.high + other.interval.high + slack
        error = one.error + other.error
        error = (error + theirs * (most + error)) * (1 + gamma)
        joined = Joined(
            numbers, branch[len(path) :], shortcut[len(path) :], gamma * known.interval.largest
        )
        return Known(Interval(numbers, low, high), error), (*path, joined)


def _around(numbers: Numbers, middle: Array, reach: Array, slack: Array) -> Interval:
    return Interval(numbers, middle - reach - slack, middle + reach + slack)
