"""Decoupled direction and norm (Rony et al. 2019, algorithm 1): a small L2 perturbation."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.attacks.iterated import OPTIONS, Count, Positive
from harness.attacks.minimum_norm import MinimumNorm, Nearest
from harness.maths.norms import L2
from harness.maths.objectives import TemperedLogOdds
from harness.protocol import IntArray, NormName, differentiable

LAST = 0.01
"""The last step, as a share of the first."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class DDN(MinimumNorm):
    """Steps along the gradient, each onto a sphere that grows until the image is misclassified.

    From then on it shrinks as long as the image is, and grows where it is not. The direction is
    that of the cross-entropy's gradient, tempered where the softmax is nearly uniform.

    Attributes:
        steps: Gradients, one each.
        stepsize: Length of the first step, in widths of the box; it falls along half a cosine.
        gamma: Share by which the sphere's radius changes in each step.
        radius: Its first radius, in widths of the box.
    """

    name: str = "ddn"
    norm: ClassVar[NormName] = "l2"  # type: ignore[misc]  # there is no other
    steps: Count = 100
    stepsize: Positive = 1.0
    gamma: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    radius: Positive = 1.0

    def seek(self, nearest: Nearest, index: IntArray, reach: float) -> None:
        """See ``MinimumNorm``."""
        hunt, (low, high) = nearest.hunt(), nearest.model.bounds
        if not len(hunt.rows):
            return
        place, xp, model = hunt.place, hunt.place.xp, hunt.model
        moving = hunt.clean
        radius = 0.0 * hunt.farthest + self.radius * (high - low)
        for number in range(self.steps):
            if (left := hunt.left()) is not None:
                hunt, moving, radius = hunt.narrowed(left), *place.taken(left, moving, radius)
                if not len(left):
                    return
            logits, gradient = differentiable(model).logits_and_gradient(
                place.array(moving), hunt.labels, TemperedLogOdds()
            )
            wrong, _ = hunt.offer(moving, logits)
            radius = xp.where(wrong, radius * (1 - self.gamma), radius * (1 + self.gamma))
            radius = xp.minimum(radius, hunt.farthest)
            size = annealed(self.stepsize, LAST * self.stepsize, number, self.steps) * (high - low)
            change = moving - hunt.clean + size * L2().steepest(xp, place.view(gradient))
            onto = L2().steepest(xp, change) * hunt.spread(radius)
            moving = xp.clip(hunt.clean + onto, low, high)
        hunt.offer(moving, model.logits(place.array(moving)))
        hunt.close(moving)


def annealed(first: float, last: float, number: int, steps: int) -> float:
    """The value at a step, from 0, of so many, as it falls along half a cosine."""
    return last + (first - last) * (1 + math.cos(math.pi * number / steps)) / 2
