"""CROWN: linear bounds, carried back through the network (Zhang et al. 2018)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from pydantic.dataclasses import dataclass

from harness.certification.bounding import narrowed
from harness.certification.layers import Pooled, Step
from harness.certification.own import OPTIONS, Bounding, by_intervals, robust_by
from harness.certification.propagation import Known, Propagation, Refine
from harness.certification.regions import Interval, Region
from harness.certification.relaxations import Affine, Joined, Path, seen
from harness.protocol import BoolArray, IntArray, NormName

Intermediate: TypeAlias = Literal["crown", "ibp"]


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class CROWN(Bounding):
    """Every layer between two linear functions of what it is given, carried back to the pixels.

    A ReLU whose input may have either sign is bounded by its chord from above, and from below by 0
    or by its input, which is nearer (the adaptive slope of the paper). A maximum is bounded as
    ``relaxations.Peaked`` says. All bounds are intersected with those of ``ibp``, so that whatever
    that certifies is certified here, too.

    Attributes:
        name: What the records call it.
        norm: The norm that bounds the perturbation.
        intermediate: How the inputs of ReLUs and of maxima are bounded: by ``crown``, where
            intervals leave open what they do, or by ``ibp`` alone, which is faster, and looser. In
            networks of convolutions values go back through patches; behind a residual sum through
            whole maps, which for all units of a deep one takes minutes an image.
    """

    name: str = "crown"
    norm: NormName = "linf"
    intermediate: Intermediate = "crown"

    def robust(
        self, steps: tuple[Step, ...], region: Region, y: IntArray, classes: int
    ) -> BoolArray:
        """See ``Bounding``."""
        found = by_intervals(steps, region, y, classes)
        left = np.flatnonzero(~found)
        if len(left):
            numbers = region.interval.numbers
            rest = region.taken(numbers.places(left))
            known, path = linear_bounds(steps, rest, self.intermediate)
            found[left] = robust_by(path, rest, known, y[left], classes)
        return found


def linear_bounds(
    steps: tuple[Step, ...], region: Region, intermediate: Intermediate
) -> tuple[Known, Path]:
    """What is known of the logits by intervals, and linear bounds of all layers."""
    refine = refining(region) if intermediate == "crown" else None
    return Propagation(region.interval.numbers, refine).network(steps, region)


def refining(region: Region) -> Refine:
    """Bounds what layers are given by the layers before, where intervals are not enough."""

    def refine(step: Step, known: Known, path: Path) -> Interval:
        interval = known.interval
        if _exact(path):
            return interval
        open_ = _undecided(step, interval) if isinstance(step, Pooled) else _crossing(interval)
        return narrowed(path, region, interval, open_)

    return refine


def _exact(path: Path) -> bool:
    """Whether going back yields no more than intervals have.

    It does not behind one linear layer, nor right behind a ReLU or a maximum, whose bounds are
    those of what it is given.
    """
    layers = [node for node in path if not (isinstance(node, Affine) and node.step.moves)]
    return not layers or not isinstance(layers[-1], Affine | Joined) or (
        len(layers) == 1 and isinstance(layers[0], Affine)
    )  # fmt: skip


def _crossing(interval: Interval) -> BoolArray:
    """Which inputs of a ReLU may have either sign, (b, n)."""
    return np.asarray(interval.numbers.numpy((interval.low < 0) & (interval.high > 0)))


def _undecided(step: Pooled, interval: Interval) -> BoolArray:
    """Which inputs of maxima may be the largest, in windows where more than one may, (b, n)."""
    numbers, windows = interval.numbers, step.windows
    nothing = -float("inf")
    low, high = (
        numbers.numpy(seen(step, end, numbers, nothing)) for end in (interval.low, interval.high)
    )
    rivals = (high > low.max(axis=2, keepdims=True)) & windows.valid
    rivals &= rivals.sum(axis=2, keepdims=True) > 1
    found = np.zeros((len(rivals), step.channels, windows.pixels), dtype=bool)
    for view, rival in zip(windows.views, np.moveaxis(rivals, 2, 0), strict=True):
        inside = view < windows.pixels
        found[:, :, view[inside]] |= rival[:, :, inside]  # a pixel is at one place of one window
    return found.reshape(len(rivals), -1)
