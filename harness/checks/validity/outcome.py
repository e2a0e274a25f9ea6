"""The images that an attack returns, whether they keep to ball and box or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.attacks.sweep import require_images
from harness.checks.check import BrokenError
from harness.errors import MeasurementError, NotApplicable, one_line
from harness.maths.adaptive import is_randomised
from harness.maths.norms import NORMS, rounding, rounding_of_length, written
from harness.maths.objectives import LogOdds
from harness.maths.portions import whole
from harness.maths.query import batch_size_for, batches, predictions_of, voted
from harness.protocol import (
    GRADIENT,
    Array,
    Attack,
    BoolArray,
    Bounds,
    FloatArray,
    Images,
    IntArray,
    Model,
    differentiable,
)


@dataclass(frozen=True)
class Outcome:
    """An attack's images at one epsilon, n of them.

    Attributes:
        attack: Name of the attack.
        epsilon: Radius in pixel units.
        distance: How far the farthest image is from its original, in the attack's norm.
        lowest: The smallest pixel.
        highest: The largest pixel.
        in_ball: Whether no image is outside the ball, but for rounding.
        in_box: Whether no pixel is outside the bounds, but for rounding.
        unchanged: Which images are exactly the clean ones, (n,).
        labels: Labels that the model predicts of them, (n,).
        valid: Which of them get logits without NaN and infinity, (n,).
    """

    attack: str
    epsilon: float
    distance: float
    lowest: float
    highest: float
    in_ball: bool
    in_box: bool
    unchanged: BoolArray
    labels: IntArray
    valid: BoolArray

    @property
    def finite(self) -> bool:
        """Whether no pixel is NaN or infinite."""
        return bool(np.isfinite(self.lowest + self.highest))

    @property
    def allowed(self) -> bool:
        """Whether the attack may return these images, so that they may be counted."""
        return self.finite and self.in_ball and self.in_box and bool(self.valid.all())


def attacked(
    model: Model,
    attack: Attack,
    epsilon: float,
    x: FloatArray,
    y: IntArray,
    index: IntArray | None = None,
    *,
    gradient: bool = False,
) -> Outcome:
    """Attack images; unlike ``sweep``, no pixels that come back are refused.

    Args:
        model: The classifier under attack.
        attack: What perturbs; it sees the true labels.
        epsilon: Radius in pixel units.
        x: Clean images, (n, *shape) within the model's bounds; n may be 0.
        y: Their true labels, (n,) int64.
        index: Numbers of the images, (n,), by which attacks draw; from 0 if None.
        gradient: Whether the gradient at what comes back is looked at too, for NaN and infinity.

    Raises:
        BrokenError: The attack raises, or yields other than one batch of the images' shape.
    """
    numbers = np.arange(len(x)) if index is None else index
    images, labels, valid = [x[:0]], [], []

    def on(part: slice) -> tuple[FloatArray, IntArray, BoolArray]:
        """Images, their labels, and of which the logits are finite."""
        # A copy, so that an attack that works in place does not move what it is checked by.
        given, true = model.asarray(np.array(x[part])), model.asarray(y[part].copy())
        yielded = list(attack.perturb(model, given, true, [epsilon], index=numbers[part]))
        found = _one_batch(model, yielded, given, x[part])
        values = model.numpy(found)
        logits = model.numpy(model.logits(found))
        finite = np.isfinite(logits).all(axis=1)
        if gradient and GRADIENT in model.capabilities:
            finite &= _sloped(model, found, true)
        return values, _labels(model, found, logits), finite

    try:
        for _, (values, found, finite) in whole(model, x, batch_size_for(model, x), on):
            images.append(values)
            labels.append(found)
            valid.append(finite)
    except Exception as error:
        raise BrokenError(
            one_line(f"{attack.name} at epsilon {written(epsilon)} breaks: {said(error)}")
        ) from error
    return _described(attack, epsilon, model.bounds, x, np.concatenate(images), labels, valid)


def _labels(model: Model, found: Array, logits: FloatArray) -> IntArray:
    """Predicted labels, (n,): those of these logits, or of a random model those of its votes."""
    if is_randomised(model) and np.isfinite(logits).all():
        return voted(model, found).labels.astype(np.int64)
    return np.asarray(logits.argmax(axis=1))


def _one_batch(model: Model, yielded: list[Array], given: Array, x: FloatArray) -> Array:
    if len(yielded) != 1:
        raise ValueError(f"it yields {len(yielded)} batches for one epsilon")
    (found,) = yielded
    require_images(model, given, found)
    shape, dtype = tuple(found.shape), str(getattr(found, "dtype", None))
    if shape != x.shape:
        raise ValueError(f"it returns the shape {shape} for images of the shape {x.shape}")
    if "float" not in dtype:
        raise ValueError(f"it returns pixels of type {dtype}, not floats")
    return found


def said(error: Exception) -> str:
    """A message of our own, or a foreign one with its kind."""
    ours = type(error) in (ValueError, MeasurementError)
    return str(error) if ours else f"{type(error).__name__}: {error}"


def _sloped(model: Model, found: Array, true: Array) -> BoolArray:
    """Which images have a gradient without NaN and infinity, (m,)."""
    _, gradient = differentiable(model).logits_and_gradient(found, true, LogOdds())
    slopes = model.numpy(gradient)
    return np.asarray(np.isfinite(slopes.reshape(len(slopes), -1)).all(axis=1))


def outputs(model: Model, x: Images) -> FloatArray:
    """The logits (n, k) of images (n, *shape); unlike ``query.logits_of`` also NaN.

    Raises:
        BrokenError: It raises, or returns other than two or more numbers an image.
    """

    def ask(part: slice) -> FloatArray:
        return np.asarray(model.numpy(model.logits(model.asarray(np.array(x[part])))))

    try:
        found = whole(model, x, batch_size_for(model, x), ask)
        logits = np.concatenate([part for _, part in found])
    except Exception as error:
        raise BrokenError(
            one_line(f"the model breaks on images of the shape {x.shape[1:]}: {said(error)}")
        ) from error
    if logits.dtype.kind not in "fiu" or logits.ndim != 2 or len(logits) != len(x):
        raise BrokenError(
            f"the model returns {logits.dtype} of the shape {logits.shape} for {len(x)} images"
        )
    if logits.shape[1] < 2:
        raise BrokenError("the model returns one number an image, and classes need two or more")
    return logits


def predicted(model: Model, x: Images) -> IntArray:
    """The labels, (n,), that these outputs are largest for; no more than a batch's are kept.

    Raises:
        BrokenError: As in ``outputs``.
    """
    if is_randomised(model):
        try:
            return predictions_of(model, x).labels.astype(np.int64)
        except Exception as error:
            raise BrokenError(one_line(f"the model breaks: {said(error)}")) from error
    labels = [
        outputs(model, np.asarray(x[part])).argmax(axis=1)
        for part in batches(len(x), batch_size_for(model, x))
    ]
    return np.concatenate(labels)


def in_box(lowest: float, highest: float, bounds: Bounds) -> bool:
    """Whether pixels of that span are not outside the bounds, but for rounding; also if NaN."""
    slack = rounding(bounds)
    return not (lowest < bounds[0] - slack or highest > bounds[1] + slack)


def _described(
    attack: Attack,
    epsilon: float,
    bounds: Bounds,
    x: FloatArray,
    images: FloatArray,
    labels: list[IntArray],
    valid: list[BoolArray],
) -> Outcome:
    slack = rounding_of_length(attack.norm, epsilon, bounds)
    moved = NORMS[attack.norm].length(np, images - x) if len(x) else np.zeros(0)
    distance = float(moved.max(initial=0.0))
    low, high = bounds
    lowest, highest = float(images.min(initial=high)), float(images.max(initial=low))
    return Outcome(
        attack.name, epsilon, distance, lowest, highest,
        in_ball=not distance > epsilon + slack,
        in_box=in_box(lowest, highest, bounds),
        unchanged=(images == x).all(axis=tuple(range(1, x.ndim))),
        labels=np.concatenate([np.zeros(0, dtype=np.int64), *labels]),
        valid=np.concatenate([np.zeros(0, dtype=bool), *valid]),
    )  # fmt: skip


def allowed(outcome: Outcome) -> Outcome:
    """The outcome itself.

    Raises:
        NotApplicable: Its images may not be counted.
    """
    if not outcome.allowed:
        raise NotApplicable(f"{outcome.attack} returns images that it may not")
    return outcome
