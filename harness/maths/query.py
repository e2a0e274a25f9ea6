"""Asking a model: logits and predictions in batches, checked; counted, and not judged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from harness.errors import MeasurementError, Unanswered
from harness.maths.adaptive import votes_of
from harness.maths.calls import footprint_of, logits_in_calls
from harness.maths.portions import limit_of, portions, whole
from harness.protocol import Array, BoolArray, FloatArray, Images, IntArray, Model

T = TypeVar("T")
BATCH = 1000
"""Images per call, unless they are so large that fewer fit the memory bound."""
MEMORY = 256 * 2**20
"""Bytes that one batch of images may take up, with all that an attack keeps beside it."""
COPIES = 16
"""Arrays of the size of the batch that an attack keeps, at most."""
NOTHING_ANSWERED = "no image is answered: "
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


def batch_size_for(model: Model, x: Images) -> int:
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


def batches(count: int, size: int = BATCH) -> Iterator[slice]:
    """Slices that cover ``range(count)`` in order."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def logits_of(model: Model, x: Images, batch_size: int | None = None) -> FloatArray:
    """Logits (n, k) of images (n, *shape), computed in batches.

    Raises:
        MeasurementError: A logit is NaN, infinite or no float, or there are fewer than two a row;
            or an image is not answered.
    """
    size = batch_size or batch_size_for(model, x)
    parts = whole(model, x, size, lambda part: _finite(model, x, part))
    return np.concatenate([found for _, found in parts])


def answers_of(model: Model, x: Images) -> Answers:
    """The same of a model that may not answer every image.

    Raises:
        MeasurementError: A logit is NaN, infinite or no float, or there are fewer than two a row;
            or no image is answered.
    """
    found = list(portions(model, x, batch_size_for(model, x), lambda p: _finite(model, x, p)))
    parts = [part for _, part in found]
    why, known = _missing(parts)
    if not why:
        return Answers(np.concatenate(known))
    nothing = np.full((1, known[0].shape[1]), np.nan, known[0].dtype)
    rows = [nothing if isinstance(part, Unanswered) else part for part in parts]
    return Answers(np.concatenate(rows), why)


def predictions_of(model: Model, x: Images, batch_size: int | None = None) -> Predictions:
    """Predicted labels and confidences for images (n, *shape); see ``voted``.

    Raises:
        MeasurementError: A logit is NaN or infinite, or an image is not answered.
    """
    # Read batch by batch: the logits of all images for 1,000 classes would take 4 KB an image.
    size = batch_size or batch_size_for(model, x)
    return joined([f for _, f in whole(model, x, size, lambda p: _predicted(model, x, p))])


def answered_predictions(model: Model, x: Images) -> Predictions:
    """The same of a model that may not answer every image.

    Raises:
        MeasurementError: A logit is NaN or infinite, or no image is answered.
    """
    size = batch_size_for(model, x)
    return joined([f for _, f in portions(model, x, size, lambda p: _predicted(model, x, p))])


def joined(parts: Sequence[Predictions | Unanswered]) -> Predictions:
    """Those of consecutive images, and single images without, as one.

    Raises:
        Unanswered: No image has any.
    """
    found = together(parts)
    if found.why and not found.answered.any():
        raise Unanswered(f"{NOTHING_ANSWERED}{found.why}")
    return found


def together(parts: Sequence[Predictions | Unanswered]) -> Predictions:
    """The same where it may be that no image is answered."""
    nothing = Predictions(np.full(1, NO_LABEL, np.int32), np.zeros(1, np.float32))
    rows = [nothing if isinstance(part, Unanswered) else part for part in parts]
    missing = [str(part) for part in parts if isinstance(part, Unanswered)]
    why = (missing[0] or "no reason is given") if missing else ""
    return Predictions(
        np.concatenate([row.labels for row in rows]),
        np.concatenate([row.confidence for row in rows]),
        why or next((row.why for row in rows if row.why), ""),
    )


def _missing(parts: Sequence[T | Unanswered]) -> tuple[str, list[T]]:
    """Why an image is not answered, empty if all are; and what is known of the others.

    Raises:
        Unanswered: Nothing is.
    """
    missing = [part for part in parts if isinstance(part, Unanswered)]
    known = [part for part in parts if not isinstance(part, Unanswered)]
    if missing and not known:
        raise Unanswered(f"{NOTHING_ANSWERED}{missing[0]}")
    return (str(missing[0]) or "no reason is given") if missing else "", known


def correct_count(predictions: Predictions, y: IntArray) -> int:
    """How many of n predicted labels are the true ones."""
    return int(np.sum(predictions.labels == y))


def finite_logits(model: Model, x: Array, known: FloatArray | None = None) -> FloatArray:
    """Logits (n, k) of one batch of the backend's own images, or those known of it, checked.

    Raises:
        MeasurementError: One is NaN, infinite or no float, or there are fewer than two a row.
    """
    values = logits_in_calls(model, x) if known is None else known
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


def _finite(model: Model, x: Images, part: slice) -> FloatArray:
    return finite_logits(model, model.asarray(np.asarray(x[part])))


def _predicted(model: Model, x: Images, part: slice) -> Predictions:
    return voted(model, model.asarray(np.asarray(x[part])))


def voted(
    model: Model, x: Array, known: FloatArray | None = None, votes: int | None = None
) -> Predictions:
    """What a model predicts of one batch of its own images: if it is random, by votes of draws.

    Then an image's label is the one that most draws predict, and of several the one of the larger
    mean probability; and that is its confidence.

    Args:
        model: The model.
        x: The images, (n, *shape).
        known: Logits (n, k) that are known of them, if the model is not random.
        votes: Draws that vote; as the model says if None.

    Raises:
        MeasurementError: As in ``finite_logits``.
    """
    votes = votes_of(model) if votes is None else votes
    if votes == 1:
        return read(finite_logits(model, x, known))
    counts = shares = np.zeros(1)
    for _ in range(votes):
        logits = finite_logits(model, x).astype(np.float64)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares = shares + odds / odds.sum(axis=1, keepdims=True) / votes
        counts = counts + np.eye(logits.shape[1])[logits.argmax(axis=1)]
    labels = (counts + shares / 2).argmax(axis=1)
    confidence = shares[np.arange(len(labels)), labels]
    return Predictions(labels.astype(np.int32), confidence.astype(np.float32))


def read(logits: FloatArray) -> Predictions:
    """Predicted labels and confidences of finite logits (n, k)."""
    # By its place, since NumPy takes a maximum of each short row far more slowly.
    labels = logits.argmax(axis=1)
    top = logits[np.arange(len(labels)), labels][:, None]
    # The largest of these is exp(0).
    confidence = 1 / np.exp(logits - top).sum(axis=1)
    return Predictions(labels.astype(np.int32), confidence.astype(np.float32))
