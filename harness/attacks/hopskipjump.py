"""HopSkipJump (Chen, Jordan & Wainwright 2020, algorithms 1 and 2): predicted labels alone."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass as plain
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from harness.attacks.ball import Ball, BestSoFar
from harness.attacks.iterated import OPTIONS, Count
from harness.attacks.own import Own
from harness.maths.draws import generators
from harness.maths.norms import NORMS
from harness.maths.query import MEMORY, batch_size_for, batches
from harness.protocol import (
    Array,
    BoolArray,
    Bounds,
    FloatArray,
    IntArray,
    Model,
    NormName,
)

Moving: TypeAlias = Generator[FloatArray, BoolArray, FloatArray]
"""Yields images (r, *shape), is sent which of them are misclassified, and returns an image."""
Asking: TypeAlias = Generator[FloatArray, BoolArray, FloatArray | None]
"""The same, where there may be none to return."""
STARTS = 100
"""So many images are tried for a first misclassified one, at most."""
COMPARED, COARSE = 8, 0.04
"""Of so many misclassified ones the nearest is chosen, with its boundary known to such a share."""
PART = 64
"""Directions that are asked of an image at a time."""
FEW = 10
"""Of fewer directions no gradient is estimated."""
CLOSE, FINE = 1e-6, 1e-3
"""A boundary is looked for to a share of the distance: not more closely than to the first, of which
rounding of float32 would decide, and of small images at least to the second."""
PROBED = 1e-5
"""By so much, of the pixel range, directions change a pixel at least, likewise."""
KEPT = 0.5
"""So much of the estimates before counts in each: the boundary's direction changes little."""
HALVINGS = 20
"""A step is halved so often until it leads to a misclassified image."""


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class HopSkipJump(Own):
    """Walks along the decision boundary towards the image, asking for predicted labels alone.

    A random misclassified image is moved towards the clean one up to the boundary. There the
    direction in which the boundary lies is estimated from the labels of images around it; a step
    in that direction is followed by the next search for the boundary, now nearer. It judges models
    that tell nothing but a label, and those whose gradients and logits cannot be trusted.

    One search serves all epsilons: at each an image's perturbation is used as it is if it is short
    enough, and else shortened to that length. Of an image that is within the smallest no more is
    asked. Where no misclassified image is found, the last noise that was tried takes its place.

    Each image is asked about on its own, with random numbers of its own: batches do not matter. No
    more than the budget is asked of it, so that the last steps may fall to the ground.

    Attributes:
        name: What the records call it.
        norm: The norm that bounds the perturbation; the walk is another in each.
        queries: Labels that are asked for an image at most, that of the image itself among them.
        draws: Directions of the first estimate; of the t-th estimate √t times as many.
        seed: Seed of all draws.
    """

    name: str = "hopskipjump"
    norm: NormName = "linf"
    queries: Count = 1000
    draws: Annotated[int, Field(ge=FEW)] = 100
    seed: Annotated[int, Field(ge=0)] = 0
    requires: ClassVar[frozenset[str]] = frozenset()

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon; see ``protocol.Attack``."""
        sizes = [float(epsilon) for epsilon in epsilons if epsilon > 0]
        found = self.search(model, x, y, index, min(sizes)) if sizes else x
        for epsilon in epsilons:
            yield Ball(model, x, float(epsilon), self.norm).project(found)

    def search(
        self, model: Model, x: Array, y: Array, index: IntArray, enough: float = 0.0
    ) -> Array:
        """Adversarial images as near as are found, (n, *shape); a misclassified one as it is.

        Args:
            model: The classifier under attack.
            x: Clean images, (n, *shape) within ``model.bounds``.
            y: Their true labels, (n,) int64.
            index: Positions of the images in their dataset, (n,).
            enough: No nearer image is looked for than at this distance, in pixel units.
        """
        rows = BestSoFar(model, x, y).rows()
        if not len(rows):
            return x
        images, labels = np.array(model.numpy(x)), model.numpy(y)
        size = batch_size_for(model, images)
        together = max(1, MEMORY // (PART * max(1, images[:1].nbytes)))
        for part in batches(len(rows), together):
            some = rows[part]
            walks = {
                int(row): _Walk(images[row], model.bounds, self, random, enough).walk()
                for row, random in zip(some, generators(self.seed, index[some]), strict=True)
            }
            for row, found in _walked(model, walks, labels, size):
                images[row] = found
        return model.asarray(images)


def _walked(
    model: Model, walks: dict[int, Asking], labels: IntArray, size: int
) -> Iterator[tuple[int, FloatArray]]:
    """What each walk has led to, with its number; all are asked together."""
    asked = {row: next(walk, None) for row, walk in walks.items()}
    waiting = {row: images for row, images in asked.items() if images is not None}
    while waiting:
        counts = [len(images) for images in waiting.values()]
        true = np.repeat(labels[list(waiting)], counts)
        wrong = _predicted(model, np.concatenate(list(waiting.values())), size) != true
        answers = np.split(wrong, np.cumsum(counts)[:-1])
        for row, answer in zip(list(waiting), answers, strict=True):
            try:
                waiting[row] = walks[row].send(answer)
            except StopIteration as end:
                del waiting[row]
                if end.value is not None:
                    yield row, end.value


def _predicted(model: Model, images: FloatArray, size: int) -> IntArray:
    """Predicted labels, (r,).

    Calls are of as many images as powers of two, so that frameworks that compile a network for each
    size compile it for a few.
    """
    labels, at = [], 0
    while at < len(images):
        count = min(size, 2 ** int(math.log2(len(images) - at)))
        logits = model.numpy(model.logits(model.asarray(images[at : at + count])))
        labels.append(logits.argmax(axis=1))
        at += count
    return np.concatenate(labels)


@plain
class _Walk:
    """The walk of one image.

    Attributes:
        clean: The image, (*shape).
        bounds: The box.
        how: The attack.
        random: Draws.
        enough: The distance that need not be less.
        left: Questions that may still be asked.
    """

    clean: FloatArray
    bounds: Bounds
    how: HopSkipJump
    random: np.random.Generator
    enough: float

    def __post_init__(self) -> None:
        self.left = self.how.queries - 1
        self.slope = np.zeros(self.clean.shape)
        self.tight = self.how.norm == "linf"
        pixels = max(1, self.clean.size)
        self.close = min(max(CLOSE, pixels**-2 if self.tight else pixels**-1.5), FINE)
        self.least = PROBED * math.sqrt(pixels) * (self.bounds[1] - self.bounds[0])

    def walk(self) -> Asking:
        """The nearest misclassified image that is found, or the last noise if there is none.

        None where not even noise may be asked about.
        """
        found, wrong = yield from self._start()
        if found is None or not wrong:
            return found
        nearest = yield from self._to_boundary(found)
        number = 0
        while True:
            number += 1
            # What the step and the search after it take is set aside.
            room = self.left - HALVINGS - math.ceil(-math.log2(self.close))
            count = min(round(self.how.draws * math.sqrt(number)), room)
            if count < FEW or self._distance(nearest) <= self.enough:
                return nearest
            direction = yield from self._direction(nearest, number, count)
            ahead = yield from self._ahead(nearest, direction, number)
            if ahead is not None:
                found = yield from self._to_boundary(ahead)
                if self._distance(found) < self._distance(nearest):
                    nearest = found

    def _asked(self, images: FloatArray) -> Generator[FloatArray, BoolArray, BoolArray]:
        self.left -= len(images)
        answer = yield images
        return answer

    def _start(
        self,
    ) -> Generator[FloatArray, BoolArray, tuple[FloatArray | None, bool]]:
        """The nearest of a few misclassified images, as far as a short search brings them.

        They are noise, noise of the extremes, or either with half of the image beneath.

        Returns:
            It, or the last noise if none is misclassified, or None if there was none; and whether
            it is misclassified.
        """
        best: FloatArray | None = None
        noise: FloatArray | None = None
        found = 0
        for number in range(min(STARTS, self.left)):
            noise = self._inside(self._noise(number))
            (wrong,) = yield from self._asked(noise[None])
            if wrong:
                image = yield from self._to_boundary(noise, COARSE)
                if best is None or self._distance(image) < self._distance(best):
                    best = image
                found += 1
            spent = self.how.queries - self.left
            if found == COMPARED or (found and spent > self.how.queries / 10):
                break
        return (noise, False) if best is None else (best, True)

    def _noise(self, number: int) -> FloatArray:
        low, high = self.bounds
        noise = self.random.uniform(low, high, self.clean.shape)
        if number % 2:
            noise = np.where(noise < (low + high) / 2, low, high)
        return (noise + self.clean) / 2 if number % 4 > 1 else noise

    def _to_boundary(self, found: FloatArray, close: float | None = None) -> Moving:
        """The nearest misclassified image on the way to the clean one, by halving."""
        near, far, nearest = 0.0, 1.0, found
        while far - near > (close or self.close) and self.left > 0:
            middle = (near + far) / 2
            image = self._between(found, middle)
            (wrong,) = yield from self._asked(image[None])
            if wrong:
                far, nearest = middle, image
            else:
                near = middle
        return nearest

    def _between(self, found: FloatArray, share: float) -> FloatArray:
        """The image on the way to the clean one that is nearer to it by this share."""
        change = found - self.clean
        if not self.tight:
            return self._inside(self.clean + share * change)
        radius = share * float(np.abs(change).max())
        return self._inside(self.clean + np.clip(change, -radius, radius))

    def _direction(self, at: FloatArray, number: int, count: int) -> Moving:
        """The change of length one that leads further beyond the boundary, as is estimated."""
        size = 0.1 * (self.bounds[1] - self.bounds[0])
        if number > 1:
            size = max(self._distance(at) / self.clean.size, self.least)
        signed = total = np.zeros(self.clean.shape)
        balance = 0
        for part in batches(count, PART):
            drawn = self._drawn(part.stop - part.start)
            images = self._inside(at + size * drawn)
            wrong = yield from self._asked(images)
            signs = np.where(wrong, 1.0, -1.0)
            changes = (images - at) / size
            signed = signed + np.tensordot(signs, changes, axes=1)
            total = total + changes.sum(axis=0)
            balance += int(signs.sum())
        # Unless all are alike, the mean sign is taken off: that lowers the variance (eq. 16).
        if abs(balance) < count:
            signed = signed - (balance / count) * total
        self.slope = signed + KEPT * self.slope
        steepest = NORMS[self.how.norm].steepest(np, self.slope[None])[0]
        return np.asarray(steepest)

    def _drawn(self, count: int) -> FloatArray:
        """Random directions of length one in L2."""
        shape = (count, *self.clean.shape)
        if self.tight:
            drawn = self.random.random(shape, dtype=np.float32) * 2 - 1
        else:
            drawn = self.random.standard_normal(shape, dtype=np.float32)
        length = np.linalg.norm(drawn.reshape(count, -1), axis=1)
        return np.asarray(drawn / length.reshape(-1, *(1 for _ in self.clean.shape)))

    def _ahead(self, at: FloatArray, direction: FloatArray, number: int) -> Asking:
        """A misclassified image in a direction; None if there is none, however near."""
        size = self._distance(at) / math.sqrt(number)
        for _ in range(min(HALVINGS, self.left)):
            image = self._inside(at + size * direction)
            (wrong,) = yield from self._asked(image[None])
            if wrong:
                return image
            size /= 2
        return None

    def _distance(self, image: FloatArray) -> float:
        return float(NORMS[self.how.norm].length(np, (image - self.clean)[None])[0])

    def _inside(self, images: FloatArray) -> FloatArray:
        return np.clip(images, *self.bounds).astype(self.clean.dtype)
