"""Random noise: what a model should withstand before any attack is worth a word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.attacks.ball import BestSoFar
from harness.attacks.iterated import OPTIONS
from harness.attacks.own import Own
from harness.maths.draws import generators, stacked
from harness.maths.norms import NORMS
from harness.protocol import Array, FloatArray, IntArray, Model, NormName


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class Noise(Own):
    """Random perturbations, in turn of full length (in L∞: random signs) and even in the ball.

    An image counts as misclassified if it is with any of the draws. The draws are the same at every
    epsilon, only longer.

    Attributes:
        name: What the records call it.
        norm: The norm that bounds the perturbation.
        draws: Perturbations tried per image and epsilon.
        seed: Seed of the draws.
    """

    name: str = "noise"
    norm: NormName = "linf"
    draws: Annotated[int, Field(ge=1)] = 2
    seed: Annotated[int, Field(ge=0)] = 0
    requires: ClassVar[frozenset[str]] = frozenset()

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One noisy batch per epsilon; see ``protocol.Attack``."""
        low, high = model.bounds
        changes = [self._changes(model, x, index, draw) for draw in range(self.draws)]
        for epsilon in epsilons:
            # Noise found at a smaller epsilon is not carried over: this is no search.
            best = BestSoFar(model, x, y)
            for change in changes if epsilon > 0 else []:
                rows = best.rows()
                if not len(rows):
                    break
                noisy = model.xp.clip(x + epsilon * change, low, high)
                chosen = model.xp.take(noisy, model.asarray(rows), axis=0)
                best.part(rows).finish(chosen, model.logits(chosen), "last")
            yield best.adversarial()

    def _changes(self, model: Model, x: Array, index: IntArray, draw: int) -> Array:
        """A perturbation of each image, of length one or less."""
        norm, shape = NORMS[self.norm], tuple(x.shape[1:])
        drawn = []
        for random in generators(self.seed, index, draw):
            change = norm.draw(random, shape)
            drawn.append(_stretched(change, self.norm) if draw % 2 == 0 else change)
        return model.asarray(stacked(drawn, shape))


def _stretched(change: FloatArray, norm: NormName) -> FloatArray:
    """The same direction, out to the surface of the ball; in L∞ to one of its corners."""
    if norm == "linf":
        return np.asarray(np.where(change < 0, np.float32(-1), np.float32(1)))
    return np.asarray(change / np.linalg.norm(change), dtype=np.float32)
