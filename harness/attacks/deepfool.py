"""DeepFool (Moosavi-Dezfooli, Fawzi & Frossard 2016, algorithm 2): a small L2 perturbation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.attacks.ball import Ball, BestSoFar
from harness.attacks.iterated import OPTIONS, Count
from harness.attacks.own import Own
from harness.maths.norms import L2, per_image
from harness.maths.objectives import ClassLogit
from harness.protocol import GRADIENT, Array, IntArray, Model, NormName

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
        moving, rows = x, best.rows()
        for _ in range(self.steps):
            if not len(rows):
                break
            here = model.asarray(rows)
            clean, labels = xp.take(x, here, axis=0), best.labels[rows]
            at = xp.take(moving, here, axis=0) if len(rows) < len(x) else moving
            # Where the attack may go: the gradients beyond the box lead elsewhere.
            inside = xp.clip(clean + (1 + self.overshoot) * (at - clean), low, high)
            walked = at + _to_boundary(model, inside, labels)
            stretched = xp.clip(clean + (1 + self.overshoot) * (walked - clean), low, high)
            best.offer(rows, stretched, model.logits(stretched), keep="last")
            moving = _scattered(model, moving, rows, walked)
            rows = best.rows()
        return best.adversarial()


def _to_boundary(model: Model, x: Array, labels: IntArray) -> Array:
    """The shortest step to the nearest boundary of the linear approximation (eq. 8 and 9)."""
    xp = model.xp
    logits = model.numpy(model.logits(x))
    count, classes = logits.shape
    own = logits[np.arange(count), labels]
    _, own_gradient = model.logits_and_gradient(x, model.asarray(labels), ClassLogit())
    best, shortest = 0.0 * x, np.full(count, np.inf)
    for other in range(classes):
        chosen = np.full(count, other, dtype=np.int64)
        _, gradient = model.logits_and_gradient(x, model.asarray(chosen), ClassLogit())
        normal = gradient - own_gradient
        length = np.asarray(model.numpy(L2().length(xp, normal)), dtype=np.float64)
        gap = np.abs(logits[:, other] - own).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            none = (labels == other) | (length == 0) | (gap > FAR * length)
            distance = np.where(none, np.inf, gap / length)
        nearer = distance < shortest
        size = np.where(nearer, distance + 1e-4, 0.0)
        step = L2().steepest(xp, normal) * per_image(xp, model.asarray(size), x)
        chosen_mask = per_image(xp, model.asarray(nearer.astype(np.float32)), x)
        best = xp.where(chosen_mask > 0, step, best)
        shortest = np.where(nearer, distance, shortest)
    return best


def _scattered(model: Model, images: Array, rows: IntArray, values: Array) -> Array:
    """The images with those in ``rows`` replaced."""
    whole = np.array(model.numpy(images))
    whole[rows] = model.numpy(values)
    return model.asarray(whole)
