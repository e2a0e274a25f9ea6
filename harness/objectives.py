"""What attacks and saliency maps differentiate: numbers per example, on logits."""

from __future__ import annotations

from dataclasses import dataclass

from harness.protocol import Array, ArrayNamespace


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


def _others(xp: ArrayNamespace, logits: Array, true: Array) -> tuple[Array, Array]:
    """The largest logit of another class, (n,), and exp(z - it) with zero for the true one."""
    lowest = xp.min(logits, axis=1, keepdims=True)
    top = xp.max(xp.where(true, lowest + 0.0 * logits, logits), axis=1, keepdims=True)
    odds = xp.exp(xp.where(true, 0.0 * logits, logits - top))
    return xp.max(top, axis=1), xp.where(true, 0.0 * odds, odds)


def _pick(xp: ArrayNamespace, values: Array, mask: Array) -> Array:
    """The masked entry of each row: (n,)."""
    return xp.sum(xp.where(mask, values, 0.0 * values), axis=1)
