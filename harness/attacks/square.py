"""The Square Attack (Andriushchenko et al. 2020, algorithms 1 and 2): no gradient needed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.attacks.ball import Standing
from harness.attacks.draws import generators, stacked
from harness.attacks.iterated import LEAVE, OPTIONS, Count
from harness.protocol import Array, BoolArray, FloatArray, IntArray, Model, NormName

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After so many of 10,000 queries the squares' area is halved (section 4.1)."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class Square:
    """Random squares of ±ε, each kept if it lowers the true class's lead over the others.

    It asks for logits alone, so it judges models whose gradients cannot be had, or trusted. Images
    are (n, h, w), or (n, c, h, w) or (n, h, w, c) with fewer channels than rows; flat ones count as
    one row.

    Attributes:
        name: What the records call it.
        steps: Queries per image and epsilon.
        area: Share of the image that the first squares cover.
        seed: Seed of all draws.
    """

    name: str = "square"
    steps: Count = 1000
    area: Annotated[float, Field(gt=0.0, le=1.0)] = 0.8
    seed: Annotated[int, Field(ge=0)] = 0
    norm: ClassVar[NormName] = "linf"
    requires: ClassVar[frozenset[str]] = frozenset()

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        standing = Standing(model, x, y)
        for epsilon in epsilons:
            if epsilon > 0:
                self._attack(standing, model.numpy(x), float(epsilon), index)
            yield standing.adversarial()

    def _attack(self, standing: Standing, x: FloatArray, epsilon: float, index: IntArray) -> None:
        """Propose squares until the images have fallen, or the queries are used up."""
        rows, (low, high) = standing.rows(), standing.model.bounds
        if not len(rows):
            return
        clean = as_planes(x[rows])
        down, up = np.clip(clean - epsilon, low, high), np.clip(clean + epsilon, low, high)
        places, signs, stripes = self._draws(index[rows], clean.shape[1:])
        moving = np.where(stripes, up, down)
        lead = _lead(standing, rows, moving, x.shape[1:])
        for step in range(1, self.steps):
            stay = standing.stands[rows]
            if stay.mean() <= 1 - LEAVE:
                if not stay.any():
                    return
                rows, lead, moving = rows[stay], lead[stay], moving[stay]
                down, up, places, signs = down[stay], up[stay], places[stay], signs[stay]
            inside = _windows(places[:, step], moving.shape, _area(self.area, step, self.steps))
            proposed = np.where(inside, np.where(signs[:, step], up, down), moving)
            reached = _lead(standing, rows, proposed, x.shape[1:])
            better = reached < lead
            moving = np.where(better[:, None, None, None], proposed, moving)
            lead = np.where(better, reached, lead)
        last = standing.stands[rows]
        _lead(standing, rows[last], moving[last], x.shape[1:], keep="last")

    def _draws(
        self, index: IntArray, planes: tuple[int, ...]
    ) -> tuple[FloatArray, BoolArray, BoolArray]:
        """Per image and step where the square lies, (m, steps, 2) in [0, 1), and its signs.

        Returns:
            The places; whether each channel goes up, (m, steps, c, 1, 1); and whether each column
            of the first stripes does, (m, c, 1, w).
        """
        channels, _, width = planes
        places, signs, stripes = [], [], []
        for random in generators(self.seed, index):
            places.append(random.random((self.steps, 2), dtype=np.float32))
            signs.append(random.random((self.steps, channels, 1, 1), dtype=np.float32) < 0.5)
            stripes.append(random.random((channels, 1, width), dtype=np.float32) < 0.5)
        return (
            stacked(places, (self.steps, 2)),
            stacked(signs, (self.steps, channels, 1, 1)),
            stacked(stripes, (channels, 1, width)),
        )


def as_planes(images: FloatArray) -> FloatArray:
    """Images of any layout as (n, c, h, w), a view."""
    if images.ndim == 4:
        return np.moveaxis(images, -1, 1) if _channels_last(images.shape[1:]) else images
    return images[:, None] if images.ndim == 3 else images.reshape(len(images), 1, 1, -1)


def _from_planes(planes: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    if len(shape) == 3 and _channels_last(shape):
        planes = np.moveaxis(planes, 1, -1)
    return np.ascontiguousarray(planes).reshape(-1, *shape)


def _channels_last(shape: tuple[int, ...]) -> bool:
    return shape[-1] < shape[0]


def _area(first: float, step: int, steps: int) -> float:
    """Share of the image that a square covers at a step."""
    queries = step / steps * 10_000
    return float(first / 2 ** sum(queries > border for border in HALVINGS))


def _windows(places: FloatArray, shape: tuple[int, ...], area: float) -> BoolArray:
    """Which pixels lie in each image's square, (m, 1, h, w)."""
    _, _, height, width = shape
    side = max(1, round(math.sqrt(area * height * width)))
    # Where a square does not fit, as in flat images, it is a rectangle of that area.
    tall = min(height, side if side <= width else round(area * height))
    wide = min(width, side if side <= height else round(area * width))
    top = np.floor(places[:, :1] * (height - tall + 1))
    left = np.floor(places[:, 1:] * (width - wide + 1))
    rows, columns = np.arange(height), np.arange(width)
    across = (rows >= top) & (rows < top + tall)
    along = (columns >= left) & (columns < left + wide)
    return np.asarray(across[:, None, :, None] & along[:, None, None, :])


def _lead(
    standing: Standing,
    rows: IntArray,
    planes: FloatArray,
    shape: tuple[int, ...],
    *,
    keep: Literal["fallen", "last"] = "fallen",
) -> FloatArray:
    """How far the true class's logit is ahead of the next, (m,); who falls is noted."""
    if not len(rows):
        return np.zeros(0)
    images = standing.model.asarray(_from_planes(planes, shape))
    logits = standing.model.logits(images)
    standing.offer(rows, images, logits, keep)
    others = np.array(standing.model.numpy(logits))
    at = np.arange(len(rows)), standing.labels[rows]
    own = others[at]
    others[at] = -np.inf
    return np.asarray(own - others.max(axis=1))
