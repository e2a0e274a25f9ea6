"""Fast Adaptive Boundary attack (Croce & Hein 2020b, algorithm 1), in L∞ and L2."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.attacks.ball import ROUNDING
from harness.attacks.iterated import OPTIONS, Count
from harness.attacks.minimum_norm import Hunt, MinimumNorm, Nearest
from harness.attacks.targets import aims, signs
from harness.maths.draws import generators, stacked
from harness.maths.hyperplanes import distance, shortest_change
from harness.maths.norms import NORMS, Norm
from harness.maths.objectives import Towards
from harness.protocol import Array, IntArray, NormName, differentiable

AIM = Towards("margin")
"""The lead of a class before the true one, which is zero at their boundary."""
SHORTEST = 1e-8
"""Steps count as no shorter than this, in pixel units, where they are weighed."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class FAB(MinimumNorm):
    """Projects onto the boundary of the linear approximation, with a bias to the clean image.

    Each step goes to where the hyperplane meets the box nearest to the image as it moves, mixed
    with where it is nearest to the clean one, and a little beyond. A misclassified image is kept if
    it is the nearest so far, and then moves back towards the clean one.

    Attributes:
        steps: Of each attempt; each is a gradient for every class that is looked at, and one more
            forward pass.
        restarts: Attempts (for each class that is aimed at): the first from the clean image, the
            others from points half as far as the nearest one that has been found, or the largest
            epsilon.
        target: ``none`` looks in each step at the boundaries to all other classes, a gradient for
            each, and goes to the nearest. ``each`` aims at one class after the other, at the most
            likely ones by the clean logits, and takes one gradient a step (section 3 there, and
            Croce & Hein 2020, section 4).
        targets: How many classes ``each`` tries.
        alpha_max: Largest weight of the projection of the clean image.
        eta: By how much the steps are extrapolated.
        beta: How much of the way a misclassified image is left when it moves back.
        seed: Seed of the random starts.
    """

    name: str = "fab"
    norm: NormName = "linf"
    steps: Count = 100
    restarts: Count = 1
    target: Literal["none", "each"] = "none"
    targets: Count = 9
    alpha_max: Annotated[float, Field(ge=0.0, le=1.0)] = 0.1
    eta: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] = 1.05
    beta: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.9
    seed: Annotated[int, Field(ge=0)] = 0

    def seek(self, nearest: Nearest, index: IntArray, reach: float) -> None:
        """See ``MinimumNorm``."""
        classes = nearest.best.logits.shape[1]
        ranks = min(self.targets, classes - 1) if self.target == "each" else 1
        for rank in range(ranks):
            for restart in range(self.restarts):
                hunt = nearest.hunt()
                if not len(hunt.rows):
                    return
                start = hunt.clean
                if restart:
                    start = self._start(hunt, index[hunt.rows], (restart, rank), reach)
                self._attempt(hunt, start, self._aims(hunt, rank))

    def _aims(self, hunt: Hunt, rank: int) -> IntArray:
        """The classes to whose boundaries each image may go, (m, classes) on the host."""
        known = hunt.nearest.best.known
        logits, labels = known[0][hunt.rows], known[1][hunt.rows]
        if self.target == "each":
            return aims(logits, labels, "each", hunt.rows, rank)[:, None]
        every = logits.shape[1]
        return np.asarray((labels[:, None] + np.arange(1, every)[None]) % every)

    def _start(self, hunt: Hunt, index: IntArray, salt: tuple[int, ...], reach: float) -> Array:
        """Random points half as far as the nearest, or the largest epsilon, each image's own."""
        norm, place, xp = NORMS[self.norm], hunt.place, hunt.place.xp
        shape, (low, high) = tuple(hunt.clean.shape[1:]), hunt.model.bounds
        drawn = [norm.draw(random, shape) for random in generators(self.seed, index, *salt)]
        change = place.asarray(stacked(drawn, shape))
        size = xp.minimum(hunt.distance, 0.0 * norm.length(xp, change) + reach) / 2
        size = size / norm.length(xp, change)
        return xp.clip(hunt.clean + hunt.spread(size) * change, low, high)

    def _attempt(self, hunt: Hunt, moving: Array, towards: IntArray) -> None:
        """Step from one start until all images are as near as is wanted, or steps are used up."""
        place, model = hunt.place, hunt.model
        for _ in range(self.steps):
            if (left := hunt.left()) is not None:
                hunt, (moving,), towards = (
                    hunt.narrowed(left), place.taken(left, moving), towards[left],
                )  # fmt: skip
                if not len(left):
                    return
            lead, gradient = _boundary(hunt, moving, towards, NORMS[self.norm])
            moving = self._moved(hunt, moving, lead, gradient)
            wrong, _ = hunt.offer(moving, model.logits(place.array(moving)))
            back = hunt.clean + self.beta * (moving - hunt.clean)
            moving = place.chosen(wrong, back, moving)
        hunt.close(moving)

    def _moved(self, hunt: Hunt, moving: Array, lead: Array, gradient: Array) -> Array:
        """The images after a step (equations 6 and 7 there), (m, *shape) of the place."""
        place, xp, (low, high) = hunt.place, hunt.place.xp, hunt.model.bounds
        clean, at, normal = (xp.reshape(one, (one.shape[0], -1))
                             for one in (hunt.clean, moving, gradient))  # fmt: skip
        rises = -lead, xp.sum(normal * (at - clean), axis=1) - lead
        ahead, direct = (
            shortest_change(place, here, normal, rise, (low, high), self.norm)
            for here, rise in zip((at, clean), rises, strict=True)
        )
        norm = NORMS[self.norm]
        far, near = (
            xp.maximum(norm.length(xp, change), 0.0 * lead + SHORTEST) for change in (ahead, direct)
        )
        weight = xp.minimum(far / (far + near), 0.0 * far + self.alpha_max)[:, None]
        mixed = (at + self.eta * ahead) * (1 - weight) + (clean + self.eta * direct) * weight
        return xp.reshape(xp.clip(mixed, low, high), moving.shape)


def _boundary(hunt: Hunt, moving: Array, towards: IntArray, norm: Norm) -> tuple[Array, Array]:
    """The nearest boundary by the linear approximation: the lead there is, (m,), and its gradient.

    Beyond it an image counts as misclassified; one on it may not, by rounding, and would stay there
    for good.

    Args:
        hunt: The images.
        moving: Where they are, (m, *shape) of the place.
        towards: The classes whose boundaries are looked at, (m, classes).
        norm: What measures how near they are.
    """
    place, xp, model, images = hunt.place, hunt.place.xp, hunt.model, hunt.place.array(moving)
    known = hunt.nearest.best.known
    clean, labels = known[0][hunt.rows], known[1][hunt.rows]
    found: list[Array] = []
    for goals in towards.T:
        given = model.asarray(signs(clean, labels, goals))
        logits, gradient = differentiable(model).logits_and_gradient(images, given, AIM)
        logits, gradient = place.view(logits), place.view(gradient)
        slack = 2 * ROUNDING * xp.max(xp.abs(logits), axis=1)
        lead = AIM.value(xp, logits, place.view(given)) - slack
        far = distance(xp, lead, gradient, norm)
        if found:
            closer, (before, other, slope) = far < found[0], found
            far = xp.where(closer, far, before)
            lead = xp.where(closer, lead, other)
            gradient = place.chosen(closer, gradient, slope)
        found = [far, lead, gradient]
    return found[1], found[2]
