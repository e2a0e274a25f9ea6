"""Auto-PGD (Croce & Hein 2020, algorithm 1): momentum, and steps that shrink when they stall."""

from __future__ import annotations

import math
from collections.abc import Callable

from pydantic.dataclasses import dataclass

from harness.attacks.ball import Ball
from harness.attacks.iterated import OPTIONS, Count, Iterated, Losses, State
from harness.maths.norms import per_image
from harness.maths.pieces import merged
from harness.protocol import Array, ArrayNamespace

MOMENTUM = 0.75
"""Share of the new step; the rest goes on with the last one (alpha)."""
ENOUGH = 0.75
"""Share of the steps since the last check that must raise the loss (rho)."""
RISE = 1e-6
"""A loss has risen if by more than this share of it. Less is rounding, which depends on the batch:
an image that is stuck in a corner would rise by it."""
LOWEST = -1e30
"""Less than any loss."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class APGD(Iterated):
    """Auto-PGD, which needs no step size; by default one attempt with each of two losses.

    Each step goes on from where the last one led; at a few checks, ever closer together, an image
    whose loss has stalled goes back to its best point and halves its step.
    """

    name: str = "apgd"
    steps: Count = 100
    losses: Losses = ("cross-entropy", "dlr")

    def begin(self, ball: Ball, state: State) -> State:
        """See ``Iterated``."""
        xp = ball.model.xp
        moving = state["moving"]
        zero = xp.sum(xp.reshape(0.0 * moving, (moving.shape[0], -1)), axis=1)
        step = zero + (2 * ball.epsilon if isinstance(ball.epsilon, float) else 0.0)
        if not isinstance(ball.epsilon, float):
            step = 2 * xp.reshape(ball.epsilon, (moving.shape[0],))
        return {
            "moving": moving, "previous": moving, "best": moving, "best_gradient": 0.0 * moving,
            "best_loss": zero + LOWEST, "last_loss": zero + LOWEST, "rises": zero,
            "step": step, "checked_loss": zero + LOWEST, "halved": zero,
        }  # fmt: skip

    def advance(
        self, ball: Ball, state: State, loss: Callable[[], Array], gradient: Array, number: int
    ) -> State:
        """See ``Iterated``."""
        xp = ball.model.xp
        new, reached = dict(state), loss()
        better = reached > _risen(xp, state["best_loss"])
        new["best"] = merged(ball.model, better, state["moving"], state["best"])
        new["best_gradient"] = merged(ball.model, better, gradient, state["best_gradient"])
        new["best_loss"] = xp.where(better, reached, state["best_loss"])
        if number > 0:
            rose = reached > _risen(xp, state["last_loss"])
            new["rises"] = xp.where(rose, state["rises"] + 1.0, state["rises"])
        new["last_loss"] = reached
        interval = _checks(self.steps).get(number)
        if number == 0:
            new["checked_loss"] = new["best_loss"]
        elif interval:
            new, gradient = _checked(ball, new, gradient, interval)
        return _moved(ball, new, gradient, first=number == 0)

    def end(self, ball: Ball, state: State, loss: Callable[[], Array]) -> Array:
        """See ``Iterated``; the point of the highest loss, as line 18 of the algorithm says."""
        better = ~(loss() <= _risen(ball.model.xp, state["best_loss"]))  # NaN must not be hidden
        return merged(ball.model, better, state["moving"], state["best"])


def _risen(xp: ArrayNamespace, loss: Array) -> Array:
    return loss + RISE * xp.abs(loss)


def _checks(steps: int) -> dict[int, int]:
    """At which steps progress is checked, and how many steps lie before each check."""
    percent, gap, at = 22, 22, 0
    found: dict[int, int] = {}
    while (place := math.ceil(percent * steps / 100)) < steps:
        if place > at:
            found[place], at = place - at, place
        gap = max(gap - 3, 6)
        percent += gap
    return found


def _checked(ball: Ball, state: State, gradient: Array, interval: int) -> tuple[State, Array]:
    """Halve the step of images that have stalled, and send these back to their best point."""
    xp = ball.model.xp
    rarely = state["rises"] < ENOUGH * interval
    idle = (state["halved"] == 0) & (state["best_loss"] <= state["checked_loss"])
    stalled = rarely | idle
    zero = 0.0 * state["rises"]
    back = state | {
        "moving": merged(ball.model, stalled, state["best"], state["moving"]),
        "step": xp.where(stalled, state["step"] / 2, state["step"]),
        "halved": xp.where(stalled, zero + 1.0, zero),
        "checked_loss": state["best_loss"],
        "rises": zero,
    }
    return back, merged(ball.model, stalled, state["best_gradient"], gradient)


def _moved(ball: Ball, state: State, gradient: Array, *, first: bool) -> State:
    moving = state["moving"]
    size = per_image(ball.model.xp, state["step"], moving)
    if first:
        ahead = ball.step(moving, gradient, size)
    else:
        ahead = ball.step_on(moving, gradient, size, state["previous"], MOMENTUM)
    return state | {"moving": ahead, "previous": moving}
