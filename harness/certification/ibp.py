"""Interval bound propagation (Gowal et al. 2018)."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from harness.certification.layers import Step
from harness.certification.own import OPTIONS, Bounding, by_intervals
from harness.certification.regions import Region
from harness.protocol import BoolArray, IntArray, NormName


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class IBP(Bounding):
    """Intervals of pixels, carried through the network layer by layer, as middles and radii.

    The differences of logits are folded into the last layer, as in the paper (eq. 9). In L2 the
    first linear layer is bounded by the dual norm, and by the intervals of the ball's own pixels;
    all others as in L∞. It takes little more than a forward pass, and is loose on networks that
    have not been trained for it.

    Attributes:
        name: What the records call it.
        norm: The norm that bounds the perturbation.
    """

    name: str = "ibp"
    norm: NormName = "linf"

    def robust(
        self, steps: tuple[Step, ...], region: Region, y: IntArray, classes: int
    ) -> BoolArray:
        """See ``Bounding``."""
        return by_intervals(steps, region, y, classes)
