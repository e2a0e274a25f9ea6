"""Do the images, labels and epsilons mean to the model what they meant in its training?"""

from __future__ import annotations

import math

import numpy as np

from harness.checks.validity.chance import far_better, is_firm, seen_as
from harness.checks.validity.evidence import Evidence
from harness.checks.validity.views import View, views
from harness.errors import CheckFailed, NotApplicable
from harness.maths.statistics import more_often
from harness.protocol import BoolArray, IntArray

FILLED = 0.3
"""Share of the bounds that the pixels of all images must span."""
LEAST = 1e-3
"""Share of the pixel range that the largest epsilon must reach: a quarter of a grey level."""
BYTES = 50.0
"""Pixel ranges from this length on count grey levels, or nearly."""
LEVEL = 0.4 / 255
"""The same share where they do: 0.3 is then meant for [0, 1], and 0.5 may be half a level."""

RENUMBER = "Number the classes of model and data alike, from 0 and in the same order."


def check_input_range(evidence: Evidence) -> None:
    """Images fill the model's bounds, and the model is not far better on another view of them.

    Epsilon is in pixel units: with bounds of another scale, or a network that was trained on
    another, its meaning is lost. Layouts are tried too: rows for columns, colours in another order.
    """
    _check_bounds(evidence)
    if (better := _better_view(evidence)) is not None:
        right, (name, advice, _) = better
        raise CheckFailed(
            f"accuracy is {evidence.right.mean():.3f}, but {right.mean():.3f} with {name}",
            advice,
            of="input-range",
        )


def check_labels_shifted(evidence: Evidence) -> None:
    """Each label has a logit, and no renaming of the predicted classes makes the model far better.

    The best renaming is found on one half of the images (Kuhn 1955) and judged on the other.
    """
    labels, y, classes = evidence.labels, evidence.y, evidence.logits.shape[1]
    if not evidence.labels_fit:
        low, high = int(evidence.test_y.min()), int(evidence.test_y.max())
        raise CheckFailed(
            f"labels span [{low}, {high}], but the model has {classes} classes",
            RENUMBER,
            of="labels-shifted",
        )
    half = len(y) // 2
    renamed = _best_renaming(labels[:half], y[:half], classes)
    before, after = labels[half:] == y[half:], renamed[labels[half:]] == y[half:]
    if not far_better(after, before):
        return
    if not is_firm(evidence):
        raise NotApplicable("imperceptible noise changes the accuracy as well")
    better = _better_view(evidence)
    # A renaming is fitted, and a view is not: where neither is better, it is the view.
    if better is not None and not more_often(after, better[0][half:]):
        raise NotApplicable(f"the model is accurate with {better[1][0]}, whatever its labels")
    raise CheckFailed(
        f"accuracy is {before.mean():.3f}, but {after.mean():.3f} with the predicted classes "
        f"{_how(renamed)}",
        RENUMBER,
        of="labels-shifted",
    )


def check_epsilon_scale(evidence: Evidence) -> None:
    """Epsilon is neither beyond the whole pixel range, nor less than a quarter of a grey level.

    Of a sweep the largest epsilon counts. An L2 length is spread over some of the pixels: it is
    compared with that of a quarter of a level on as many as the root of their number.
    """
    if not evidence.reported:
        raise NotApplicable("no attack is reported")
    low, high = evidence.model.bounds
    least = (LEVEL if evidence.width >= BYTES else LEAST) * evidence.width
    for one in evidence.reported:
        largest = max(one.epsilons, default=0.0)
        across = 1.0 if one.attack.norm == "linf" else math.sqrt(evidence.x[0].size)
        if largest > across * evidence.width * (1 + 1e-6):
            what = "more than all images are apart"
        elif 0 < largest < least * math.sqrt(across):
            part = "half" if evidence.width >= BYTES else "a quarter of"
            what = f"less than {part} one grey level of 256"
            if one.attack.norm != "linf":
                what += f" on {math.sqrt(evidence.x[0].size):.0f} of {evidence.x[0].size} of them"
        else:
            continue
        raise CheckFailed(
            f"{one.attack.name} at epsilon {largest:g} may move pixels in [{low:g}, {high:g}] by "
            + what,
            "Give epsilon in the units of the pixels: 8/255 on [0, 1] is 8 on [0, 255].",
            of="epsilon-scale",
        )


def _best_renaming(labels: IntArray, y: IntArray, classes: int) -> IntArray:
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(counts, (labels, y), 1)
    # A renaming that gains nothing by it leaves a class as it is.
    rows, columns = linear_sum_assignment(2 * counts + np.eye(classes), maximize=True)
    renamed = np.empty(classes, dtype=np.int64)
    renamed[rows] = columns
    return renamed


def _how(renamed: IntArray) -> str:
    """What a renaming does, in words."""
    classes = len(renamed)
    shifts = np.unique((renamed - np.arange(classes)) % classes)
    if len(shifts) > 1:
        return "exchanged"
    return f"shifted by {shifts[0] if shifts[0] <= classes // 2 else shifts[0] - classes:+d}"


def _better_view(evidence: Evidence) -> tuple[BoolArray, View] | None:
    """The view on which the model is far better, and by most; and which images are correct then."""
    found: list[tuple[BoolArray, View]] = []
    candidates = list(views(evidence.x, evidence.model))
    for view in candidates:
        logits = seen_as(evidence, view)
        if logits is not None:
            right = np.asarray(logits.argmax(axis=1) == evidence.y)
            if far_better(right, evidence.right, len(candidates)):
                found.append((right, view))
    if not found or not is_firm(evidence):
        return None
    return max(found, key=lambda each: int(each[0].sum()))


def _check_bounds(evidence: Evidence) -> None:
    low, high = evidence.model.bounds
    lowest, highest = float(evidence.x.min()), float(evidence.x.max())
    filled = highest - lowest >= FILLED * (high - low) and not _usual(evidence, lowest, highest)
    if evidence.in_bounds and filled:
        return
    what = "a small part of" if evidence.in_bounds else "outside"
    raise CheckFailed(
        f"pixels span [{lowest:.4g}, {highest:.4g}], {what} the bounds [{low:g}, {high:g}]",
        "Scale the images, or wrap the network with the bounds that they have.",
        of="input-range",
    )


def _usual(evidence: Evidence, lowest: float, highest: float) -> bool:
    """Whether the pixels fill one of the usual ranges, [0, 1] or [0, 255], and the bounds not."""
    for usual in ((0.0, 1.0), (0.0, 255.0)):
        fills = np.allclose((lowest, highest), usual, rtol=0, atol=0.01 * usual[1])
        if fills and evidence.width >= 1.5 * usual[1]:
            return True
    return False
