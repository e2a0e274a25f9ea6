"""Asking a model: logits and predictions in batches, checked; counted, and not judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from harness.errors import MeasurementError
from harness.protocol import Array, FloatArray, Images, IntArray, Model

BATCH = 1000
"""Images per call, unless they are so large that fewer fit the memory bound."""
MEMORY = 256 * 2**20
"""Bytes that one batch of images may take up, with all that an attack keeps beside it."""
COPIES = 16
"""Arrays of the size of the batch that an attack keeps, at most."""
FOOTPRINTS: WeakKeyDictionary[Model, dict[tuple[int, ...], int]] = WeakKeyDictionary()
"""What is known of models that are still in use, by the shape of their images."""


@dataclass(frozen=True)
class Predictions:
    """What a model says of n images.

    Attributes:
        labels: Predicted labels, (n,) int32.
        confidence: Softmax probability of the predicted class, (n,) float32 in [0, 1].
    """

    labels: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]


def batch_size_for(model: Model, x: Images) -> int:
    """How many of these images (n, *shape) a model is asked of at a time, within ``MEMORY``.

    That is what the model says itself, or follows from the size of an image, of which an attack
    keeps copies, and of what the network computes of it.
    """
    said: int | None = getattr(model, "batch_size", None)
    if said is not None:
        return said
    image = COPIES * x.dtype.itemsize * max(1, math.prod(x.shape[1:]))
    return max(1, min(BATCH, MEMORY // (image + footprint_of(model, x))))


def footprint_of(model: Model, x: Images) -> int:
    """Bytes that the network takes up for each of these images; 0 where it cannot tell.

    Two of them are tried, once for each shape of images.
    """
    if not len(x) or not hasattr(model, "footprint"):
        return 0
    shape = x.shape[1:]
    try:
        known = FOOTPRINTS.setdefault(model, {})
    except TypeError:  # a user's own that cannot be a key
        known = {}
    if shape not in known:
        try:
            known[shape] = max(0, int(model.footprint(model.asarray(np.array(x[:2])))))
        except Exception:  # what is wrong with the network, a measurement says
            known[shape] = 0
    return known[shape]


def batches(count: int, size: int = BATCH) -> Iterator[slice]:
    """Slices that cover ``range(count)`` in order."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def logits_of(model: Model, x: Images, batch_size: int | None = None) -> FloatArray:
    """Logits (n, k) of images (n, *shape), computed in batches.

    Raises:
        MeasurementError: A logit is NaN, infinite or no float, or there are fewer than two a row.
    """
    return np.concatenate(list(_batches_of_logits(model, x, batch_size)))


def predictions_of(model: Model, x: Images, batch_size: int | None = None) -> Predictions:
    """Predicted labels and confidences for images (n, *shape).

    Raises:
        MeasurementError: A logit is NaN or infinite.
    """
    # Read batch by batch: the logits of all images for 1,000 classes would take 4 KB an image.
    return joined([read(logits) for logits in _batches_of_logits(model, x, batch_size)])


def joined(parts: Sequence[Predictions]) -> Predictions:
    """Those of one batch after the other."""
    return Predictions(
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.confidence for part in parts]),
    )


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


def _batches_of_logits(model: Model, x: Images, batch_size: int | None) -> Iterator[FloatArray]:
    for part in batches(len(x), batch_size or batch_size_for(model, x)):
        yield finite_logits(model, model.asarray(np.asarray(x[part])))


def read(logits: FloatArray) -> Predictions:
    """Predicted labels and confidences of finite logits (n, k)."""
    # The largest of these is exp(0).
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = 1 / odds.sum(axis=1)
    return Predictions(logits.argmax(axis=1).astype(np.int32), confidence.astype(np.float32))
