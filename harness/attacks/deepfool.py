"""DeepFool (Moosavi-Dezfooli, Fawzi & Frossard 2016, algorithm 2): a small L2 perturbation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.attacks.ball import Ball, BestSoFar, Judge
from harness.attacks.iterated import OPTIONS, Count
from harness.attacks.own import Own
from harness.maths.norms import L2, per_image
from harness.maths.objectives import ClassLogit
from harness.protocol import GRADIENT, Array, IntArray, Model, NormName, differentiable

FAR = 1e9
"""A boundary that is further away is none, in pixel units: it lies outside of any box."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class DeepFool(Own):
    """Walks to the nearest decision boundary of the model's linear approximation, again and again.

    The search does not depend on epsilon: at each epsilon an image's perturbation is used as it is
    if it is short enough, and else shortened to that length.

    Attributes:
        name: What the records call it.
        steps: Steps at most.
        overshoot: Share by which the perturbation is lengthened, so that it crosses the boundary.
    """

    name: str = "deepfool"
    steps: Count = 50
    overshoot: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.02
    norm: ClassVar[NormName] = "l2"
    requires: ClassVar[frozenset[str]] = frozenset({GRADIENT})

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        found = self.search(model, x, y)
        for epsilon in epsilons:
            yield Ball(model, x, float(epsilon), self.norm).project(found)

    def search(self, model: Model, x: Array, y: Array) -> Array:
        """Adversarial images as near as are found, (n, *shape); a misclassified one as it is."""
        xp, (low, high) = model.xp, model.bounds
        best = BestSoFar(model, x, y)
        if not best.open.any():
            return best.images
        part = best.part(best.rows())
        state = _taken(model, {"clean": x, "walked": x, "labels": y}, part.rows)
        for _ in range(self.steps):
            clean = state["clean"]
            # Where the attack may go: the gradients beyond the box lead elsewhere.
            inside = xp.clip(clean + (1 + self.overshoot) * (state["walked"] - clean), low, high)
            walked = state["walked"] + _to_boundary(part.judge, inside, state["labels"])
            stretched = xp.clip(clean + (1 + self.overshoot) * (walked - clean), low, high)
            logits = model.logits(stretched)
            part.offer(stretched, logits)
            state |= {"walked": walked, "stretched": stretched, "logits": logits}
            if not part.open.any():
                part.close()
                return best.images
            if not part.open.all():
                kept = np.flatnonzero(part.open)
                part, state = part.narrowed(model.asarray(kept)), _taken(model, state, kept)
        part.finish(state["stretched"], state["logits"], "last")
        return best.images


def _taken(model: Model, arrays: dict[str, Array], rows: IntArray) -> dict[str, Array]:
    at = model.asarray(rows)
    return {name: model.xp.take(array, at, axis=0) for name, array in arrays.items()}


def _to_boundary(judge: Judge, x: Array, labels: Array) -> Array:
    """The shortest step to the nearest boundary of the linear approximation (eq. 8 and 9)."""
    place, model, (others, own) = judge.place, judge.place.model, judge.label
    xp, near, logits = model.xp, place.xp, place.view(model.logits(x))
    # Infinite at the true class itself, which has no boundary with itself.
    gaps = near.abs(logits - near.max(logits + own, axis=1, keepdims=True)) - others
    _, own_gradient = differentiable(model).logits_and_gradient(x, labels, ClassLogit())
    best = 0.0 * x
    shortest = place.asarray(np.full(x.shape[0], FAR))
    for other in range(logits.shape[1]):
        chosen = model.asarray(np.full(x.shape[0], other, dtype=np.int64))
        _, gradient = differentiable(model).logits_and_gradient(x, chosen, ClassLogit())
        normal = gradient - own_gradient
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            distance = gaps[:, other] / place.view(L2().length(xp, normal))
            nearer = distance < shortest  # not where it is infinite, or NaN: no boundary
            step = L2().steepest(xp, normal) * per_image(xp, place.array(distance + 1e-4), x)
            best = xp.where(per_image(xp, place.mask(nearer), x), step, best)
        shortest = near.where(nearer, distance, shortest)
    return best
