"""Intervals from layer to layer (Gowal et al. 2018), of what a model computes in its precision.

An interval with the middle c and the radius r becomes W c + b ± |W| r. With γ of the longest sum
of the layer, the rounded middle is off by no more than γ (|W| |c| + |b|), and the rounded radius by
no more than γ |W| r; so the radius is γ (|W| (|c| + r) + |b|) larger. ReLUs and maxima are exact.

What is attacked is a model in a precision of its own, such as float32. Of what it is given, x, each
of its linear layers makes W x + b + d, with |d| ≤ γ' (|W| |x| + |b|) and the γ' of its precision,
in whatever order it sums. So it is the exact network with a perturbation behind each such layer,
and that bound of d is added to the layer's slack: bounds and certificates hold for the model's own
logits, and with d = 0 for the network in exact arithmetic. They hold for the latter alone where a
model computes less precisely than its dtype says, as by TF32 or by Winograd's convolutions.
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
        ball: In L2, as long as they are pixels.
    """

    interval: Interval
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
        return self.through(steps, Known(region.interval, region.ball), ())

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
        sums = step.spread(numbers.joined([radius, xp.abs(middle) + radius], axis=0))
        reach, most = sums[:count, :], sums[count:, :] + xp.abs(step.bias)
        slack = (gamma + theirs) * (1 + gamma) * most + numbers.model_floor
        interval = _around(numbers, step.forth(middle) + step.bias, reach, slack)
        if known.ball is not None:
            length = known.ball.radius * (1 + gamma) * xp.sqrt(step.squares())
            centre = step.forth(known.ball.centre) + step.bias
            interval = interval.within(_around(numbers, centre, length + 0.0 * reach, slack))
        return Known(interval), slack, given

    def _moved(self, step: Linear, known: Known) -> Known:
        interval = Interval(
            self.numbers, step.forth(known.interval.low), step.forth(known.interval.high)
        )
        ball = known.ball
        if ball is not None:
            ball = replace(ball, centre=step.forth(ball.centre))
        return Known(interval, ball)

    def _rectified(self, known: Known) -> Known:
        xp, low, high = self.numbers.xp, known.interval.low, known.interval.high
        zero = xp.zeros_like(low)
        return Known(Interval(self.numbers, xp.maximum(low, zero), xp.maximum(high, zero)))

    def _pooled(self, step: Pooled, known: Known) -> Known:
        xp, given = self.numbers.xp, known.interval

        def largest(maps: Array) -> Array:
            windows = seen(step, maps, self.numbers, -float("inf"))
            return xp.reshape(xp.max(windows, axis=2), (given.low.shape[0], -1))

        return Known(Interval(self.numbers, largest(given.low), largest(given.high)))

    def _branches(self, step: Branches, known: Known, path: Path) -> tuple[Known, Path]:
        numbers = self.numbers
        one, branch = self.through(step.branch, known, path)
        other, shortcut = self.through(step.shortcut, known, path)
        gamma, theirs = numbers.gamma(1), numbers.model_gamma(1)
        most = one.interval.largest + other.interval.largest
        slack = (gamma + theirs) * most
        low = one.interval.low + other.interval.low - slack
        high = one.interval.high + other.interval.high + slack
        joined = Joined(
            numbers, branch[len(path) :], shortcut[len(path) :], slack,
            gamma * known.interval.largest,
        )  # fmt: skip
        return Known(Interval(numbers, low, high)), (*path, joined)


def _around(numbers: Numbers, middle: Array, reach: Array, slack: Array) -> Interval:
    return Interval(numbers, middle - reach - slack, middle + reach + slack)
