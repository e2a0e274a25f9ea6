"""Fast minimum-norm attack (Pintor et al. 2021, algorithm 1), in L∞ and L2."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.attacks.ddn import LAST, annealed
from harness.attacks.iterated import OPTIONS, Count, Positive
from harness.attacks.minimum_norm import Hunt, MinimumNorm, Nearest
from harness.maths.hyperplanes import distance
from harness.maths.norms import L2, NORMS
from harness.maths.objectives import Margin
from harness.protocol import Array, IntArray, NormName, differentiable

BEYOND = 1.002
"""By what the distance of the first boundary is lengthened."""
LAST_GAMMA = 0.001
"""Share by which the ball's radius changes in the last step."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class FMN(MinimumNorm):
    """Steps along the gradient of the margin, each into a ball whose radius follows the boundary.

    Until the image is misclassified the radius grows, at least to the linear approximation's
    boundary; then it shrinks as long as the image is, and grows where it is not.

    Attributes:
        steps: Gradients, one each.
        stepsize: L2 length of the first step, in widths of the box; it falls along half a cosine.
        gamma: Share by which the ball's radius changes in the first step; likewise.
    """

    name: str = "fmn"
    norm: NormName = "linf"
    steps: Count = 100
    stepsize: Positive = 1.0
    gamma: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05

    def seek(self, nearest: Nearest, index: IntArray, reach: float) -> None:
        """See ``MinimumNorm``."""
        hunt, (low, high) = nearest.hunt(), nearest.model.bounds
        if not len(hunt.rows):
            return
        place, xp, model = hunt.place, hunt.place.xp, hunt.model
        moving, radius = hunt.clean, hunt.farthest
        for number in range(self.steps):
            if (left := hunt.left()) is not None:
                hunt, moving, radius = hunt.narrowed(left), *place.taken(left, moving, radius)
                if not len(left):
                    return
            logits, gradient = differentiable(model).logits_and_gradient(
                place.array(moving), hunt.labels, Margin()
            )
            gradient = place.view(gradient)
            wrong, lead = hunt.offer(moving, logits)
            radius = self._radius(hunt, moving, radius, wrong, lead, gradient, number)
            size = annealed(self.stepsize, LAST * self.stepsize, number, self.steps) * (high - low)
            change = moving - hunt.clean + size * L2().steepest(xp, gradient)
            change = NORMS[self.norm].within(xp, change, hunt.spread(radius))
            moving = xp.clip(hunt.clean + change, low, high)
        hunt.offer(moving, model.logits(place.array(moving)))
        hunt.close(moving)

    def _radius(
        self, hunt: Hunt, moving: Array, radius: Array, wrong: Array, lead: Array,
        gradient: Array, number: int,
    ) -> Array:  # fmt: skip
        """The radii after a step, (m,)."""
        xp, norm = hunt.place.xp, NORMS[self.norm]
        gamma = annealed(self.gamma, LAST_GAMMA, number, self.steps)
        boundary = norm.length(xp, moving - hunt.clean) + distance(xp, lead, gradient, norm)
        # A little beyond the boundary, on which nothing is misclassified yet. It is further away
        # than it seems where the box takes away from a step, so the radius grows until then.
        begun = BEYOND * boundary
        if number:
            begun = xp.maximum(begun, radius * (1 + gamma))
        grown = xp.where(hunt.distance < np.inf, radius * (1 + gamma), begun)
        shrunk = xp.minimum(radius * (1 - gamma), hunt.distance)
        return xp.minimum(xp.where(wrong, shrunk, grown), hunt.farthest)
