"""Asking a model: logits and predictions in batches, checked; counted, and not judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from harness.errors import MeasurementError, Unanswered
from harness.maths.portions import limit_of, portions, whole
from harness.protocol import Array, BoolArray, FloatArray, IntArray, Model

BATCH = 1000
"""Images per call, unless they are so large that fewer fit the memory bound."""
MEMORY = 256 * 2**20
"""Bytes that one batch of images may take up, with all that an attack keeps beside it."""
COPIES = 16
"""Arrays of the size of the batch that an attack keeps, at most."""
FOOTPRINTS: WeakKeyDictionary[Model, dict[tuple[int, ...], int]] = WeakKeyDictionary()
"""What is known of models that are still in use, by the shape of their images."""
NO_LABEL = -1
"""In place of the predicted label of an image that the model does not answer."""


@dataclass(frozen=True)
class Predictions:
    """What a model says of n images.

    Attributes:
        labels: Predicted labels, (n,) int32; ``NO_LABEL`` where it does not answer.
        confidence: Softmax probability of the predicted class, (n,) float32 in [0, 1]; 0 likewise.
        why: Why an image is not answered, in one line; empty if all are.
    """

    labels: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]
    why: str = ""

    @property
    def answered(self) -> BoolArray:
        """Which images are answered, (n,)."""
        return np.asarray(self.labels != NO_LABEL)

    @property
    def unanswered(self) -> str:
        """How many images are not answered, and why, for people; empty if all are."""
        count = int(np.sum(~self.answered))
        if not count:
            return ""
        verb = "was" if count == 1 else "were"
        return f"{count} of {len(self.labels)} images {verb} not answered: {self.why}"


@dataclass(frozen=True)
class Answers:
    """The logits of n images, of which some may not be answered.

    Attributes:
        logits: (n, k), finite; NaN in the rows of images that are not answered.
        why: Why one is not, in one line; empty if all are.
    """

    logits: FloatArray
    why: str = ""

    @property
    def answered(self) -> BoolArray:
        """Which images are answered, (n,)."""
        return np.asarray(~np.isnan(self.logits).any(axis=1))

    @property
    def predictions(self) -> Predictions:
        """Predicted labels and confidences."""
        if not self.why:
            return read(self.logits)
        answered = self.answered
        found = read(np.where(answered[:, None], self.logits, 0.0))
        return Predictions(
            np.where(answered, found.labels, NO_LABEL).astype(np.int32),
            np.where(answered, found.confidence, 0).astype(np.float32),
            self.why,
        )


def batch_size_for(model: Model, x: FloatArray) -> int:
    """How many of these images (n, *shape) a model is asked of at a time, within ``MEMORY``.

    That is what the model says itself, or follows from the size of an image, of which an attack
    keeps copies, and of what the network computes of it. Once a batch has been too large, it is no
    more than was not.
    """
    known = limit_of(model, x)
    size: int | None = getattr(model, "batch_size", None)
    if size is None:
        image = COPIES * x.dtype.itemsize * max(1, math.prod(x.shape[1:]))
        size = max(1, min(BATCH, MEMORY // (image + footprint_of(model, x))))
    return size if known is None else min(size, known)


def footprint_of(model: Model, x: FloatArray) -> int:
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


def logits_of(model: Model, x: FloatArray, batch_size: int | None = None) -> FloatArray:
    """Logits (n, k) of images (n, *shape), computed in batches.

    Raises:
        MeasurementError: A logit is NaN, infinite or no float, or there are fewer than two a row;
            or an image is not answered.
    """
    size = batch_size or batch_size_for(model, x)
    parts = whole(model, x, size, lambda part: finite_logits(model, model.asarray(x[part])))
    return np.concatenate([found for _, found in parts])


def answers_of(model: Model, x: FloatArray, batch_size: int | None = None) -> Answers:
    """The same of a model that may not answer every image.

    Raises:
        MeasurementError: A logit is NaN, infinite or no float, or there are fewer than two a row;
            or no image is answered.
    """
    size = batch_size or batch_size_for(model, x)
    parts = portions(model, x, size, lambda part: finite_logits(model, model.asarray(x[part])))
    return joined([found for _, found in parts])


def joined(parts: Sequence[FloatArray | Unanswered]) -> Answers:
    """Logits of consecutive images, (m, k) each, and single images without, as one.

    Raises:
        Unanswered: There are none.
    """
    missing = [part for part in parts if isinstance(part, Unanswered)]
    known = [part for part in parts if not isinstance(part, Unanswered)]
    if missing and not known:
        raise Unanswered(f"no image is answered: {missing[0]}")
    if not missing:
        return Answers(np.concatenate(known))
    nothing = np.full((1, known[0].shape[1]), np.nan, known[0].dtype)
    rows = [nothing if isinstance(part, Unanswered) else part for part in parts]
    return Answers(np.concatenate(rows), str(missing[0]) or "no reason is given")


def predictions_of(model: Model, x: FloatArray, batch_size: int | None = None) -> Predictions:
    """Predicted labels and confidences for images (n, *shape).

    Raises:
        MeasurementError: A logit is NaN or infinite, or an image is not answered.
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
