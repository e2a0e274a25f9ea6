"""What the certifiers of the harness have in common: margins over a region, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import ConfigDict

from harness.certification.bounding import margins, others, trailing
from harness.certification.layers import Branches, Linear, Pooled, Step, steps_of
from harness.certification.numbers import SPARE, Numbers
from harness.certification.propagation import Known, Propagation
from harness.certification.regions import Region, region_around
from harness.certification.relaxations import Path
from harness.errors import MeasurementError
from harness.making import fields_of
from harness.protocol import (
    Array,
    BoolArray,
    Bounds,
    FloatArray,
    IntArray,
    Model,
    Network,
    NormName,
    walk,
)

OPTIONS = ConfigDict(extra="forbid", strict=True)
MEMORY = 64 * 2**20
"""Bytes that the images of a pass take up, with all that is known of them."""
MOST = 64
"""Images of a pass, at most: more are not faster."""


class Bounding:
    """A base of dataclasses: certified is what has a positive lower bound of all its margins.

    The bounds are those of the network in exact arithmetic, with its weights as the model holds
    them, over all images that ``check_perturbation`` allows at ε: an attack's images are rounded.
    An image counts only if each z_y - z_k is larger than what the rounding of the model's own
    logits can take from it, so that the model itself classifies all of these images correctly; see
    ``propagation`` for the derivation, and for when it does not hold.
    """

    name: str
    norm: NormName

    def options(self) -> dict[str, Any]:
        """See ``protocol.Certifier``: every field but the name."""
        return fields_of(self)

    def certified(
        self, network: Network, model: Model, x: Array, y: Array, epsilons: Sequence[float]
    ) -> Iterator[BoolArray]:
        """See ``protocol.Certifier``.

        Raises:
            NotApplicable: A layer has no relaxation; the message names it.
            MeasurementError: The images are not of the network's shape, an epsilon is negative, or
                beyond the box, or they do not increase.
        """
        require_epsilons(epsilons, self.norm, model.bounds, tuple(x.shape[1:]))
        return self._certified(network, model, x, y, epsilons)

    def _certified(
        self, network: Network, model: Model, x: Array, y: Array, epsilons: Sequence[float]
    ) -> Iterator[BoolArray]:
        numbers = numbers_for(network, Numbers.of(model, x))
        steps, labels = steps_of(network, numbers), model.numpy(y)
        require_shape(network, tuple(x.shape[1:]))
        classes = network.architecture.classes
        vectors = numbers.xp.reshape(numbers.widened(x), (x.shape[0], -1))
        size, still = images_at_once(steps), np.ones(len(labels), dtype=bool)
        for epsilon in epsilons:
            found, left = np.zeros_like(still), np.flatnonzero(still)
            for start in range(0, len(left), size):
                part = left[start : start + size]
                near = numbers.take(vectors, numbers.places(part))
                region = region_around(numbers, near, float(epsilon), self.norm, model.bounds)
                # What overflows has no bounds, and is not certified.
                with np.errstate(over="ignore", invalid="ignore"):
                    found[part] = self.robust(steps, region, labels[part], classes)
            still = found
            yield still.copy()

    def robust(
        self, steps: tuple[Step, ...], region: Region, y: IntArray, classes: int
    ) -> BoolArray:
        """Which images are classified correctly in the whole of their region, (b,)."""
        raise NotImplementedError


def numbers_for(network: Network, numbers: Numbers) -> Numbers:
    """The arithmetic with room for what the totals of so many layers are rounded by."""
    layers = sum(1 for _ in walk(network.architecture.inference.placed))
    return replace(numbers, extra=SPARE + 4 * layers)


def robust_by(path: Path, region: Region, known: Known, y: IntArray, classes: int) -> BoolArray:
    """Which images have margins that are larger than what the model's rounding may take, (b,)."""
    numbers = region.interval.numbers
    lows: FloatArray = numbers.numpy(margins(path, region, y, classes))
    errors: FloatArray = numbers.numpy(known.error)
    rivals = np.take_along_axis(errors, others(y, classes), axis=1)
    own = np.take_along_axis(errors, y[:, None], axis=1)
    return np.asarray((lows > (own + rivals) * (1 + 1e-6)).all(axis=1))


def by_intervals(steps: tuple[Step, ...], region: Region, y: IntArray, classes: int) -> BoolArray:
    """The same by intervals alone, with the differences of logits folded into the last layer."""
    known, path = Propagation(region.interval.numbers).network(steps, region)
    return robust_by(*trailing(path, region, known.interval), known, y, classes)


def images_at_once(steps: tuple[Step, ...]) -> int:
    """How many images a pass is made with."""
    kept, widest = _sizes(steps)
    return max(1, min(MOST, MEMORY // (8 * (10 * kept + 3 * widest))))


def _sizes(steps: tuple[Step, ...]) -> tuple[int, int]:
    """Numbers that are between the layers, and in the widest array within one."""
    kept, widest = 0, 1
    for step in steps:
        if isinstance(step, Branches):
            more, wide = _sizes((*step.branch, *step.shortcut))
            kept, widest = kept + more + step.count, max(widest, wide)
        elif isinstance(step, Linear):
            kept, widest = kept + step.size[1], max(widest, step.room)
        elif isinstance(step, Pooled):
            many = step.channels * step.windows.size * step.windows.count
            kept, widest = kept + many, max(widest, 4 * many)
        else:
            kept += step.count
    return kept, widest


def require_shape(network: Network, shape: tuple[int, ...]) -> None:
    """Images must be of the shape that the network takes.

    Raises:
        MeasurementError: They are not.
    """
    wanted = network.architecture.input_shape
    if shape != tuple(wanted):
        raise MeasurementError(f"images have shape {shape}, and the network takes {wanted}")


def require_epsilons(
    epsilons: Sequence[float], norm: NormName, bounds: Bounds, shape: tuple[int, ...]
) -> None:
    """Radii must increase, and none may be larger than the box.

    Raises:
        MeasurementError: They do not, or one is.
    """
    widest = bounds[1] - bounds[0]
    if norm == "l2":
        widest *= math.sqrt(math.prod(shape))
    for epsilon in epsilons:
        if not 0 <= epsilon <= widest * (1 + 1e-9):
            raise MeasurementError(
                f"epsilon {epsilon:g} is not from 0 to {widest:g}, the size of the box of pixels "
                f"[{bounds[0]:g}, {bounds[1]:g}] in {'L∞' if norm == 'linf' else 'L2'}"
            )
    if any(a >= b for a, b in pairwise(epsilons)):
        raise MeasurementError("epsilons must increase from each to the next")
