"""Projected gradient descent (Madry et al. 2018, section 2.1), with and without momentum."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.attacks.ball import Ball
from harness.attacks.iterated import OPTIONS, Count, Iterated, Losses, Positive, State
from harness.maths.norms import per_image
from harness.protocol import Array, Model, Objective, differentiable

BOTH: Losses = ("tempered-cross-entropy", "margin")
"""The loss of the papers, but for images of which the softmax is nearly uniform; and one that does
not depend on the scale of the logits at all."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class PGD(Iterated):
    """Steps along the steepest direction of the loss, each projected into the ball and the box.

    From a clean start and with steps whose lengths sum to ε this is I-FGSM (Kurakin et al. 2017,
    eq. 2); with one step of 1.25 ε from a random start it is R+FGSM as in Wong, Rice & Kolter 2020.
    With the one
    loss ``cross-entropy`` it is the paper's; the second attempt, with the margin, is for networks
    whose logits are of a scale at which the cross-entropy leads elsewhere.

    Attributes:
        rel_stepsize: Length of one step in units of ε; 2.5 / steps if None, as in Madry et al.
    """

    name: str = "pgd"
    losses: Losses = BOTH
    rel_stepsize: Positive | None = None
    BEFORE: ClassVar[Mapping[str, Any]] = {"losses": ["cross-entropy"]}

    def options(self) -> dict[str, Any]:
        """See ``protocol.Attack``; the step size that is used."""
        return super().options() | {"rel_stepsize": self._step_size()}

    def advance(
        self, ball: Ball, state: State, loss: object, gradient: Array, number: int
    ) -> State:
        """See ``Iterated``."""
        return {"moving": ball.step(state["moving"], gradient, ball.epsilon * self._step_size())}

    def _step_size(self) -> float:
        return 2.5 / self.steps if self.rel_stepsize is None else self.rel_stepsize


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class MIM(Iterated):
    """The momentum iterative method (Dong et al. 2018, algorithm 1), from a clean start.

    Attributes:
        decay: Share of the gathered direction that is kept from step to step.
        rel_stepsize: Length of one step in units of ε; 1 / steps if None, as in the paper.
    """

    name: str = "mim"
    steps: Count = 10
    losses: Losses = BOTH
    start: Literal["random", "clean"] = "clean"
    decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1.0
    rel_stepsize: Positive | None = None
    BEFORE: ClassVar[Mapping[str, Any]] = PGD.BEFORE

    def options(self) -> dict[str, Any]:
        """See ``protocol.Attack``; the step size that is used."""
        return super().options() | {"rel_stepsize": self._step_size()}

    def begin(self, ball: Ball, state: State) -> State:
        """See ``Iterated``."""
        return state | {"gathered": 0.0 * ball.x}

    def advance(
        self, ball: Ball, state: State, loss: object, gradient: Array, number: int
    ) -> State:
        """See ``Iterated``; each gradient counts with an L1 length of one."""
        xp = ball.model.xp
        length = xp.sum(xp.reshape(xp.abs(gradient), (gradient.shape[0], -1)), axis=1)
        length = per_image(xp, xp.where(length > 0, length, 0.0 * length + 1.0), gradient)
        gathered = self.decay * state["gathered"] + gradient / length
        size = ball.epsilon * self._step_size()
        return {"moving": ball.step(state["moving"], gathered, size), "gathered": gathered}

    def _step_size(self) -> float:
        return 1.0 / self.steps if self.rel_stepsize is None else self.rel_stepsize


def climb(
    ball: Ball, y: Array, objective: Objective, start: Array, size: float, steps: int
) -> Array:
    """The images after so many steps; none leaves early. What adversarial training is taught by.

    Args:
        ball: What is allowed.
        y: Labels, (n,) int64, or distributions over the classes, (n, k).
        objective: What is increased.
        start: Where the steps begin, (n, *shape) within the ball.
        size: Length of a step.
        steps: Their number.
    """
    model: Model = ball.model
    moving = start
    for _ in range(steps):
        _, gradient = differentiable(model).logits_and_gradient(moving, y, objective)
        moving = ball.step(moving, gradient, size)
    return moving
