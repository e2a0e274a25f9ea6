"""A retrained model beside several earlier ones: where a further accuracy is expected.

Trainings that differ by their seed alone give other accuracies. With n of them, a further one is
expected at mean ± t·s·√(1 + 1/n) (the prediction interval of normal values). But with five runs t
has four degrees of freedom, so that after a correction for a hundred checks hardly anything could
ever fail. Two facts help:

- *A floor.* Even if each image flipped from seed to seed on its own, accuracies would vary by
  v = mean over images of the variance of its outcome / number of images. This is known well, since
  there are many images; and since images of a better seed flip together, the true variance is
  rarely less. So a spread that is small by luck does not cry wolf. It is at least one image.
- *The checks of a model tell of each other.* Images flipping together inflate v by a factor, the
  design effect s²/v, which is similar for all attacks on a model. How similar, the runs say
  themselves: the effects are drawn towards each other by the empirical Bayes estimate of Smyth
  2004 (section 6.2), which adds degrees of freedom where they are alike, and none where they are
  not. Checks that rise and fall as one count as one in this: no more degrees are added than
  (n - 1)·(m - 1), with m the effective number of checks. What varies beyond the floor is taken to
  be common to all of them, so that where seeds matter much, little is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.gate.paired import Floats

Outcomes = npt.NDArray[np.bool_]
FEWEST = 2
"""So many runs have a spread."""
LEAST_EFFECT = 0.05
"""Observed design effects are taken as at least this, or the logarithm of one would rule all."""


@dataclass(frozen=True)
class Prediction:
    """Where the accuracy of a further run is expected.

    Attributes:
        mean: Mean accuracy of the runs.
        scale: Standard error of a further run around it.
        freedom: Degrees of freedom of the scale; may be infinite.
    """

    mean: float
    scale: float
    freedom: float

    def p_value(self, accuracy: float) -> float:
        """How likely a further run is to be at least so far off, two-sided."""
        from scipy.stats import t

        return float(2 * t.sf(abs(accuracy - self.mean) / self.scale, self.freedom))

    def half_width(self, error: float) -> float:
        """Half the width of the interval that a further run misses with probability ``error``."""
        from scipy.stats import t

        return float(t.isf(error / 2, self.freedom)) * self.scale


def predictions(checks: Sequence[Outcomes]) -> list[Prediction]:
    """Where a further run of one model is expected in each check.

    Args:
        checks: For each check the outcomes of the earlier runs, (runs, images); runs ≥ 2 are the
            same trainings throughout, images may be fewer in some.

    Raises:
        ValueError: There are not two runs.
    """
    if any(len(outcomes) < FEWEST for outcomes in checks):
        raise ValueError("a spread needs two runs")
    if not checks:
        return []
    runs = len(checks[0])
    accuracies = np.array([outcomes.mean(axis=1) for outcomes in checks])
    floor = np.array([_flips(outcomes) for outcomes in checks])
    effects = accuracies.var(axis=1, ddof=1) / floor
    moving = [i for i, outcomes in enumerate(checks) if (outcomes != outcomes[0]).any()]
    prior, added = _prior(effects[moving], runs - 1)
    effective = max(1.0, _effective([checks[i] for i in moving], prior))
    added = min(added, (runs - 1) * (effective - 1))
    drawn = (
        prior if np.isinf(added) else (added * prior + (runs - 1) * effects) / (added + runs - 1)
    )
    scale = np.sqrt(np.maximum(drawn, 1.0) * floor * (1 + 1 / runs))
    return [
        Prediction(float(mean), float(width), runs - 1 + added)
        for mean, width in zip(accuracies.mean(axis=1), scale, strict=True)
    ]


def _flips(outcomes: Outcomes) -> float:
    """Variance of the accuracy if images flipped on their own; at least that of one image."""
    images = outcomes.shape[1]
    return float(max(outcomes.var(axis=0, ddof=1).mean() / images, 1 / images**2))


def _prior(effects: Floats, freedom: int) -> tuple[float, float]:
    """The common design effect, and how many degrees of freedom it is worth.

    The logarithm of a variance with d degrees of freedom has variance trigamma(d/2) about its own
    expectation; what the logarithms vary beyond that is put down to checks that differ.
    """
    from scipy.special import digamma, polygamma

    if len(effects) < 2:
        return 1.0, 0.0
    shift = digamma(freedom / 2) - np.log(freedom / 2)
    logarithms: Floats = np.log(np.maximum(effects, LEAST_EFFECT)) - shift
    excess = float(logarithms.var(ddof=1)) - float(polygamma(1, freedom / 2))
    if excess <= 0:
        return float(np.exp(logarithms.mean())), math.inf
    worth = 2 * _inverse_trigamma(excess)
    drawn = logarithms.mean() + digamma(worth / 2) - np.log(worth / 2)
    return float(np.exp(drawn)), worth


def _inverse_trigamma(value: float) -> float:
    """The x > 0 with trigamma(x) = value; trigamma falls, between 1/x² and 1/x² + 1/x."""
    from scipy.optimize import brentq
    from scipy.special import polygamma

    low, high = 1 / np.sqrt(value), (1 + np.sqrt(1 + 4 * value)) / (2 * value)
    return float(brentq(lambda x: float(polygamma(1, x)) - value, low, high))


def _effective(checks: Sequence[Outcomes], effect: float) -> float:
    """How many checks they amount to, m²/Σρ²: as many if they vary independently, else fewer.

    The share of the variance that images flipping on their own explain, 1/effect, is correlated as
    the flips are, over the images that all have. The rest may be one and the same in all checks.
    """
    if not checks:
        return 1.0
    images = min(outcomes.shape[1] for outcomes in checks)
    flips = np.array([(o - o.mean(axis=0))[:, :images].ravel() for o in checks])
    lengths = np.sqrt((flips**2).sum(axis=1))
    flips = flips[lengths > 0] / lengths[lengths > 0, None]
    if len(flips) == 0:
        return 1.0
    own = 1 / max(1.0, effect)
    return len(flips) ** 2 / float(((own * (flips @ flips.T) + 1 - own) ** 2).sum())
