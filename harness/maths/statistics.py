"""Tests and intervals of counted images."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from harness.protocol import BoolArray, IntArray

ALPHA = 1e-3
"""Chance that a check which counts images fires although nothing is wrong, at most. A check that
makes several comparisons shares it among them (Bonferroni)."""
GUESSES = 1999
"""Random orders of the labels that a model's predictions are compared with."""
GUESSED = 0.01
"""A model is better than chance if so few of these orders fit its predictions as well."""

USEFUL = 0.3
"""Accuracy of a model that is of some use, where that is above chance by ``LEAD``."""
LEAD = (0.1, 0.2)
"""By how much such a model is better than chance, at least and at most."""


def wilson(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a proportion (Wilson 1927).

    Args:
        correct: Number of successes, 0 ≤ correct ≤ total.
        total: Number of trials, at least 1.
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        Lower and upper end, each in [0, 1].

    Raises:
        ValueError: The counts do not describe a proportion.
    """
    if not 0 <= correct <= total or total < 1:
        raise ValueError(f"{correct} of {total} is not a proportion")
    # Not by scipy.stats: to import that takes longer than to draw a report.
    z = NormalDist().inv_cdf(0.5 + 0.5 * confidence)
    share = correct / total
    denominator = 2 * (total + z**2)
    center = (2 * total * share + z**2) / denominator
    half = z / denominator * math.sqrt(4 * total * share * (1 - share) + z**2)
    return (
        0.0 if correct == 0 else center - half,
        1.0 if correct == total else center + half,
    )


def more_often(first: BoolArray, second: BoolArray, comparisons: int = 1) -> bool:
    """Whether ``first`` holds for significantly more of the same n images than ``second``.

    Only images for which one holds alone say anything. If the two were alike, each of these would
    be a coin toss: the exact one-sided test of McNemar (1947).

    Args:
        first: One prediction per image, (n,).
        second: The other, (n,).
        comparisons: Among how many such questions ``ALPHA`` is shared.
    """
    alone = int(np.sum(first & ~second))
    return exceeds(alone, alone + int(np.sum(second & ~first)), 0.5, comparisons)


def exceeds(count: int, total: int, share: float, comparisons: int = 1) -> bool:
    """Whether a count is significantly more than that share of the total (exact binomial test)."""
    from scipy.stats import binom

    return total > 0 and bool(binom.sf(count - 1, total, share) < ALPHA / comparisons)


def beats_chance(labels: IntArray, y: IntArray) -> bool:
    """Whether predicted labels (n,) fit the true ones (n,) better than in a random order.

    A permutation test (Fisher 1935): it allows for classes of any size, and a constant prediction
    never passes, however large the largest class is.
    """
    random = np.random.default_rng(0)
    right = int(np.sum(labels == y))
    orders = random.permuted(np.broadcast_to(y, (GUESSES, len(y))), axis=1)
    as_good = int(np.sum(np.sum(orders == labels, axis=1) >= right))
    return (as_good + 1) / (GUESSES + 1) <= GUESSED


def falls_short(labels: IntArray, y: IntArray) -> bool:
    """Whether predicted labels (n,) fit the true ones (n,) worse than those of any useful model.

    Not to beat chance says little of a few images: this tests whether a model that is correct a
    little more often than chance would do so badly (exact binomial test). Chance is the agreement
    to be expected of labels that are predicted as often, whatever the image (Cohen 1960).
    """
    said, shown = (np.bincount(each, minlength=1 + max(labels.max(), y.max()))
                   for each in (labels, y))  # fmt: skip
    chance = float(said @ shown) / len(y) ** 2
    # Where one class is nearly all there is, to know half of what a guess does not is much.
    useful = chance + min(float(np.clip(USEFUL - chance, *LEAD)), (1 - chance) / 2)
    wrong = int(np.sum(labels != y))
    if exceeds(wrong, len(y), 1 - useful, comparisons=2):  # chance is estimated: with room to spare
        return True
    # One label for everything: of the images of other classes, a useful model would know some.
    return len(np.unique(labels)) == 1 and exceeds(wrong, wrong, 0.5)
