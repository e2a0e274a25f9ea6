"""Intervals around counted accuracies."""

from __future__ import annotations


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
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)
