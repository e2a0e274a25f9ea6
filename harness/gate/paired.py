"""Two models on the same images: exact McNemar tests, Holm's correction, and an effect's interval.

Everything works on arrays of any shape, so that thousands of gates can be simulated at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from harness.maths.statistics import wilson

Floats = npt.NDArray[np.float64]
LEVEL = 0.005
"""Rate of false alarms of a gate, over all its checks together and in either direction. With half
of the promised 1 %, estimated spreads keep the promise too."""


def mcnemar(lost: npt.ArrayLike, gained: npt.ArrayLike) -> Floats:
    """Two-sided exact p-values of paired outcomes (McNemar 1947): a sign test.

    If nothing changed, each image whose outcome changed is as likely to be lost as to be gained.
    This is ``scipy.stats.binomtest(lost, lost + gained).pvalue``, for arrays.

    Args:
        lost: Images that were correct and are misclassified now, integers ≥ 0.
        gained: Images that were misclassified and are correct now, likewise.
    """
    from scipy.stats import binom

    lost, gained = np.asarray(lost), np.asarray(gained)
    tail = binom.cdf(np.minimum(lost, gained), lost + gained, 0.5)
    return np.asarray(np.minimum(1.0, 2.0 * tail), dtype=float)


def holm(p_values: npt.ArrayLike) -> Floats:
    """Adjusted p-values, along the last axis (Holm 1979).

    Rejecting those of at most α errs in any of them with probability α at most, however they are
    correlated.
    """
    p_values = np.asarray(p_values, dtype=float)
    count = p_values.shape[-1]
    order = np.argsort(p_values, axis=-1)
    steps = np.take_along_axis(p_values, order, axis=-1) * np.arange(count, 0, -1)
    adjusted = np.empty_like(p_values)
    raised = np.maximum.accumulate(steps, axis=-1).clip(max=1.0)
    np.put_along_axis(adjusted, order, raised, axis=-1)
    return adjusted


def difference_interval(
    both: int, lost: int, gained: int, neither: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the rise of an accuracy between paired outcomes (Newcombe 1998b, method 10).

    It joins the two Wilson intervals and allows for their correlation. Unlike the textbook interval
    (Wald) it keeps its coverage where few images changed, and its width where none did.

    Args:
        both: Images that are correct before and after.
        lost: Correct before only.
        gained: Correct after only.
        neither: Correct neither before nor after.
        confidence: Coverage of the interval, in (0, 1).

    Returns:
        Lower and upper end of (accuracy after - accuracy before), in [-1, 1].

    Raises:
        ValueError: The counts are not those of any images.
    """
    n = both + lost + gained + neither
    after, before = (both + gained) / n if n else 0.0, (both + lost) / n if n else 0.0
    low_after, high_after = wilson(both + gained, n, confidence)
    low_before, high_before = wilson(both + lost, n, confidence)
    phi = _correlation(both, lost, gained, neither)

    def joined(a: float, b: float) -> float:
        return float(np.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b)))

    down = joined(after - low_after, high_before - before)
    up = joined(high_after - after, before - low_before)
    return max(-1.0, after - before - down), min(1.0, after - before + up)


def _correlation(both: int, lost: int, gained: int, neither: int) -> float:
    """The correlation of the outcomes with Newcombe's correction for continuity."""
    n = both + lost + gained + neither
    margins = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    if margins == 0:
        return 0.0
    covariance = float(both * neither - lost * gained)
    if covariance > 0:
        covariance = max(0.0, covariance - n / 2)
    return covariance / float(np.sqrt(float(margins)))
