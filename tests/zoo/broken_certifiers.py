"""Certifiers that prove too much, each with one thing wrong, and one that is right."""

from __future__ import annotations

import numpy as np

from harness.certification import CROWN


class Intervals:
    """Someone's interval bounds of a fully connected network, right but for what is changed."""

    name, norm = "intervals", "linf"

    def certified(self, network, model, x, y, epsilons):
        clean = model.numpy(x).astype(float).reshape(len(x), -1)
        for epsilon in epsilons:
            low, high = np.clip(clean - epsilon, 0, 1), np.clip(clean + epsilon, 0, 1)
            count = len(network.weights) // 2
            for layer in range(count):
                matrix = network.weights[f"layers.{layer}.weight"].astype(float)
                centre = (low + high) / 2 @ matrix.T + network.weights[f"layers.{layer}.bias"]
                radius = (high - low) / 2 @ self.sizes(matrix).T
                low, high = centre - radius, centre + radius
                if layer < count - 1:
                    low, high = np.maximum(low, 0), np.maximum(high, 0)
            yield self.proved(low, high, model.numpy(y))

    def sizes(self, matrix):
        return np.abs(matrix)

    def proved(self, low, high, y):
        true = np.arange(low.shape[1]) == y[:, None]
        return low[true] > np.where(true, -np.inf, high).max(axis=1)


class SignedRadius(Intervals):
    """Forgets that the radius grows by the size of a weight, whatever its sign."""

    def sizes(self, matrix):
        return matrix


class UpperForLower(Intervals):
    """Compares the upper bound of the true class with the upper ones of the others."""

    def proved(self, low, high, y):
        return super().proved(high, high, y)


class HalfEpsilon:
    """Takes epsilon for the width of the ball."""

    name, norm = "half", "linf"

    def certified(self, network, model, x, y, epsilons):
        half = [epsilon / 2 for epsilon in epsilons]
        return CROWN().certified(network, model, x, y, half)


class Trusting:
    """Certifies whatever is classified correctly."""

    name, norm = "trusting", "linf"

    def certified(self, network, model, x, y, epsilons):
        return (np.ones(len(x), dtype=bool) for _ in epsilons)


class Samples:
    """Certifies what a few random images of the ball do not get misclassified."""

    name, norm = "samples", "linf"

    def certified(self, network, model, x, y, epsilons):
        random = np.random.default_rng(0)
        clean, labels = model.numpy(x), model.numpy(y)
        for epsilon in epsilons:
            held = np.ones(len(clean), dtype=bool)
            for _ in range(10):
                moved = clean + random.uniform(-epsilon, epsilon, clean.shape)
                given = model.asarray(np.clip(moved, 0, 1).astype(np.float32))
                held &= model.numpy(model.logits(given)).argmax(axis=1) == labels
            yield held


BROKEN = (SignedRadius, UpperForLower, HalfEpsilon, Trusting, Samples)
