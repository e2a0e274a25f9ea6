"""Saliency maps: how much each pixel moves the output of a class."""

from __future__ import annotations

import numpy as np

from harness.errors import MeasurementError
from harness.measure import BATCH, batches
from harness.objectives import ClassLogit
from harness.protocol import GRADIENT, BoolArray, FloatArray, IntArray, Model


def gradient_maps(model: Model, x: FloatArray, y: IntArray, batch_size: int = BATCH) -> FloatArray:
    """|∂ z_y / ∂x|, the absolute gradient of a class's logit (Simonyan et al. 2014, section 3).

    Args:
        model: A model with the capability ``gradient``.
        x: Images, (n, *shape) within ``model.bounds``.
        y: The class to explain for each image, (n,) integers; here the true one.
        batch_size: Images per pass.

    Returns:
        Non-negative maps in the shape of x, in logits per pixel unit.

    Raises:
        MeasurementError: The model has no gradients, or a map is not finite or entirely zero.
    """
    if GRADIENT not in model.capabilities:
        raise MeasurementError("saliency needs gradient, which the model lacks")
    parts = []
    for part in batches(len(x), batch_size):
        _, gradient = model.logits_and_gradient(
            model.asarray(x[part]), model.asarray(y[part]), ClassLogit()
        )
        parts.append(np.abs(model.numpy(gradient)))
    maps = np.concatenate(parts)
    flat = maps.reshape(len(maps), -1)
    if not np.isfinite(flat).all():
        raise MeasurementError("a saliency map holds NaN or infinity")
    if not flat.any(axis=1).all():
        raise MeasurementError("a saliency map is zero everywhere: the gradient has vanished")
    return maps


def pixel_count(shape: tuple[int, ...], fraction: float) -> int:
    """How many pixels of an image a fraction in (0, 1] means: rounded, and at least one."""
    return max(1, round(fraction * int(np.prod(shape))))


def top_pixels(scores: FloatArray, fraction: float) -> BoolArray:
    """Masks of exactly ``pixel_count`` pixels an image, those with the highest scores.

    Args:
        scores: (n, *shape); of equal scores the first pixel in row-major order comes first.
        fraction: Share of the pixels, in (0, 1].

    Returns:
        (n, *shape) bool.
    """
    flat = scores.reshape(len(scores), -1)
    wanted = pixel_count(scores.shape[1:], fraction)
    last = np.partition(flat, flat.shape[1] - wanted, axis=1)[:, -wanted, None]
    above, level = flat > last, flat == last
    left = wanted - above.sum(axis=1, keepdims=True)
    if (level.sum(axis=1, keepdims=True) > left).any():
        level &= np.cumsum(level, axis=1) <= left
    mask: BoolArray = (above | level).reshape(scores.shape)
    return mask
