"""Asking a model: logits and predictions in batches, checked; counted, and not judged."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.errors import MeasurementError
from harness.protocol import Array, FloatArray, IntArray, Model

BATCH = 1000
"""Images per call, unless they are so large that fewer fit the memory bound."""
MEMORY = 256 * 2**20
"""Bytes that one batch of images may take up, with all that an attack keeps beside it."""
COPIES = 16
"""Arrays of the size of the batch that an attack keeps, at most."""


@dataclass(frozen=True)
class Predictions:
    """What a model says of n images.

    Attributes:
        labels: Predicted labels, (n,) int32.
        confidence: Softmax probability of the predicted class, (n,) float32 in [0, 1].
    """

    labels: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]


def batch_size_for(x: FloatArray) -> int:
    """How many of these images (n, *shape) are attacked at a time, within ``MEMORY``."""
    image = COPIES * x.dtype.itemsize * max(1, math.prod(x.shape[1:]))
    return max(1, min(BATCH, MEMORY // image))


def batches(count: int, size: int = BATCH) -> Iterator[slice]:
    """Slices that cover ``range(count)`` in order."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def logits_of(model: Model, x: FloatArray, batch_size: int = BATCH) -> FloatArray:
    """Logits (n, k) of images (n, *shape), computed in batches.

    Raises:
        MeasurementError: A logit is NaN, infinite or no float, or there are fewer than two a row.
    """
    parts = [finite_logits(model, model.asarray(x[part])) for part in batches(len(x), batch_size)]
    return np.concatenate(parts)


def predictions_of(model: Model, x: FloatArray, batch_size: int = BATCH) -> Predictions:
    """Predicted labels and confidences for images (n, *shape).

    Raises:
        MeasurementError: A logit is NaN or infinite.
    """
    return read(logits_of(model, x, batch_size))


def correct_count(predictions: Predictions, y: IntArray) -> int:
    """How many of n predicted labels are the true ones."""
    return int(np.sum(predictions.labels == y))


def finite_logits(model: Model, x: Array, known: FloatArray | None = None) -> FloatArray:
    """Logits (n, k) of one batch of the backend's own images, or those known of it, checked.

    Raises:
        MeasurementError: One is NaN, infinite or no float, or there are fewer than two a row.
    """
    values = model.numpy(model.logits(x)) if known is None else known
    count = x.shape[0]
    if values.ndim != 2 or len(values) != count or values.shape[1] < 2:
        what = ""
        if values.shape in ((count,), (count, 1)):
            what = " (one an image: for a single logit z return two, 0 and z)"
        elif values.ndim != 2:
            what = " (not (n, k), a row an image and a logit a class)"
        raise MeasurementError(f"logits have shape {values.shape}{what} for {count} images")
    if values.dtype.kind in "biucO":  # differences of integers wrap round
        raise MeasurementError(f"logits are {values.dtype}; return floats")
    if not np.isfinite(values).all():
        raise MeasurementError("a logit is NaN or infinite")
    return values


def read(logits: FloatArray) -> Predictions:
    """Predicted labels and confidences of finite logits (n, k)."""
    # The largest of these is exp(0).
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = 1 / odds.sum(axis=1)
    return Predictions(logits.argmax(axis=1).astype(np.int32), confidence.astype(np.float32))
