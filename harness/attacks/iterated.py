"""What all iterated gradient attacks share: starts, restarts, targets, and who is still attacked.

An attack's author writes ``begin`` and ``advance``, one step for a whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, ClassVar, Literal, TypeAlias

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from harness.attacks.ball import Ball, Standing
from harness.attacks.draws import generators, stacked
from harness.norms import NORMS
from harness.objectives import LogitRatio, LogOdds, Margin, Towards
from harness.protocol import GRADIENT, Array, FloatArray, IntArray, Model, NormName, Objective

State: TypeAlias = dict[str, Array]
"""Arrays with a row per image under attack; ``moving`` are the images themselves."""
Count: TypeAlias = Annotated[int, Field(ge=1)]
Positive: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Loss: TypeAlias = Literal["cross-entropy", "margin", "dlr"]
# A spec's lists become tuples.
Losses: TypeAlias = Annotated[tuple[Loss, ...], Field(min_length=1, strict=False)]
Target: TypeAlias = Literal["none", "next", "runner-up", "least-likely", "each"]
OBJECTIVES: dict[Loss, Objective] = {
    "cross-entropy": LogOdds(),
    "margin": Margin(),
    "dlr": LogitRatio(),
}
LEAVE = 0.1
"""Once this share of the images under attack has fallen, they leave the batch."""
OPTIONS = ConfigDict(extra="forbid", strict=True)


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class Iterated:
    """An attack that climbs in steps of one gradient each.

    Attributes:
        name: What the records call it.
        norm: The norm that bounds the perturbation.
        steps: Gradient steps of each attempt.
        restarts: Attempts from starting points of their own.
        start: ``random``, evenly from the ball, or ``clean``.
        losses: What is increased: one attempt with each. ``cross-entropy`` is climbed along the
            log-odds, which have the same direction and do not vanish. With too few classes for
            ``dlr`` (three, or four if it aims at one) ``margin`` takes its place.
        target: ``none`` for any false class. With ``next`` (label + 1), ``runner-up`` or
            ``least-likely`` (by the clean logits) an image falls when it is taken for that class;
            with ``each`` the most likely false classes are tried in turn, and any serves.
        targets: How many classes ``each`` tries.
        seed: Seed of the random starts.
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
    requires: ClassVar[frozenset[str]] = frozenset({GRADIENT})

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

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        standing = Standing(model, x, y)
        for epsilon in epsilons:
            if epsilon > 0:
                self._attack(standing, x, float(epsilon), index)
            yield standing.adversarial()

    def within(
        self, model: Model, x: Array, y: Array, radii: Array, *, index: IntArray
    ) -> Standing:
        """Attack each image in a ball of its own; radii have a shape that broadcasts over x."""
        standing = Standing(model, x, y)
        self._attack(standing, x, radii, index)
        return standing

    def _attack(
        self, standing: Standing, x: Array, epsilon: Array | float, index: IntArray
    ) -> None:
        for attempt, (loss, rank) in enumerate(self._attempts(standing)):
            self._attempt(standing, x, epsilon, index, attempt, loss, rank)

    def _attempts(self, standing: Standing) -> list[tuple[Loss, int]]:
        """The loss of each attempt, and which of the other classes it aims at, if at any."""
        classes = standing.logits.shape[1]
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

    def _attempt(
        self,
        standing: Standing,
        x: Array,
        epsilon: Array | float,
        index: IntArray,
        attempt: int,
        loss: Loss,
        rank: int,
    ) -> None:
        """Attack what still stands, from one start, with one loss, towards one class."""
        model, rows = standing.model, standing.rows()
        if not len(rows):
            return
        xp = model.xp
        goals = aims(standing, rows, self.target, rank)
        objective = OBJECTIVES[loss] if goals is None else Towards(loss)
        wanted = standing.labels[rows] if goals is None else _signed(standing, rows, goals)
        ball = Ball(model, x, epsilon, self.norm).take(model.asarray(rows))
        labels = model.asarray(wanted)
        mask = _mask(model, labels, standing.logits.shape[1])
        state = self.begin(ball, {"moving": self._start(ball, index[rows], attempt)})
        strict = None if self.target == "each" else goals
        for number in range(self.steps):
            logits, gradient = model.logits_and_gradient(state["moving"], labels, objective)
            standing.offer(rows, state["moving"], logits, strict)
            stay = standing.stands[rows]
            if stay.mean() <= 1 - LEAVE:
                if not stay.any():
                    return
                kept = model.asarray(np.flatnonzero(stay))
                rows, ball = rows[stay], ball.take(kept)
                strict = None if strict is None else strict[stay]
                labels, mask, logits, gradient = (
                    xp.take(a, kept, axis=0) for a in (labels, mask, logits, gradient)
                )
                state = {key: xp.take(value, kept, axis=0) for key, value in state.items()}
            climbed = partial(objective.value, xp, logits, mask)
            state = self.advance(ball, state, climbed, gradient, number)
        # Those that fell but have not left yet keep the image they fell by.
        stay = standing.stands[rows]
        kept = model.asarray(np.flatnonzero(stay))
        last = xp.take(state["moving"], kept, axis=0)
        if stay.any():
            aimed = None if strict is None else strict[stay]
            standing.offer(rows[stay], last, model.logits(last), aimed, keep=True)

    def _start(self, ball: Ball, index: IntArray, attempt: int) -> Array:
        if self.start == "clean":
            return ball.x
        norm, shape = NORMS[self.norm], tuple(ball.x.shape[1:])
        drawn = [norm.draw(random, shape) for random in generators(self.seed, index, attempt)]
        xp, (low, high) = ball.model.xp, ball.model.bounds
        change = ball.model.asarray(stacked(drawn, shape))
        return xp.clip(ball.x + ball.epsilon * change, low, high)


def aims(standing: Standing, rows: IntArray, target: Target, rank: int) -> IntArray | None:
    """The class that each image is to be taken for, (m,), or None where any false one serves."""
    labels, logits = standing.labels[rows], np.array(standing.logits[rows])
    if target == "none":
        return None
    if target == "next":
        return np.asarray((labels + 1) % logits.shape[1])
    logits[np.arange(len(rows)), labels] = -np.inf
    order = np.argsort(-logits, axis=1, kind="stable")
    return np.asarray(order[:, -2 if target == "least-likely" else rank])


def _signed(standing: Standing, rows: IntArray, goals: IntArray) -> FloatArray:
    """What ``Towards`` takes for its mask: 1 for the goal, -1 for the true class, (m, k)."""
    signs = np.zeros(standing.logits[rows].shape, dtype=np.float32)
    signs[np.arange(len(rows)), goals] = 1.0
    signs[np.arange(len(rows)), standing.labels[rows]] = -1.0
    return signs


def _mask(model: Model, labels: Array, classes: int) -> Array:
    """What an objective takes for its mask, (n, k), from labels (n,) or what stands for them."""
    if len(labels.shape) == 2:
        return labels
    true = np.arange(classes) == model.numpy(labels)[:, None]
    return model.asarray(true.astype(np.float32)) > 0
