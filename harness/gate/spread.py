"""A retrained model and several earlier ones: where a further run's accuracies are expected.

Trainings that differ by their seed alone give other accuracies. With n of them a further one is
expected at mean ± z·S·√(1 + 1/n), where S is the standard deviation between seeds. Two to five runs
hardly determine S: by Student's t alone, corrected for thirty checks, nothing could ever fail. So S
is taken from what is known beyond them:

- *A prior.* S is `PRIOR` as long as the runs do not contradict it: seeds of the same training
  mostly lie within a point. So runs that agree by chance cause no false alarms, and runs that
  spread as seeds do make no blind gate. From five runs on agreement is hardly chance, and S falls
  below it, to the upper confidence limit `SURE` of the observed spread.
- *Flips.* Even if each image flipped from seed to seed on its own, accuracies would vary by
  v = mean over images of the variance of its outcome / number of images. This is known well, since
  there are many images, and S² is never less.
- *More than flips.* Where the observed spread s is beyond what the prior makes likely, S is an
  upper confidence limit of it, √(s² - v)·√(ν/χ²), on top of the flips; at most `CEILING`, so that
  a drop far beyond any seed's never passes. s² is the median over the checks of a model, in units
  of the binomial variance, or the mean of that and the check's own, whichever is larger.

A second test asks whether *one check* dropped that the model's others did not: of the new run, and
of the earlier ones, the median shift of all checks is taken away (in binomial standard deviations),
and what is left has (n - 1)·(m - 1) degrees of freedom in place of n - 1. Where the new run's shift
is larger than the earlier ones', checks that follow it more or less than others would stand out,
so the scale grows by the same factor.

Assumptions: accuracies of seeds are about normal around their mean, and a spread that all checks
share is mostly below a point. What this catches, and its rate of false alarms, `simulation.py`
measures; docs/gate.md has the tables. Sources: prediction intervals, Hahn 1969 (Journal of the
American Statistical Association 64); checks that inform each other, Smyth 2004.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from harness.gate.paired import Floats

Outcomes = npt.NDArray[np.bool_]
FEWEST = 2
"""So many runs have a spread."""
PRIOR = 0.009
"""Standard deviation of the accuracy between seeds, unless the runs contradict it."""
DOUBT = 0.8
"""The runs contradict it where their own spread is beyond this share of it."""
STEEP = 6.0
"""How fast the assumed spread then grows to its upper limit."""
LIMIT = 0.9
"""Confidence of that upper limit ..."""
LARGEST = 4.0
"""... which is at most so many times the observed spread."""
SURE = 0.998
"""Confidence of the upper limit below which the prior is given up for less."""
CEILING = 0.05
"""The largest spread beyond flips that is assumed."""
SLACK = 1.25
"""Flips of the images of several checks are correlated, so their variance counts for more."""
ALONE = 0.75
"""In the test of one check beside the others, this share of the prior is its least spread; with
0.5 5 of 100 gates with 60 checks, each of which spreads in its own way, would be false alarms."""
FEWEST_CHECKS = 4
"""So many checks that vary have a median shift."""
EVEN = 0.08
"""Lowest variance of an outcome in the binomial unit: near 0 and 100 % the unit would vanish."""
SHARED = 0.7
"""Share of the degrees of freedom that is left, since checks on the same images are correlated."""


@dataclass(frozen=True)
class Prediction:
    """Where the accuracies of a further run are expected; arrays of the shape (..., checks).

    Attributes:
        mean: Mean accuracy of the runs.
        rise: The further run's accuracy less that.
        scale: Standard error of ``rise``.
        shift: The part of ``rise`` that the checks of the model share.
        own_scale: Standard error of what is left.
        freedom: Degrees of freedom of ``own_scale``, (..., 1); 0 where there is no such test.
    """

    mean: Floats
    rise: Floats
    scale: Floats
    shift: Floats
    own_scale: Floats
    freedom: Floats

    @cached_property
    def p_values(self) -> Floats:
        """How likely a further run is at least so far off, two-sided; of two tests, so doubled."""
        from scipy.stats import norm, t

        level = 2 * norm.sf(np.abs(self.rise) / self.scale)
        left = self.rise - self.shift
        tested = (self.freedom > 0) & (left * self.rise > 0)
        alone = 2 * t.sf(np.abs(left) / self.own_scale, np.maximum(self.freedom, 1))
        both = 2 * np.minimum(level, np.where(tested, alone, 1.0))
        return np.asarray(np.minimum(1.0, both), dtype=float)

    def visible(self, error: float) -> Floats:
        """The smallest drop with a p-value of at most ``error``, the other checks as they are."""
        from scipy.stats import norm, t

        level = norm.isf(error / 4) * self.scale
        alone = t.isf(error / 4, np.maximum(self.freedom, 1)) * self.own_scale - self.shift
        # A rise of all others makes no check drop that stayed where it was.
        alone = np.where(self.freedom > 0, np.maximum(alone, 0.0), np.inf)
        return np.asarray(np.minimum(level, alone), dtype=float)

    def half_width(self, error: float) -> Floats:
        """Half the width of the interval that a further run misses with probability ``error``."""
        from scipy.stats import norm

        return np.asarray(norm.isf(error / 2) * self.scale, dtype=float)


def flips_of(outcomes: Outcomes) -> float:
    """Variance of the accuracy if images flipped on their own; at least that of one image.

    Args:
        outcomes: Of the earlier runs, (runs, images), at least two.
    """
    images = outcomes.shape[1]
    return float(max(outcomes.var(axis=0, ddof=1).mean() / images, 1 / images**2))


def predicted(before: Floats, after: Floats, flips: Floats, images: npt.ArrayLike) -> Prediction:
    """Where a further run of one model is expected in each check, and where it is.

    Leading axes are gates of their own, so that thousands can be simulated at once.

    Args:
        before: Accuracies of the earlier runs, (..., checks, runs).
        after: Accuracies of the further run, (..., checks).
        flips: What ``flips_of`` says of each check, likewise.
        images: How many images each check has, likewise or one number.

    Raises:
        ValueError: There are not two runs.
    """
    runs = before.shape[-1]
    if runs < FEWEST:
        raise ValueError("a spread needs two runs")
    images = np.asarray(images, dtype=float)
    mean = before.mean(axis=-1)
    smoothed = (images * mean + 1) / (images + 2)
    unit = np.maximum(smoothed * (1 - smoothed), EVEN) / images
    moving = before.max(axis=-1) > before.min(axis=-1)
    moving |= flips > 1 / images**2 * (1 + 1e-9)
    further = np.sqrt(1 + 1 / runs)
    scale = _spread(before.var(axis=-1, ddof=1), flips, unit, moving, runs - 1)
    shift, own_scale, freedom = _alone(before, after, flips, unit, moving)
    return Prediction(
        mean, after - mean, further * scale, further * shift, further * own_scale, freedom
    )


def _spread(
    observed: Floats, flips: Floats, unit: Floats, moving: npt.NDArray[np.bool_], freedom: int
) -> Floats:
    """The standard deviation between seeds that is assumed for each check."""
    from scipy.stats import chi2

    pooled = np.maximum(_median(observed / unit, moving)[..., None] * unit, flips)
    variance = np.maximum(pooled, (observed + pooled) / 2)
    spread = np.sqrt(variance)
    factor = min(LARGEST, float(np.sqrt(freedom / chi2.ppf(1 - LIMIT, freedom))))
    sure = float(np.sqrt(freedom / chi2.ppf(1 - SURE, freedom)))
    beyond = factor * np.sqrt(np.maximum(0.0, variance - flips))
    contradicted = STEEP * factor * np.maximum(0.0, spread - DOUBT * PRIOR)
    latent = np.minimum(np.minimum(beyond, contradicted), CEILING)
    assumed = np.minimum(PRIOR, sure * spread)
    return np.asarray(np.maximum(assumed, np.sqrt(SLACK * flips + latent**2)), dtype=float)


def _alone(
    before: Floats, after: Floats, flips: Floats, unit: Floats, moving: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats]:
    """What the checks' shifts share, and how far each one's own shift spreads; and its freedom.

    Shift and spread are those of one run, not yet of a difference from a mean.
    """
    runs = before.shape[-1]
    root = np.sqrt(unit)
    mean = before.mean(axis=-1)
    away = (before - mean[..., None]) / root[..., None]
    new = (after - mean) / root / np.sqrt(1 + 1 / runs)
    shared = _median(away, moving[..., None], axis=-2)
    shift = _median(new, moving)
    left = away - shared[..., None, :]
    count = moving.sum(axis=-1)
    degrees = (runs - 1) * np.maximum(count - 1, 1) / np.maximum(count, 1)
    own = (left**2).sum(axis=-1) / degrees[..., None] * unit
    pooled = np.maximum(_median(own / unit, moving)[..., None] * unit, flips)
    variance = np.maximum(np.maximum(pooled, own), (ALONE * PRIOR) ** 2)
    usual = np.sqrt((shared**2).sum(axis=-1) / (runs - 1))
    grown = np.maximum(1.0, np.abs(shift) / np.maximum(usual, 1e-9))
    freedom = np.where(count >= FEWEST_CHECKS, SHARED * (runs - 1) * (count - 1.0), 0.0)
    return shift[..., None] * root, np.sqrt(variance) * grown[..., None], freedom[..., None]


def _median(values: Floats, where: npt.NDArray[np.bool_], axis: int = -1) -> Floats:
    """The median of some of the values along an axis; 0 where there is none."""
    chosen = np.where(np.broadcast_to(where, values.shape), values, np.nan)
    chosen = np.where(np.isnan(chosen).all(axis=axis, keepdims=True), 0.0, chosen)
    return np.asarray(np.nanmedian(chosen, axis=axis), dtype=float)
