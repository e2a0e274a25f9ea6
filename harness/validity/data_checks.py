"""Do the images and labels mean to the model what they meant in its training?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.measure import TOLERANCE
from harness.protocol import BoolArray, FloatArray, IntArray
from harness.validity.evidence import Evidence
from harness.validity.finding import ValidityError, more_often
from harness.validity.outcome import outputs

TINY = 0.1
"""Share of the bounds that the pixels of all images must span."""
MENDED = 0.5
"""Share of the errors that another scale or another naming must mend, at least, for a finding."""

RENUMBER = "Number the classes of model and data alike, from 0 and in the same order."


def check_input_range(evidence: Evidence) -> None:
    """Images fill the model's bounds, and the model is not far better on images of another scale.

    Epsilon is in pixel units: with bounds of another scale, or a network that was trained on
    another, its meaning is lost.
    """
    _check_bounds(evidence)
    candidates = list(_rescaled(evidence.x, *evidence.model.bounds))
    for name, images in candidates:
        right = outputs(evidence.model, images).argmax(axis=1) == evidence.y
        if _far_better(right, evidence.right, len(candidates)):
            raise ValidityError(
                "input-range",
                f"accuracy is {evidence.right.mean():.3f}, but {right.mean():.3f} with {name}",
                "Give the network the pixels it was trained on: put the scaling inside the model.",
            )


def check_labels_shifted(evidence: Evidence) -> None:
    """Each label has a logit, and no renaming of the predicted classes makes the model far better.

    The best renaming is found on one half of the images (Kuhn 1955) and judged on the other.
    """
    from scipy.optimize import linear_sum_assignment

    labels, y, classes = evidence.labels, evidence.y, evidence.logits.shape[1]
    if not evidence.labels_fit:
        low, high = int(evidence.test_y.min()), int(evidence.test_y.max())
        raise ValidityError(
            "labels-shifted", f"labels span [{low}, {high}], but the model has {classes} classes",
            RENUMBER,
        )  # fmt: skip
    half = len(y) // 2
    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels[:half], y[:half]), 1)
    # A renaming that gains nothing by it leaves a class as it is.
    rows, columns = linear_sum_assignment(2 * counts + np.eye(classes), maximize=True)
    renamed = np.empty(classes, dtype=np.int64)
    renamed[rows] = columns
    before, after = labels[half:] == y[half:], renamed[labels[half:]] == y[half:]
    if _far_better(after, before):
        raise ValidityError(
            "labels-shifted",
            f"accuracy is {before.mean():.3f}, but {after.mean():.3f} with the predicted classes "
            f"{_how(renamed)}",
            RENUMBER,
        )


def _how(renamed: IntArray) -> str:
    """What a renaming does, in words."""
    classes = len(renamed)
    shifts = np.unique((renamed - np.arange(classes)) % classes)
    if len(shifts) > 1:
        return "exchanged"
    return f"shifted by {shifts[0] if shifts[0] <= classes // 2 else shifts[0] - classes:+d}"


def _far_better(after: BoolArray, before: BoolArray, comparisons: int = 1) -> bool:
    mended = (~before).sum() - (~after).sum() >= MENDED * (~before).sum()
    return bool(mended) and more_often(after, before, comparisons)


def _check_bounds(evidence: Evidence) -> None:
    low, high = evidence.model.bounds
    lowest, highest = float(evidence.x.min()), float(evidence.x.max())
    filled = highest - lowest >= TINY * (high - low)
    if evidence.in_bounds and filled:
        return
    what = "a tiny part of" if evidence.in_bounds else "outside"
    raise ValidityError(
        "input-range",
        f"pixels span [{lowest:.4g}, {highest:.4g}], {what} the bounds [{low:g}, {high:g}]",
        "Scale the images, or wrap the network with the bounds that they have.",
    )


def _rescaled(x: FloatArray, low: float, high: float) -> Iterator[tuple[str, FloatArray]]:
    """The images as another training may have had them, and what was done to them."""
    unit = (x - low) / (high - low)
    spread = max(float(unit.std()), 1e-12)
    others = {
        "pixels in [0, 1]": unit,
        "pixels in [-1, 1]": 2 * unit - 1,
        "pixels in [0, 255]": 255 * unit,
        "pixels divided by 255 once more": unit / 255,
        "standardised pixels": (unit - unit.mean()) / spread,
        "inverted pixels": high + low - x,
    }
    for name, images in others.items():
        if not np.allclose(images, x, atol=TOLERANCE):
            yield name, images.astype(x.dtype)
