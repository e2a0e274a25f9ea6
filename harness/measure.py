"""Measuring: batches × epsilons. Checks every adversarial image, and counts; judges nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from harness.protocol import Array, Attack, FloatArray, IntArray, Model

BATCH = 1000
TOLERANCE = 1e-6
"""How far an image may lie outside ball or box, in pixel units: float32 rounding of x ± ε."""


class MeasurementError(Exception):
    """A measurement that cannot be trusted, so that no number is given."""


@dataclass(frozen=True)
class Answers:
    """What a model says of n images.

    Attributes:
        labels: Predicted labels, (n,) int16.
        confidence: Softmax probability of the predicted class, (n,) float32 in [0, 1].
    """

    labels: npt.NDArray[np.int16]
    confidence: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Attacked:
    """What a model says of n images attacked at one epsilon.

    Attributes:
        epsilon: L∞ radius in pixel units.
        answers: Predictions on the adversarial images.
        kept: The adversarial images that were asked for, (m, *shape).
    """

    epsilon: float
    answers: Answers
    kept: FloatArray


def batches(count: int, size: int = BATCH) -> Iterator[slice]:
    """Slices that cover ``range(count)`` in order."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def logits_of(model: Model, x: FloatArray, batch_size: int = BATCH) -> FloatArray:
    """Logits (n, k) of images (n, *shape), computed in batches.

    Raises:
        MeasurementError: A logit is NaN or infinite.
    """
    parts = [_finite_logits(model, model.asarray(x[part])) for part in batches(len(x), batch_size)]
    return np.concatenate(parts)


def answers_to(model: Model, x: FloatArray, batch_size: int = BATCH) -> Answers:
    """Predicted labels and confidences for images (n, *shape).

    Raises:
        MeasurementError: A logit is NaN or infinite.
    """
    return _read(logits_of(model, x, batch_size))


def sweep(
    model: Model,
    attack: Attack,
    x: FloatArray,
    y: IntArray,
    epsilons: Sequence[float],
    *,
    keep: Sequence[int] = (),
    batch_size: int = BATCH,
) -> list[Attacked]:
    """Attack n images at every epsilon, and read the model's answers.

    Args:
        model: The classifier under attack.
        attack: What perturbs; it sees the true labels.
        x: Clean images, (n, *shape) within ``model.bounds``.
        y: True labels, (n,) integers.
        epsilons: L∞ radii in pixel units.
        keep: Positions of images whose adversarial versions are returned.
        batch_size: Images per call of the attack.

    Returns:
        One result per epsilon, in order.

    Raises:
        MeasurementError: The model lacks what the attack requires, an adversarial image leaves the
            ball or the box or is not finite, no image is changed at all, a logit is not finite, or
            the attack yields another number of batches than there are epsilons.
    """
    lacking = sorted(attack.requires - model.capabilities)
    if lacking:
        raise MeasurementError(f"{attack.name} needs {', '.join(lacking)}, which the model lacks")
    logits: list[list[FloatArray]] = [[] for _ in epsilons]
    kept: list[dict[int, FloatArray]] = [{} for _ in epsilons]
    moved = not any(epsilons)
    for part in batches(len(x), batch_size):
        images, labels = model.asarray(x[part]), model.asarray(y[part])
        inside = [position for position in keep if part.start <= position < part.stop]
        # A copy, so that an attack that works in place does not move what it is checked against.
        perturbed = attack.perturb(model, model.asarray(x[part].copy()), labels, epsilons)
        for index, (epsilon, adversarial) in enumerate(zip_longest(epsilons, perturbed)):
            if epsilon is None or adversarial is None:
                raise MeasurementError(f"{attack.name} yields other than one batch per epsilon")
            moved |= check_perturbation(model, images, adversarial, epsilon) > 0
            logits[index].append(_finite_logits(model, adversarial))
            if inside:
                values = model.numpy(adversarial)
                kept[index] |= {position: values[position - part.start] for position in inside}
    if not moved:
        raise MeasurementError(f"{attack.name} changed no image; are the gradients zero?")
    return [
        Attacked(
            epsilon,
            _read(np.concatenate(logits[index])),
            np.array([kept[index][position] for position in keep]).reshape(-1, *x.shape[1:]),
        )
        for index, epsilon in enumerate(epsilons)
    ]


def check_perturbation(model: Model, x: Array, adversarial: Array, epsilon: float) -> float:
    """Require adversarial images to be finite, in the L∞ ball around x, and in the box.

    This is the one place where that is asserted, for every attack and backend.

    Returns:
        The largest change of a pixel.

    Raises:
        MeasurementError: They are not; the message says by how much.
    """
    xp, (low, high) = model.xp, model.bounds
    if tuple(adversarial.shape) != tuple(x.shape):
        raise MeasurementError(
            f"the attack returned shape {tuple(adversarial.shape)} for {tuple(x.shape)}"
        )
    slack = TOLERANCE * max(1.0, abs(low), abs(high))
    distance = _number(model, xp.max(xp.abs(adversarial - x)))
    lowest = _number(model, xp.min(adversarial))
    highest = _number(model, xp.max(adversarial))
    if not _number(model, xp.all(xp.isfinite(adversarial))):
        raise MeasurementError("an adversarial image holds NaN or infinity")
    if distance > epsilon + slack:
        raise MeasurementError(
            f"an adversarial image is {distance:.6g} from its original, outside the L∞ ball "
            f"of radius {epsilon:g}"
        )
    if lowest < low - slack or highest > high + slack:
        raise MeasurementError(
            f"adversarial pixels span [{lowest:.6g}, {highest:.6g}], outside the box "
            f"[{low:g}, {high:g}]"
        )
    return distance


def correct_count(answers: Answers, y: IntArray) -> int:
    """How many of n predicted labels are the true ones."""
    return int(np.sum(answers.labels == y))


def _finite_logits(model: Model, x: Array) -> FloatArray:
    values = model.numpy(model.logits(x))
    if values.ndim != 2 or len(values) != len(x):
        raise MeasurementError(f"logits have shape {values.shape} for {len(x)} images")
    if not np.isfinite(values).all():
        raise MeasurementError("a logit is NaN or infinite")
    return values


def _read(logits: FloatArray) -> Answers:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    confidence = odds.max(axis=1) / odds.sum(axis=1)
    return Answers(logits.argmax(axis=1).astype(np.int16), confidence.astype(np.float32))


def _number(model: Model, scalar: Array) -> float:
    return float(model.numpy(scalar))
