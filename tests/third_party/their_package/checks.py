"""A check of each suite."""

import numpy as np

from harness.errors import CheckFailed


def check_finite_logits(case):
    """Logits of images are numbers."""
    logits = case.model.numpy(case.model.logits(case.model.asarray(case.x)))
    if not np.isfinite(logits).all():
        raise CheckFailed("logits hold NaN or infinity")


def check_few_images(evidence):
    """There are a thousand images to count."""
    if len(evidence.x) < 1000:
        raise CheckFailed(f"{len(evidence.x)} images are few. Measure on a thousand.")


def check_not_flat(evidence):
    """A map has more than one value."""
    if (np.ptp(evidence.maps.reshape(len(evidence.maps), -1), axis=1) == 0).any():
        raise CheckFailed("a map has one value everywhere")
