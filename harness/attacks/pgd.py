"""Projected gradient descent (Madry et al. 2018, section 2.1): FGSM in small steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from harness.objectives import LogOdds
from harness.protocol import GRADIENT, Array, FloatArray, Model, Objective


def same_start(shape: tuple[int, ...]) -> FloatArray:
    """One random image in [-1, 1] for all of a batch (n, *shape), so that batches do not matter."""
    return np.random.default_rng(0).uniform(-1, 1, (1, *shape[1:])).astype(np.float32)


class PGD:
    """Steps along the sign of the loss gradient, each projected into the L∞ ball and the box.

    Args:
        steps: Number of steps, each with one gradient.
        reach: The steps' summed length, in epsilons.
        start: Where in the ball the steps begin, from -1 to 1, given the shape of the batch.
        objective: What is increased. ``LogOdds`` has the sign of the cross-entropy's gradient.
    """

    name = "pgd"
    requires = frozenset({GRADIENT})

    def __init__(
        self,
        steps: int = 40,
        reach: float = 2.5,
        start: Callable[[tuple[int, ...]], FloatArray] = same_start,
        objective: Objective | None = None,
    ) -> None:
        self.steps = steps
        self.reach = reach
        self.start = start
        self.objective = objective or LogOdds()

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float]
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        xp, (low, high) = model.xp, model.bounds
        start = model.asarray(self.start(tuple(x.shape)))
        for epsilon in epsilons:
            # The ball and the box together are one box per pixel.
            lowest, highest = xp.clip(x - epsilon, low, high), xp.clip(x + epsilon, low, high)
            step = epsilon * self.reach / self.steps
            moved = xp.clip(x + epsilon * start, low, high)
            for _ in range(self.steps):
                _, gradient = model.logits_and_gradient(moved, y, self.objective)
                ahead = moved + step * xp.sign(gradient)
                moved = xp.minimum(xp.maximum(ahead, lowest), highest)
            yield moved
