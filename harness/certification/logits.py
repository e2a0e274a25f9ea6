"""Bounds of the logits of a network, for whatever lies between two images."""

from __future__ import annotations

import numpy as np

from harness.certification.bounding import narrowed
from harness.certification.crown import Intermediate, linear_bounds
from harness.certification.layers import steps_of
from harness.certification.numbers import Numbers
from harness.certification.own import images_at_once, numbers_for, require_shape
from harness.certification.propagation import Propagation
from harness.certification.regions import Interval, Region
from harness.errors import MeasurementError
from harness.protocol import FloatArray, Network


def bounds_of(
    network: Network,
    low: FloatArray,
    high: FloatArray,
    method: str = "crown",
    intermediate: Intermediate = "crown",
) -> tuple[FloatArray, FloatArray]:
    """Bounds of the logits of all images between two, by NumPy in float64, rounded outwards.

    Args:
        network: Whose logits they are, in exact arithmetic.
        low: The lowest pixels, (n, *shape).
        high: The highest, likewise.
        method: ``crown`` or ``ibp``.
        intermediate: See ``CROWN``.

    Returns:
        The lowest logits and the highest, each (n, k) float64.

    Raises:
        NotApplicable: A layer has no relaxation; the message names it.
        MeasurementError: The images are not of the network's shape, some low pixel is above the
            high one, or there is no such method.
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    if method not in ("crown", "ibp"):
        raise MeasurementError(f"{method!r} bounds no logits; crown and ibp do")
    require_shape(network, low.shape[1:])
    if low.shape != high.shape or not (low <= high).all():
        raise MeasurementError("low and high are not images of which none is above the other")
    numbers = numbers_for(network, Numbers(np, float(np.finfo(np.float64).eps) / 2))
    steps, found = steps_of(network, numbers), []
    for start in range(0, len(low), size := images_at_once(steps)):
        part = slice(start, start + size)
        ends = (end[part].reshape(len(low[part]), -1) for end in (low, high))
        region = Region(Interval(numbers, *ends))
        logits = Propagation(numbers).network(steps, region)[0].interval
        if method == "crown":
            known, path = linear_bounds(steps, region, intermediate)
            every = np.ones(logits.low.shape, dtype=bool)
            logits = logits.within(known.interval)
            logits = narrowed(path, region, logits, every) if path else logits
        found.append(logits)
    classes = network.architecture.classes
    empty = np.zeros((0, classes))
    return (
        np.concatenate([empty, *(logits.low for logits in found)]),
        np.concatenate([empty, *(logits.high for logits in found)]),
    )
