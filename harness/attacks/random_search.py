"""What both Square Attacks share: random proposals, each kept if it brings the image further."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.attacks.ball import BestSoFar
from harness.attacks.iterated import LEAVE, OPTIONS, Count
from harness.attacks.own import Own
from harness.protocol import Array, Bounds, FloatArray, IntArray, Model

Drawn: TypeAlias = dict[str, npt.NDArray[Any]]
"""Arrays with a row per image under attack."""
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After so many of 10,000 queries the squares' area is halved (section 4.1)."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class RandomSearch(Own):
    """Asks for logits alone, so it judges models whose gradients cannot be had, or trusted.

    Images are (n, h, w), or (n, c, h, w) or (n, h, w, c) with fewer channels than rows; flat ones
    count as one row. (Andriushchenko et al. 2020, algorithm 1.)

    Proposals are made on the host, where the random numbers are drawn, from one copy of the clean
    images. What they are compared by stays on the device: from there come two booleans per image
    and step, whether it is still to be attacked, and whether the proposal brings it further.

    Attributes:
        name: What the records call it.
        steps: Queries per image and epsilon.
        area: Share of the image that the first squares cover.
        seed: Seed of all draws.
    """

    name: str
    steps: Count = 1000
    area: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    seed: Annotated[int, Field(ge=0)] = 0
    requires: ClassVar[frozenset[str]] = frozenset()

    def begin(
        self, clean: FloatArray, epsilon: float, bounds: Bounds, index: IntArray
    ) -> tuple[FloatArray, Drawn]:
        """The first proposals (m, c, h, w), and what the others need, with a row per image.

        Args:
            clean: The images, (m, c, h, w).
            epsilon: Radius of the ball, in pixel units.
            bounds: The box.
            index: Positions of the images in their dataset, (m,).
        """
        raise NotImplementedError

    def propose(
        self, moving: FloatArray, state: Drawn, epsilon: float, bounds: Bounds, step: int
    ) -> FloatArray:
        """The proposals of a step, from 1: images (m, c, h, w) within ball and box."""
        raise NotImplementedError

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        best, clean = BestSoFar(model, x, y), model.numpy(x)
        for epsilon in epsilons:
            if epsilon > 0:
                self._attack(best, clean, float(epsilon), index)
            yield best.adversarial()

    def _attack(self, best: BestSoFar, x: FloatArray, epsilon: float, index: IntArray) -> None:
        """Propose until all images are misclassified, or the queries are used up."""
        rows, model, shape = best.rows(), best.model, x.shape[1:]
        if not len(rows):
            return
        part, place = best.part(rows), best.place
        moving, state = self.begin(as_planes(x[rows]), epsilon, model.bounds, index[rows])
        images = model.asarray(_from_planes(moving, shape))
        margin = part.offer(images, model.logits(images))
        for step in range(1, self.steps):
            if part.open.mean() <= 1 - LEAVE:
                if not part.open.any():
                    part.close()
                    return
                stay, kept = part.open, model.asarray(np.flatnonzero(part.open))
                margin = place.xp.take(margin, place.view(kept), axis=0)
                part = part.narrowed(kept)
                moving, state = moving[stay], {key: all_[stay] for key, all_ in state.items()}
            proposed = self.propose(moving, state, epsilon, model.bounds, step)
            images = model.asarray(_from_planes(proposed, shape))
            reached = part.offer(images, model.logits(images))
            further = reached > margin
            margin = place.xp.where(further, reached, margin)
            moving = np.where(place.booleans(further)[:, None, None, None], proposed, moving)
        if not part.open.any():
            part.close()
            return
        stay = part.open
        images = model.asarray(_from_planes(moving[stay], shape))
        part = part.narrowed(model.asarray(np.flatnonzero(stay)))
        part.finish(images, model.logits(images), "last")


def as_planes(images: FloatArray) -> FloatArray:
    """Images of any layout as (n, c, h, w), a view."""
    if images.ndim == 4:
        return np.moveaxis(images, -1, 1) if _channels_last(images.shape[1:]) else images
    return images[:, None] if images.ndim == 3 else images.reshape(len(images), 1, 1, -1)


def area_at(first: float, step: int, steps: int) -> float:
    """Share of the image that a square covers at a step."""
    queries = step / steps * 10_000
    return float(first / 2 ** sum(queries > border for border in HALVINGS))


def window(side: int, area: float, height: int, width: int) -> tuple[int, int]:
    """Height and width of a square; where it does not fit, of a rectangle of that area.

    It does not fit into flat images, for example, which are one row.
    """
    tall = min(height, side if side <= width else max(1, round(area * height)))
    return tall, min(width, side if side <= height else max(1, round(area * width)))


def _from_planes(planes: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    if len(shape) == 3 and _channels_last(shape):
        planes = np.moveaxis(planes, 1, -1)
    return np.ascontiguousarray(planes).reshape(-1, *shape)


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[-1] < shape[0]
