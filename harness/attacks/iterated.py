"""What all iterated gradient attacks share: starts, restarts, targets, and when images leave.

An attack's author writes ``begin`` and ``advance``, one step for a whole batch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass
from typing_extensions import Self

from harness.attacks.ball import Ball, BestSoFar, Part
from harness.attacks.own import Own
from harness.attacks.targets import Target, aims, signs
from harness.maths.adaptive import averaged
from harness.maths.draws import generators, stacked
from harness.maths.norms import NORMS
from harness.maths.objectives import ODDS, LogitRatio, Margin, Towards
from harness.protocol import (
    GRADIENT,
    Array,
    FloatArray,
    IntArray,
    Model,
    NormName,
    Objective,
    differentiable,
)

State: TypeAlias = dict[str, Array]
"""Arrays with a row per image under attack; ``moving`` are the images themselves."""
Count: TypeAlias = Annotated[int, Field(ge=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Loss: TypeAlias = Literal["cross-entropy", "tempered-cross-entropy", "margin", "dlr"]
# A spec's lists become tuples.
Losses: TypeAlias = Annotated[tuple[Loss, ...], Field(min_length=1, strict=False)]
OBJECTIVES: dict[Loss, Objective] = {
    "cross-entropy": ODDS["cross-entropy"],
    "tempered-cross-entropy": ODDS["tempered-cross-entropy"],
    "margin": Margin(),
    "dlr": LogitRatio(),
}
EOT_OFF = ("eot", 1)
LEAVE = 0.1
"""Once the attack has succeeded on this share of the images in the batch, they leave it."""
OPTIONS = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class Iterated(Own):
    """An attack that climbs in steps of one gradient each.

    Attributes:
        name: What the records call it.
        norm: The norm that bounds the perturbation.
        steps: Gradient steps of each attempt.
        restarts: Attempts from starting points of their own.
        start: ``random``, evenly from the ball, or ``clean``.
        losses: What is increased: one attempt with each. ``cross-entropy`` is climbed along the
            log-odds, which have the same direction and do not vanish. That direction depends on the
            scale of the logits, as it does in the papers; that of the other losses does not:
            ``tempered-cross-entropy`` scales the logits of an image of which the softmax is nearly
            uniform, and ``margin`` knows no scale. With too few classes for ``dlr`` (three, or four
            if it aims at one) ``margin`` takes its place.
        target: ``none`` for any false class. With ``next`` (label + 1), ``runner-up`` or
            ``least-likely`` (by the clean logits) the attack on an image succeeds
            when it is classified as that class; until then the best attempt is kept: a
            misclassified one, or else that of the
            largest margin. With ``each`` the most likely false classes are tried in turn, and any
            serves. A whole number is one class for all images, and a list or an array of them one
            for each image of the dataset, in its order; an image that is of that class already
            cannot be led to it: it stays as it is, and does not count in the success.
        targets: How many classes ``each`` tries.
        seed: Seed of the random starts.
        eot: Draws of a random model that each gradient and all logits are averaged over; then as
            many vote on whether the attack has succeeded, or as many as the model says. Options
            tell of it where there are several.
    """

    name: str
    norm: NormName = "linf"
    steps: Count = 40
    restarts: Count = 1
    start: Literal["random", "clean"] = "random"
    losses: Losses = ("cross-entropy",)
    target: Target = "none"
    targets: Count = 9
    seed: Annotated[int, Field(ge=0)] = 0
    eot: Count = 1
    requires: ClassVar[frozenset[str]] = frozenset({GRADIENT})

    @model_validator(mode="after")
    def _restarts_differ(self) -> Self:
        if self.start == "clean" and self.restarts > 1:
            raise ValueError(
                f"restarts: {self.restarts} attempts from the clean image would be the same one; "
                'set restarts = 1, or start = "random"'
            )
        return self

    def options(self) -> dict[str, Any]:
        """See ``protocol.Attack``; without ``eot`` where it does nothing, as it was always."""
        return {key: value for key, value in super().options().items() if (key, value) != EOT_OFF}

    @property
    def aims_at_one(self) -> bool:
        """Whether each image has one class that it is to be classified as."""
        return self.target not in ("none", "each")

    def goals(self, logits: FloatArray, labels: IntArray) -> IntArray | None:
        """See ``protocol.Attack``; of the first images of the dataset. None if any class serves.

        Raises:
            MeasurementError: The model lacks a class that is aimed at, or an image has none.
        """
        if not self.aims_at_one:
            return None
        return aims(logits, labels, self.target, np.arange(len(labels)))

    def begin(self, ball: Ball, state: State) -> State:
        """The state before the first step, with what the attack needs beside ``moving``."""
        return state

    def advance(
        self, ball: Ball, state: State, loss: Callable[[], Array], gradient: Array, number: int
    ) -> State:
        """The state after a step.

        Args:
            ball: What is allowed.
            state: The state before it.
            loss: Tells what is increased, at ``state["moving"]``, (n,).
            gradient: Its gradient there, (n, *shape).
            number: Which step this is, from 0.
        """
        raise NotImplementedError

    def end(self, ball: Ball, state: State, loss: Callable[[], Array]) -> Array:
        """The images that an attempt ends with, (n, *shape); arguments as in ``advance``."""
        return state["moving"]

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        best = self._best_so_far(model, x, y, index)
        for epsilon in epsilons:
            if epsilon > 0:
                self._attack(best, x, float(epsilon), index)
            yield best.adversarial()

    def within(
        self, model: Model, x: Array, y: Array, radii: Array, *, index: IntArray
    ) -> BestSoFar:
        """Attack each image in a ball of its own; radii have a shape that broadcasts over x."""
        best = self._best_so_far(model, x, y, index)
        self._attack(best, x, radii, index)
        return best

    def _best_so_far(self, model: Model, x: Array, y: Array, index: IntArray) -> BestSoFar:
        best = BestSoFar(averaged(model, self.eot), x, y)
        if self.aims_at_one:
            best.aim(aims(*best.known, self.target, index))
        return best

    def _attack(self, best: BestSoFar, x: Array, epsilon: Array | float, index: IntArray) -> None:
        best.renew()
        for number, (loss, rank) in enumerate(self._attempts(best)):
            rows = best.rows()
            if not len(rows):
                return
            ball = Ball(best.model, x, epsilon, self.norm).take(best.model.asarray(rows))
            start = self._start(ball, index[rows], number)
            self._attempt(self._climb(best.part(rows), ball, start, loss, rank))

    def _attempts(self, best: BestSoFar) -> list[tuple[Loss, int]]:
        """The loss of each attempt, and which of the other classes it aims at, if at any."""
        classes = best.logits.shape[1]
        ranks = min(self.targets, classes - 1) if self.target == "each" else 1
        # The ratio is made of the first three logits, or four; of fewer, the margin serves.
        few = classes < (3 if self.target == "none" else 4)
        losses = ["margin" if few and loss == "dlr" else loss for loss in self.losses]
        return [
            (loss, rank)
            for _ in range(self.restarts)
            for loss in dict.fromkeys(losses)
            for rank in range(ranks)
        ]

    def _climb(self, part: Part, ball: Ball, start: Array, loss: Loss, rank: int) -> Climb:
        """The images still open, at one start, with one loss, and towards one class."""
        model, best, objective = ball.model, part.best, OBJECTIVES[loss]
        if self.target == "none":
            at = model.asarray(part.rows)
            labels, mask = (model.xp.take(array, at, axis=0) for array in (best.labels, best.true))
        else:
            logits, true = best.known[0][part.rows], best.known[1][part.rows]
            objective, goals = Towards(loss), best.goals
            if goals is None:
                towards = aims(logits, true, self.target, part.rows, rank)
            else:
                towards = goals[part.rows]
            labels = model.asarray(signs(logits, true, towards))
            mask = labels
        return Climb(part, objective, ball, labels, mask, self.begin(ball, {"moving": start}))

    def _attempt(self, climb: Climb) -> None:
        """Climb from one start until it has succeeded on all, or the steps are used up."""
        for number in range(self.steps):
            logits, gradient = climb.slope()
            climb.part.offer(climb.state["moving"], logits)
            open_ = climb.part.open
            if open_.mean() <= 1 - LEAVE:
                if not open_.any():
                    climb.part.close()
                    return
                logits, gradient = climb.narrow(logits, gradient)
            loss = climb.loss(logits)
            climb.state = self.advance(climb.ball, climb.state, loss, gradient, number)
        logits = climb.model.logits(climb.state["moving"])
        climb.part.offer(climb.state["moving"], logits)
        if not climb.part.open.any():
            climb.part.close()
            return
        # Those on which it has succeeded, but which have not left yet, keep what was found.
        (logits,) = climb.narrow(logits)
        last = self.end(climb.ball, climb.state, climb.loss(logits))
        if last is not climb.state["moving"]:
            logits = climb.model.logits(last)
        climb.part.finish(last, logits, "best")

    def _start(self, ball: Ball, index: IntArray, attempt: int) -> Array:
        if self.start == "clean":
            return ball.x
        norm, shape = NORMS[self.norm], tuple(ball.x.shape[1:])
        drawn = [norm.draw(random, shape) for random in generators(self.seed, index, attempt)]
        xp, (low, high) = ball.model.xp, ball.model.bounds
        change = ball.model.asarray(stacked(drawn, shape))
        return xp.clip(ball.x + ball.epsilon * change, low, high)


@dataclasses.dataclass
class Climb:
    """An attempt under way, on images that leave it once the attack on them has succeeded.

    Attributes:
        part: The best attack so far on each of the m images.
        objective: What is increased.
        ball: What is allowed.
        labels: What the model takes for labels, (m,), or (m, k) as ``Towards`` says.
        mask: What the objective takes for its mask, (m, k).
        state: Where they are; see ``State``.
    """

    part: Part
    objective: Objective
    ball: Ball
    labels: Array
    mask: Array
    state: State

    @property
    def model(self) -> Model:
        """The classifier under attack."""
        return self.ball.model

    def slope(self) -> tuple[Array, Array]:
        """Logits (m, k), and the gradient of the objective, (m, *shape)."""
        return differentiable(self.model).logits_and_gradient(
            self.state["moving"], self.labels, self.objective
        )

    def loss(self, logits: Array) -> Callable[[], Array]:
        """Tells the objective, (m,), at these logits."""
        return partial(self.objective.value, self.model.xp, logits, self.mask)

    def narrow(self, *arrays: Array) -> tuple[Array, ...]:
        """Go on with the images that are open; returns their rows of the arrays."""
        if self.part.open.all():
            return arrays
        kept = self.model.asarray(np.flatnonzero(self.part.open))

        def take(array: Array) -> Array:
            return self.model.xp.take(array, kept, axis=0)

        self.part, self.ball = self.part.narrowed(kept), self.ball.take(kept)
        self.labels, self.mask = take(self.labels), take(self.mask)
        self.state = {key: take(value) for key, value in self.state.items()}
        return tuple(take(array) for array in arrays)
