"""Finite differences of an objective by single pixels, where the model has no kink nearby."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.protocol import BoolArray, Bounds, FloatArray, IntArray, Model, Objective

STEPS = (1e-6, 1e-7, 1e-8)
"""Steps, as shares of the pixel range. The shorter one is, the fewer ReLUs switch within it, and
the more rounding weighs, so the longest that crosses no kink is taken."""
NOISE = 1e-3
"""How far, as a share of the pixel range, images are moved off the points where pixels tie."""
ROUNDING = 10
"""Rounding errors of the objective that a difference may be off by."""
STRAIGHT = 0.25
"""Share of the allowed error by which the differences ahead and behind may differ."""
ENOUGH = 0.1
"""Share of the pixels that must have a slope; of fewer nothing can be said."""
NO_SLOPE = "ReLUs or max-poolings switch so near to the images that differences say nothing"


@dataclass(frozen=True)
class Slopes:
    """Central differences of an objective, for n images and p pixels of each.

    Attributes:
        values: (n, p) float64, in units of the objective per pixel unit; 0 where not smooth.
        smooth: (n, p) bool: there is one slope, as the differences ahead and behind agree.
            Elsewhere a ReLU or a max-pooling switches within the shortest step.
        allowed: How far a right gradient may be from the values, (n, p) float64.
    """

    values: FloatArray
    smooth: BoolArray
    allowed: FloatArray

    @property
    def enough(self) -> bool:
        """Whether enough pixels are smooth for a verdict."""
        return float(self.smooth.mean()) >= ENOUGH


def off_the_ties(x: FloatArray, bounds: Bounds, seed: int = 0) -> FloatArray:
    """Images (n, *shape) in float64, moved by up to ``NOISE`` of the range, towards its inside.

    On a flat background the inputs of a max-pooling are all the same. Which of them then gets the
    gradient is for the framework to choose, and no choice is the mean that differences see. Nor
    have a clamp at the bounds, or a ReLU without a bias on a black background, one slope there.
    """
    low, high = bounds
    drawn = NOISE * (high - low) * (1 - np.random.default_rng(seed).random(x.shape))
    exact = x.astype(np.float64)
    return np.where(exact > (low + high) / 2, exact - drawn, exact + drawn)


def slopes(
    model: Model,
    x: FloatArray,
    y: IntArray,
    objective: Objective,
    pixels: IntArray,
    tolerance: float,
) -> Slopes:
    """Differences of the objective of each image by some of its pixels.

    Args:
        model: Computes in float64.
        x: Images, (n, *shape) float64.
        y: Labels, (n,).
        objective: What is differentiated.
        pixels: Positions in each flat image, (n, p).
        tolerance: Agreement required of a gradient, relative to the largest slope.
    """
    width = model.bounds[1] - model.bounds[0]
    rounding = ROUNDING * _rounding(model, x, y, objective)
    values, allowed = np.zeros(pixels.shape), np.zeros(pixels.shape)
    smooth, largest = np.zeros(pixels.shape, dtype=bool), 0.0
    for step in (share * width for share in STEPS):
        for column in np.flatnonzero(~smooth.all(axis=0)):
            ahead, behind = _sides(model, x, y, objective, pixels[:, column], step)
            left = ~smooth[:, column]
            values[left, column] = (ahead + behind)[left] / 2
            allowed[left, column] = np.abs(ahead - behind)[left]
        if step == STEPS[0] * width:
            largest = float(np.abs(values).max())
        margin = tolerance * largest + rounding / step
        # Until it is smooth, a pixel's error is that between its two sides.
        newly = ~smooth & (allowed <= STRAIGHT * margin)
        allowed[newly], smooth = margin, smooth | newly
    return Slopes(np.where(smooth, values, 0.0), smooth, allowed)


def objective_values(model: Model, x: FloatArray, y: IntArray, objective: Objective) -> FloatArray:
    """The objective of each image, (n,), by its label."""
    logits = model.numpy(model.logits(model.asarray(x)))
    return np.asarray(objective.value(np, logits, np.arange(logits.shape[1]) == y[:, None]))


def _sides(
    model: Model, x: FloatArray, y: IntArray, objective: Objective, pixel: IntArray, step: float
) -> tuple[FloatArray, FloatArray]:
    """The differences ahead and behind, (n,) each, as one pixel of each image is moved."""
    here = objective_values(model, x, y, objective)
    rows, ends = np.arange(len(x)), []
    for by in (step, -step):
        moved = x.reshape(len(x), -1).copy()
        moved[rows, pixel] += by
        ends.append(objective_values(model, moved.reshape(x.shape), y, objective))
    return (ends[0] - here) / step, (here - ends[1]) / step


def _rounding(model: Model, x: FloatArray, y: IntArray, objective: Objective) -> float:
    """How exact the objective is: what the last bit of the logits, or of the pixels, changes."""
    logits = model.numpy(model.logits(model.asarray(x)))
    here, beside = (
        objective_values(model, images, y, objective) for images in (x, np.nextafter(x, np.inf))
    )
    last = float(np.finfo(np.float64).eps * np.abs(logits).max())
    return max(last, float(np.abs(here - beside).max()))
