"""What attacks and saliency maps differentiate: numbers per example, on logits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.errors import MeasurementError
from harness.protocol import Array, ArrayNamespace

FLAT = 1e-12
"""Keeps ratios of logits finite where all logits are the same."""
UNIFORM = 0.92
"""A softmax is nearly uniform if its entropy is above this share of the largest that it can have,
over the classes that can win. Of networks trained with the cross-entropy, smoothed labels or not,
hardly one image in a thousand is there."""
SPREAD = 10.0
"""Nats from the mean logit to the largest, to which the logits of such an image are scaled: about
what networks have that were trained without smoothed labels."""
DEAD = 30.0
"""A logit so many times farther below the first than the third is belongs to a class that cannot
win, such as one that was masked out. It is no measure of how far apart the others are."""


@dataclass(frozen=True)
class CrossEntropy:
    """Cross-entropy of the softmax with the true class, in nats: logsumexp(z) - z_y.

    Its gradient softmax(z) - onehot(y) is computed with the entry of the true class as minus the
    sum of the others. The usual p_y - 1 rounds to zero once p_y is within 6e-8 of 1 (float32), and
    is mostly rounding error well before that; attacks that use it return confident images
    unchanged, or push them in a poor direction.
    """

    name: str = "cross-entropy"

    def value(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """Loss (n,) ≥ 0 from logits (n, k) and a boolean one-hot mask (n, k)."""
        top = xp.max(logits, axis=1, keepdims=True)
        shifted = logits - top
        return xp.log(xp.sum(xp.exp(shifted), axis=1)) - _pick(xp, shifted, true)

    def logit_gradient(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The derivative of the value by each logit, (n, k); each row sums to zero."""
        odds = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
        others = xp.where(true, 0.0 * odds, odds / xp.sum(odds, axis=1, keepdims=True))
        return xp.where(true, -xp.sum(others, axis=1, keepdims=True), others)


@dataclass(frozen=True)
class LogOdds:
    """Log-odds against the true class: logsumexp of the other logits - z_y.

    The cross-entropy is log(1 + exp(this)), which rises with it, so both have input gradients of
    the same direction. But where the cross-entropy of a confident image is flat, and in the end
    rounds to zero, this one stays as steep as ever. Attacks that use the sign alone follow it.
    """

    name: str = "log-odds"

    def value(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """Log-odds (n,) in nats from logits (n, k ≥ 2) and a boolean one-hot mask (n, k)."""
        top, odds = _others(xp, logits, true)
        return top + xp.log(xp.sum(odds, axis=1)) - _pick(xp, logits, true)

    def logit_gradient(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The derivative of the value by each logit, (n, k): softmax over the others, -1."""
        _, odds = _others(xp, logits, true)
        share = odds / xp.sum(odds, axis=1, keepdims=True)
        return xp.where(true, 0.0 * share - 1.0, share)


@dataclass(frozen=True)
class TemperedLogOdds:
    """Log-odds at a temperature T of each image's own: T logsumexp(others / T) - z_y.

    T is 1, which makes these the ``LogOdds``, unless the softmax of the image is nearly uniform, as
    all are of a network whose logits are small. There the log-odds lead away from the mean of the
    other classes, whichever of them is near. So there T scales the logits to a common spread, and
    the direction does not depend on their scale (it never does on a number added to them all).
    T counts as a constant when the derivative is taken.
    """

    name: str = "tempered-cross-entropy"

    def value(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The log-odds (n,) from logits (n, k ≥ 2) and a boolean one-hot mask (n, k)."""
        tempered, heat = _tempered(xp, logits)
        return heat * LogOdds().value(xp, tempered, true)

    def logit_gradient(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The derivative of the value by each logit, (n, k): softmax over the others / T, -1."""
        tempered, _ = _tempered(xp, logits)
        return LogOdds().logit_gradient(xp, tempered, true)


@dataclass(frozen=True)
class Margin:
    """The lead of the strongest other class: max of the other logits - z_y.

    It is positive exactly where the image is misclassified (Carlini & Wagner 2017, eq. f6).
    """

    name: str = "margin"

    def value(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The lead (n,) from logits (n, k ≥ 2) and a boolean one-hot mask (n, k)."""
        return _top_other(xp, logits, true)[:, 0] - _pick(xp, logits, true)

    def logit_gradient(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The derivative of the value by each logit, (n, k): 1 for the rival, -1 for the true."""
        rival = _shared(xp, ~true & (logits >= _top_other(xp, logits, true)), logits)
        return xp.where(true, rival - 1.0, rival)


@dataclass(frozen=True)
class LogitRatio:
    """Difference of logits ratio: the margin over the lead of the first logit before the third.

    It does not change when the logits are shifted or scaled (Croce & Hein 2020, eq. 6).
    """

    name: str = "dlr"

    def value(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The ratio (n,) from logits (n, k ≥ 3) and a boolean one-hot mask (n, k)."""
        return Margin().value(xp, logits, true) / self._scale(xp, logits)[:, 0]

    def logit_gradient(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The derivative of the value by each logit, (n, k), by the rule for quotients."""
        margin, scale = Margin(), self._scale(xp, logits)
        ratio = margin.value(xp, logits, true)[:, None] / scale
        first, third = _places(xp, logits, 1, 3)
        return (margin.logit_gradient(xp, logits, true) - ratio * (first - third)) / scale

    def _scale(self, xp: ArrayNamespace, logits: Array) -> Array:
        if logits.shape[1] < 3:
            raise MeasurementError("the loss dlr needs three classes or more; use margin")
        ordered = xp.sort(logits, axis=1)
        return ordered[:, -1:] - ordered[:, -3:-2] + FLAT


ODDS: Mapping[str, LogOdds | TemperedLogOdds] = {
    "cross-entropy": LogOdds(),
    "tempered-cross-entropy": TemperedLogOdds(),
}
"""What is climbed in place of a cross-entropy."""


@dataclass(frozen=True)
class Towards:
    """Pulls an image to a chosen class. The mask is 1 there, -1 at the true class, and else 0.

    Attributes:
        loss: ``cross-entropy`` lowers it for the chosen class (along its log-odds, which may be
            tempered); ``margin`` raises the chosen logit over the true one; ``dlr`` does so
            relative to the lead of the first logit before the mean of the third and the fourth
            (Croce & Hein 2020, eq. 7).
    """

    loss: Literal["cross-entropy", "tempered-cross-entropy", "margin", "dlr"] = "cross-entropy"

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"targeted {self.loss}"

    def value(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """What is raised, (n,), from logits (n, k) and signs (n, k) in their dtype."""
        if self.loss in ODDS:
            return -ODDS[self.loss].value(xp, logits, true > 0)
        lead = xp.sum(true * logits, axis=1)
        return lead / self._scale(xp, logits)[:, 0] if self.loss == "dlr" else lead

    def logit_gradient(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The derivative of the value by each logit, (n, k)."""
        if self.loss in ODDS:
            return -ODDS[self.loss].logit_gradient(xp, logits, true > 0)
        if self.loss == "margin":
            return true
        scale = self._scale(xp, logits)
        ratio = xp.sum(true * logits, axis=1, keepdims=True) / scale
        first, third, fourth = _places(xp, logits, 1, 3, 4)
        return (true - ratio * (first - (third + fourth) / 2)) / scale

    def _scale(self, xp: ArrayNamespace, logits: Array) -> Array:
        if logits.shape[1] < 4:
            raise MeasurementError("the targeted loss dlr needs four classes or more; use margin")
        ordered = xp.sort(logits, axis=1)
        return ordered[:, -1:] - (ordered[:, -3:-2] + ordered[:, -4:-3]) / 2 + FLAT


@dataclass(frozen=True)
class ClassLogit:
    """The logit of the given class: what a saliency map explains (Simonyan et al. 2014, eq. 3)."""

    name: str = "class-logit"

    def value(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The class's logit, (n,)."""
        return _pick(xp, logits, true)

    def logit_gradient(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """One for the class, zero elsewhere: (n, k)."""
        zero = 0.0 * logits
        return xp.where(true, zero + 1.0, zero)


@dataclass(frozen=True)
class Divergence:
    """KL(p || softmax(z)), in nats, from a given distribution p: what TRADES' adversary raises.

    Here ``true`` is p, (n, k), instead of a mask. (Zhang et al. 2019, equation 5.)
    """

    name: str = "divergence"

    def value(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The divergence, (n,) ≥ 0."""
        shifted = logits - xp.max(logits, axis=1, keepdims=True)
        logs = shifted - xp.log(xp.sum(xp.exp(shifted), axis=1, keepdims=True))
        entropy = xp.where(true > 0, true * xp.log(xp.where(true > 0, true, 0.0 * true + 1)), true)
        return xp.sum(entropy - true * logs, axis=1)

    def logit_gradient(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The derivative of the value by each logit, (n, k): softmax(z) - p."""
        odds = xp.exp(logits - xp.max(logits, axis=1, keepdims=True))
        return odds / xp.sum(odds, axis=1, keepdims=True) - true


def _tempered(xp: ArrayNamespace, logits: Array) -> tuple[Array, Array]:
    """Logits (n, k) divided by the temperature of each image, but for a shift; and that, (n,)."""
    shifted = logits - xp.max(logits, axis=1, keepdims=True)
    alive = _alive(xp, shifted)
    count = xp.sum(alive, axis=1, keepdims=True)
    near = xp.where(alive > 0, shifted, 0.0 * alive)
    odds = alive * xp.exp(near)
    total = xp.sum(odds, axis=1, keepdims=True)
    entropy = xp.log(total) - xp.sum(odds * near, axis=1, keepdims=True) / total
    heat = -xp.sum(near, axis=1, keepdims=True) / count / SPREAD
    nearly = (entropy > UNIFORM * xp.log(count)) & (heat > 0)
    heat = xp.where(nearly, heat, 0.0 * heat + 1.0)
    # Shifted first, since a quotient of large logits that hardly differ is mostly rounding.
    return xp.where(nearly, shifted / heat, logits), xp.max(heat, axis=1)


def _alive(xp: ArrayNamespace, shifted: Array) -> Array:
    """One for each class that can win, and else zero, (n, k), from logits less their largest."""
    ones = 0.0 * shifted + 1.0
    if shifted.shape[1] < 3:
        return ones
    lead = -xp.sort(shifted, axis=1)[:, -3:-2]
    return xp.where((shifted < -DEAD * lead) & (lead > 0), 0.0 * shifted, ones)


def _top_other(xp: ArrayNamespace, logits: Array, true: Array) -> Array:
    """The largest logit of another class, (n, 1)."""
    lowest = xp.min(logits, axis=1, keepdims=True)
    return xp.max(xp.where(true, lowest + 0.0 * logits, logits), axis=1, keepdims=True)


def _shared(xp: ArrayNamespace, chosen: Array, logits: Array) -> Array:
    """A weight of one per row, shared by the chosen entries (more than one where logits tie)."""
    ones = xp.where(chosen, 0.0 * logits + 1.0, 0.0 * logits)
    return ones / xp.sum(ones, axis=1, keepdims=True)


def _places(xp: ArrayNamespace, logits: Array, *places: int) -> list[Array]:
    """The gradient of the largest logit (place 1), of the next (2), and so on, each (n, k)."""
    rising, classes = xp.sort(logits, axis=1), logits.shape[1]
    ends = [classes - place for place in places]
    return [_shared(xp, logits == rising[:, end : end + 1], logits) for end in ends]


def _others(xp: ArrayNamespace, logits: Array, true: Array) -> tuple[Array, Array]:
    """The largest logit of another class, (n,), and exp(z - it) with zero for the true one."""
    top = _top_other(xp, logits, true)
    odds = xp.exp(xp.where(true, 0.0 * logits, logits - top))
    return xp.max(top, axis=1), xp.where(true, 0.0 * odds, odds)


def _pick(xp: ArrayNamespace, values: Array, mask: Array) -> Array:
    """The masked entry of each row: (n,)."""
    return xp.sum(xp.where(mask, values, 0.0 * values), axis=1)
