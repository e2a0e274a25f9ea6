"""The L2 attack of Carlini & Wagner 2017 (section VI.A): Adam, and a binary search for c."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from harness.attacks.iterated import OPTIONS, Count, Positive, State
from harness.attacks.minimum_norm import Hunt, MinimumNorm, Nearest
from harness.maths.objectives import Margin
from harness.protocol import (
    Array,
    ArrayNamespace,
    BoolArray,
    FloatArray,
    IntArray,
    NormName,
    differentiable,
)

MEAN, SQUARE, TINY = 0.9, 0.999, 1e-8
"""Adam's decay of the mean gradient and of the mean square, and what keeps its steps finite."""
INSIDE = 0.999999
"""Images are drawn in by this factor, so that no pixel is at an end of the box."""
FARTHEST = 40.0
"""Beyond, a hyperbolic tangent is one."""
GROWTH, LARGEST = 10.0, 1e10
"""By what c grows until one is large enough, and how large it may be."""
CHECKS, PROGRESS = 10, 0.9999
"""So often it is checked whether an image's loss has fallen to this share of what it was."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class CarliniWagner(MinimumNorm):
    """Lowers the squared length, plus c times the lead of the true class; tanh keeps to the box.

    For each image c is searched for: ten times as large until an adversarial image is found, then
    halfway between the largest that fails and the smallest that does not.

    Attributes:
        searches: Values of c that are tried.
        steps: Gradients for each of them, at most: an image that a tenth of them brings no further
            stops there, as in the authors' code.
        stepsize: Adam's learning rate, for the inverse hyperbolic tangents of the pixels.
        initial_c: The first c, for pixels in [0, 1].
    """

    name: str = "cw-l2"
    norm: ClassVar[NormName] = "l2"  # type: ignore[misc]  # there is no other
    searches: Count = 9
    steps: Count = 1000
    stepsize: Positive = 0.01
    initial_c: Positive = 1e-3

    def seek(self, nearest: Nearest, index: IntArray, reach: float) -> None:
        """See ``MinimumNorm``."""
        count = len(nearest.open)
        low, high = np.zeros(count), np.full(count, np.inf)
        tried = np.full(count, self.initial_c)
        for _ in range(self.searches):
            hunt = nearest.hunt()
            if not len(hunt.rows):
                return
            succeeded = self._descended(hunt, tried)
            high, low = np.where(succeeded, tried, high), np.where(succeeded, low, tried)
            grown = np.minimum(GROWTH * tried, LARGEST)
            tried = np.where(np.isinf(high), grown, (low + np.minimum(high, LARGEST)) / 2)

    def _descended(self, hunt: Hunt, tried: FloatArray) -> BoolArray:
        """Descend with one c for each image of the batch; on which an adversarial one is found."""
        place, model = hunt.place, hunt.model
        succeeded = np.zeros(len(tried), dtype=bool)
        state = self._begun(hunt, place.asarray(tried[hunt.rows]))
        checks = {round(part * self.steps / CHECKS) for part in range(1, CHECKS)}
        for number in range(self.steps):
            kept = hunt.left()
            if number in checks:
                kept = np.flatnonzero(hunt.open & place.booleans(state["falls"] > 0))
            if kept is not None:
                succeeded[hunt.rows] |= place.booleans(state["hit"] > 0)
                hunt.close(_in_box(place.xp, state["at"], model.bounds))
                hunt = hunt.narrowed(kept)
                if not len(kept):
                    return succeeded
                state = dict(zip(state, place.taken(kept, *state.values()), strict=True))
            images = _in_box(place.xp, state["at"], model.bounds)
            logits, gradient = differentiable(model).logits_and_gradient(
                place.array(images), hunt.labels, Margin()
            )
            wrong, lead = hunt.offer(images, logits)
            state["hit"] = place.xp.where(wrong, 0.0 * lead + 1.0, state["hit"])
            state = self._stepped(hunt, state, images, lead, place.view(gradient), number)
            if number + 1 in checks:
                fallen = state["loss"] <= PROGRESS * state["checked"]
                state["falls"] = place.xp.where(fallen, 0.0 * lead + 1.0, 0.0 * lead)
                state["checked"] = state["loss"]
        images = _in_box(place.xp, state["at"], model.bounds)
        wrong, _ = hunt.offer(images, model.logits(place.array(images)))
        succeeded[hunt.rows] |= place.booleans(wrong | (state["hit"] > 0))
        hunt.close(images)
        return succeeded

    def _begun(self, hunt: Hunt, tried: Array) -> State:
        """At the clean images; what each step needs, with a row per image, of the place."""
        (low, high), xp, zero = hunt.model.bounds, hunt.place.xp, 0.0 * tried
        inner = INSIDE * ((hunt.clean - low) * (2 / (high - low)) - 1)
        at = 0.5 * xp.log((1 + inner) / (1 - inner))
        return {
            "at": at, "mean": 0.0 * at, "square": 0.0 * at, "tried": tried, "hit": zero,
            "loss": zero, "checked": zero + np.inf, "falls": zero + 1.0,
        }  # fmt: skip

    def _stepped(
        self, hunt: Hunt, state: State, images: Array, lead: Array, gradient: Array, number: int
    ) -> State:
        """A step of Adam; the gradient is that of the lead of the other classes."""
        (low, high), xp = hunt.model.bounds, hunt.place.xp
        unit = high - low
        change = (images - hunt.clean) / unit
        behind, zero = lead < 0, 0.0 * lead
        pull = hunt.spread(xp.where(behind, state["tried"], zero))
        inner = (images - low) * (2 / unit) - 1
        # Of the loss by pixels of [0, 1], and then by their inverse hyperbolic tangents.
        slope = (2 * change - pull * unit * gradient) * (0.5 - 0.5 * inner * inner)
        mean = MEAN * state["mean"] + (1 - MEAN) * slope
        square = SQUARE * state["square"] + (1 - SQUARE) * slope * slope
        rate = self.stepsize / (1 - MEAN ** (number + 1))
        spread = xp.sqrt(square * (1 / (1 - SQUARE ** (number + 1)))) + TINY
        flat = xp.reshape(change, (change.shape[0], -1))
        loss = xp.sum(flat * flat, axis=1) + xp.where(behind, -lead, zero) * state["tried"]
        at = xp.clip(state["at"] - rate * mean / spread, -FARTHEST, FARTHEST)
        return state | {"at": at, "mean": mean, "square": square, "loss": loss}


def _in_box(xp: ArrayNamespace, at: Array, bounds: tuple[float, float]) -> Array:
    """Images whose pixels are hyperbolic tangents, moved and scaled to the box."""
    low, high = bounds
    return xp.clip(low + (high - low) * (1 - 1 / (xp.exp(2 * at) + 1)), low, high)
