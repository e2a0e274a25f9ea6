"""A certifier at every epsilon, in portions: which images no attack can get misclassified."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.errors import MeasurementError, NotApplicable, Unanswered
from harness.maths.portions import portions
from harness.maths.query import batch_size_for, finite_logits, read
from harness.protocol import BoolArray, Certifier, Images, IntArray, Model, Network

AT_ONCE = 256
"""Images of a portion: certificates take longer than answers, and a bar should move."""
UNKNOWN = (
    "certificates need a network that is known layer by layer: one built here, or read from an "
    "ONNX file"
)


def certify(
    certifier: Certifier,
    network: Network | None,
    model: Model,
    x: Images,
    y: IntArray,
    epsilons: Sequence[float],
) -> list[BoolArray]:
    """Which images are certified at each epsilon.

    An image is only if the model classifies it correctly as it is. What is certified at one epsilon
    is at every smaller one: each of those balls lies within the larger.

    Args:
        certifier: What proves it.
        network: What the model computes; None if that is not known.
        model: The classifier.
        x: Images, (n, *shape) within ``model.bounds``.
        y: Their true labels, (n,) integers.
        epsilons: Increasing radii in pixel units.

    Returns:
        Of each epsilon, in order, (n,) booleans. An image that is not answered is not certified.

    Raises:
        NotApplicable: The network is not known, or has a layer without bounds; the message says
            which.
        MeasurementError: An epsilon is beyond the box, the certifier yields other than booleans for
            each epsilon, or no image is answered.
    """
    if network is None:
        raise NotApplicable(UNKNOWN)

    def on(part: slice) -> BoolArray:
        clean = np.asarray(x[part])
        right = read(finite_logits(model, model.asarray(clean))).labels == y[part]
        found = np.zeros((len(epsilons), len(clean)), dtype=bool)
        if right.any():
            images, labels = model.asarray(clean[right]), model.asarray(y[part][right])
            made = certifier.certified(network, model, images, labels, list(epsilons))
            found[:, right] = _checked(certifier.name, list(made), len(epsilons), right.sum())
        return found

    size = min(AT_ONCE, batch_size_for(model, x))
    parts = [
        np.zeros((len(epsilons), 1), dtype=bool) if isinstance(found, Unanswered) else found
        for _, found in portions(model, x, size, on)
    ]
    every = np.concatenate([np.zeros((len(epsilons), 0), dtype=bool), *parts], axis=1)
    # From the largest epsilon down.
    every = np.logical_or.accumulate(every[::-1], axis=0)[::-1]
    return list(every)


def _checked(name: str, found: list[BoolArray], epsilons: int, images: int) -> BoolArray:
    """What a certifier has yielded, (epsilons, images)."""
    if len(found) != epsilons:
        raise MeasurementError(f"{name} yields other than one array per epsilon")
    for one in found:
        if not isinstance(one, np.ndarray) or one.shape != (images,) or one.dtype.kind != "b":
            raise MeasurementError(f"{name} yields other than booleans of shape ({images},)")
    return np.array(found).reshape(epsilons, images)
