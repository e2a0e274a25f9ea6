"""Is the model better than chance, and does it depend on what it should?"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from harness.checks.validity.evidence import Evidence
from harness.checks.validity.outcome import outputs
from harness.checks.validity.views import View, views
from harness.errors import CheckFailed, NotApplicable
from harness.maths.query import batch_size_for, batches
from harness.maths.statistics import ALPHA, more_often
from harness.protocol import BoolArray, FloatArray

CORRECTED = 0.5
"""Share of the errors that another view or another naming must correct for a finding."""
LOW = 0.7
"""Accuracy below which other views of the images are tried, where that is expensive."""
TINY = 1e-4
"""Size of an imperceptible noise, as a share of the pixel range."""
VIEWS = 20
"""Among how many comparisons the chance of a false alarm is shared, where the best view counts."""
DUPLICATES = 0.05
"""Share of images that may be duplicates: real test sets hold a few."""


def check_no_better_than_chance(evidence: Evidence) -> None:
    """Clean accuracy is better than that of guessing.

    Where it is not, other views of the images are tried, and the one that corrects it is named:
    transposed, flipped or turned images, channels in another order, other pixel scales. Where the
    images are too few to tell, only such a view is a finding.
    """
    unclear: NotApplicable | None = None
    try:
        if evidence.better_than_chance:
            return
    except NotApplicable as error:
        if not evidence.labels_fit:
            raise
        unclear = error
    right = evidence.right
    corrected = best_view(evidence)
    said = f"{right.sum()} of {len(right)} images are classified correctly, as by guessing"
    if corrected is None or not far_better(corrected[0].argmax(axis=1) == evidence.y, right, VIEWS):
        if unclear:
            raise unclear
        raise CheckFailed(
            said,
            "Check that the trained weights were loaded, and that images and labels belong "
            "together: an attack on a model at chance says nothing.",
            of="no-better-than-chance",
        )
    logits, (name, advice, _) = corrected
    better = int((logits.argmax(axis=1) == evidence.y).sum())
    raise CheckFailed(f"{said}, but {better} with {name}", advice, of="no-better-than-chance")


def check_mostly_wrong(evidence: Evidence) -> None:
    """The same; and where most images are misclassified, no view of them makes accuracy far higher.

    A model that is better than chance may still see all images transposed. Of the
    suites' checks that is ``input-range``.
    """
    check_no_better_than_chance(evidence)
    if evidence.right.mean() >= LOW:
        return
    corrected = best_view(evidence)
    if corrected is None or not far_better(
        corrected[0].argmax(axis=1) == evidence.y, evidence.right, VIEWS
    ):
        return
    logits, (name, advice, _) = corrected
    better = (logits.argmax(axis=1) == evidence.y).mean()
    raise CheckFailed(
        f"accuracy is {evidence.right.mean():.3f}, but {better:.3f} with {name}",
        advice,
        of="no-better-than-chance",
    )


def check_tiny_noise(evidence: Evidence) -> None:
    """Imperceptible noise changes nothing: no prediction depends on the last bits of a pixel.

    A model that looks images up, or tells by their rounding whether they were attacked, looks
    accurate, or robust, and is neither.
    """
    after = under_tiny_noise(evidence)
    for more, less in ((evidence.right, after), (after, evidence.right)):
        if more_often(more, less, 2):
            raise CheckFailed(
                f"{evidence.right.sum()} of {len(after)} images are classified correctly, but "
                f"{after.sum()} with noise of {TINY * evidence.width:.3g} on their pixels",
                "Find out what in the model depends on the last bits of a pixel: it has memorised "
                "these images, or the rounding of their pixels.",
                of="tiny-noise",
            )


def check_duplicate_images(evidence: Evidence) -> None:
    """Test images are not duplicated: copies count the same evidence again.

    Images without any contrast, and a few duplicates, do not count.
    """
    x, count, seen = evidence.test_x, 0, set[bytes]()
    for part in batches(len(x), batch_size_for(evidence.model, x)):
        images = np.ascontiguousarray(x[part]).reshape(part.stop - part.start, -1)
        telling = images[np.ptp(images, axis=1) != 0]
        count += len(telling)
        seen |= {hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in telling}
    copies = count - len(seen)
    if copies > max(5, DUPLICATES * count):
        raise CheckFailed(
            f"{copies} of {count} test images are copies of others",
            "Leave the copies out: intervals, and the gate, treat every image as independent.",
            of="duplicate-images",
        )


def check_never_predicted(evidence: Evidence) -> None:
    """A class with many test images is predicted at least once."""
    evidence.require_better_than_chance()
    labels = evidence.many_labels
    y = np.asarray(evidence.test_y[evidence.many], dtype=np.int64)
    if len(np.unique(labels)) < 2:
        raise NotApplicable("all images get the same label")
    shown = np.bincount(y, minlength=evidence.logits.shape[1])
    predicted = np.bincount(labels, minlength=len(shown))
    # A class that is found half as often as the others is missed so many times in a row by chance.
    missed = math.log(ALPHA / len(shown)) / math.log(1 - float((labels == y).mean()) / 2)
    never = np.flatnonzero((predicted == 0) & (shown > missed))
    if len(never):
        worst = never[shown[never].argmax()]
        raise CheckFailed(
            f"class {worst} is never predicted, though {shown[worst]} of {len(y)} images are of it"
            + (f"; so for {len(never)} classes" if len(never) > 1 else ""),
            "Check the last layer, the list of classes, and that the model was trained on all.",
            of="never-predicted",
        )


def best_view(evidence: Evidence) -> tuple[FloatArray, View] | None:
    """The view of the images on which most are classified correctly, with the logits it gets.

    None if imperceptible noise changes the accuracy too: then any other view may.
    """
    if not is_firm(evidence):
        return None
    best: tuple[FloatArray, View] | None = None
    most = 0
    for view in views(evidence.x, evidence.model):
        logits = seen_as(evidence, view)
        right = 0 if logits is None else int((logits.argmax(axis=1) == evidence.y).sum())
        if logits is not None and right > most:
            best, most = (logits, view), right
    return best


def seen_as(evidence: Evidence, view: View) -> FloatArray | None:
    """The logits of a view; None if the model cannot take it. Each is evaluated once."""
    name, _, images = view
    try:
        return evidence.once(("view", name), lambda: outputs(evidence.model, images))
    except NotApplicable:
        return None


def under_tiny_noise(evidence: Evidence) -> BoolArray:
    """Which images are classified correctly with noise of the size ``TINY`` on them, (n,)."""

    def ask() -> BoolArray:
        evidence.require_attackable()
        noise = np.random.default_rng(0).uniform(-1, 1, evidence.x.shape)
        noisy = np.clip(evidence.x + TINY * evidence.width * noise, *evidence.model.bounds)
        labels = outputs(evidence.model, noisy.astype(evidence.x.dtype)).argmax(axis=1)
        return np.asarray(labels == evidence.y)

    return evidence.once("tiny-noise", ask)


def is_firm(evidence: Evidence) -> bool:
    """Whether such noise leaves the accuracy as it is, and logits depend on the image alone."""
    try:
        noisy = under_tiny_noise(evidence)
    except NotApplicable:
        return not evidence.in_bounds
    return not (more_often(noisy, evidence.right) or more_often(evidence.right, noisy))


def far_better(after: BoolArray, before: BoolArray, comparisons: int = 1) -> bool:
    """Whether half of the errors are gone, and not by chance."""
    corrected = (~before).sum() - (~after).sum() >= CORRECTED * (~before).sum()
    return bool(corrected) and more_often(after, before, comparisons)
