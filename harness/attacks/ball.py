"""The images an attack may return, and the best attack on each image so far."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal

import numpy as np

from harness.maths.adaptive import one_draw, votes_on_success
from harness.maths.norms import NORMS
from harness.maths.pieces import Place, mapped
from harness.maths.query import voted
from harness.protocol import (
    Array,
    ArrayNamespace,
    BoolArray,
    FloatArray,
    IntArray,
    Model,
    NormName,
)

ROUNDING = 1e-5
"""An image counts as misclassified if another logit leads by more than this share of the largest
logit; in another batch rounding may take away less than that."""


@dataclass(frozen=True)
class Ball:
    """All images within a distance of clean ones, and within the box.

    Attributes:
        model: The classifier under attack; its bounds are the box.
        x: Clean images, (n, *shape) within the box.
        epsilon: Radius in pixel units, or one per image in a shape that broadcasts.
        norm: Name of the norm.
    """

    model: Model
    x: Array
    epsilon: Array | float
    norm: NormName = "linf"

    def project(self, images: Array) -> Array:
        """The images moved into the ball and the box.

        Clipping brings no image further from a clean one, because that lies within the box.
        """
        return mapped(self.model, self._projected, images, self.x, self.epsilon)

    def step(self, images: Array, gradient: Array, size: Array | float) -> Array:
        """The images after a step of that length along their steepest direction, projected."""
        return mapped(self.model, self._stepped, images, gradient, size, self.x, self.epsilon)

    def step_on(
        self, images: Array, gradient: Array, size: Array | float, last: Array, share: float
    ) -> Array:
        """The same with momentum: a share of that step, the rest of the last one, projected.

        Args:
            images: Where they are.
            gradient: Along which they go.
            size: Length of the step.
            last: Where they were before.
            share: Of the step, in [0, 1].
        """
        function = partial(self._stepped_on, share)
        return mapped(self.model, function, images, gradient, size, last, self.x, self.epsilon)

    def _projected(
        self, xp: ArrayNamespace, images: Array, x: Array, epsilon: Array | float
    ) -> Array:
        change = NORMS[self.norm].within(xp, images - x, epsilon)
        return xp.clip(x + change, *self.model.bounds)

    def _stepped(
        self,
        xp: ArrayNamespace,
        images: Array,
        gradient: Array,
        size: Array | float,
        x: Array,
        epsilon: Array | float,
    ) -> Array:
        ahead = images + size * NORMS[self.norm].steepest(xp, gradient)
        return self._projected(xp, ahead, x, epsilon)

    def _stepped_on(
        self,
        share: float,
        xp: ArrayNamespace,
        images: Array,
        gradient: Array,
        size: Array | float,
        last: Array,
        x: Array,
        epsilon: Array | float,
    ) -> Array:
        ahead = self._stepped(xp, images, gradient, size, x, epsilon)
        ahead = images + share * (ahead - images) + (1 - share) * (images - last)
        return self._projected(xp, ahead, x, epsilon)

    def take(self, rows: Array) -> Ball:
        """The ball of some of the images."""
        take = self.model.xp.take
        epsilon = self.epsilon
        if not isinstance(epsilon, float):
            epsilon = take(epsilon, rows, axis=0)
        return Ball(self.model, take(self.x, rows, axis=0), epsilon, self.norm)


@dataclass(frozen=True)
class Judge:
    """What logits of m images say of an attack on these. All arrays are those of the place.

    Attributes:
        place: Where the arrays lie.
        label: Numbers to be added to logits, twice (m, k): -inf at the true class, so that the
            others are left, and -inf at the others.
        goal: Likewise for the class that an image is to be classified as, if there is one.
    """

    place: Place
    label: tuple[Array, Array]
    goal: tuple[Array, Array] | None = None

    def of(self, logits: Array) -> tuple[Array, Array, Array]:
        """Which attacks have succeeded, which images are misclassified, and the margin, each (m,).

        An attack succeeds on a misclassified image, or, where there are goals, on one classified as
        its goal. The margin is how far the largest other logit is ahead of the true class's, or the
        goal's ahead of the others.
        """
        xp, logits = self.place.xp, self.place.view(logits)
        slack = ROUNDING * xp.max(xp.abs(logits), axis=1)
        margin = self._lead(logits, self.label)
        wrong = margin > slack
        if self.goal is None:
            return wrong, wrong, margin
        margin = -self._lead(logits, self.goal)
        return margin > slack, wrong, margin

    def take(self, rows: Array) -> Judge:
        """The same for some of the images."""
        goal = None if self.goal is None else self._taken(self.goal, rows)
        return Judge(self.place, self._taken(self.label, rows), goal)

    def _taken(self, pair: tuple[Array, Array], rows: Array) -> tuple[Array, Array]:
        others, own = (self.place.xp.take(array, rows, axis=0) for array in pair)
        return others, own

    def _lead(self, logits: Array, named: tuple[Array, Array]) -> Array:
        """How far the largest of the other logits is ahead of the named one, (m,)."""
        others, own = named
        top = self.place.xp.max
        return top(logits + others, axis=1) - top(logits + own, axis=1)


class BestSoFar:
    """The best attack so far on each image of a batch, and which images are still to be attacked.

    Once the attack on an image has succeeded, it is attacked no more: its adversarial image lies in
    every larger ball too. It succeeds when the image is misclassified; or, once ``aim`` has been
    called, when it is classified as its goal. Of a model that is random on purpose, or averaged
    over draws, several draws vote on that.

    Nothing leaves the device but ``open``, because the size of a batch follows from it when images
    leave.

    Args:
        model: The classifier under attack.
        x: Clean images, (n, *shape).
        y: Their true labels, (n,) int64.
        logits: What the model says of x, (n, k), if it has been asked.

    Attributes:
        logits: Those of the clean images, (n, k).
        true: A boolean one-hot mask of the labels, (n, k).
        judge: What is wanted of the images.
        open: On which images no attack has succeeded yet, (n,).
        goals: The class that each image is to be classified as, (n,), once ``aim`` was called.
    """

    def __init__(self, model: Model, x: Array, y: Array, logits: Array | None = None) -> None:
        self.model, self.place = model, Place.of(model, x)
        self.votes = votes_on_success(model)
        self.labels, self.logits = y, model.logits(x) if logits is None else logits
        self.found = self.place.view(x)
        self.goals: IntArray | None = None
        self.true = self.place.mask(named := self._one_hot(y))
        self._margin: Array
        self._wrong: Array
        self._start(Judge(self.place, self._added(named)))

    @property
    def images(self) -> Array:
        """The adversarial images, (n, *shape), in an array of the model's; not to be written to."""
        return self.place.array(self.found)

    def adversarial(self) -> Array:
        """A copy of the adversarial images, (n, *shape)."""
        return self.place.array(1 * self.found)

    @cached_property
    def known(self) -> tuple[FloatArray, IntArray]:
        """Clean logits (n, k) and labels (n,) on the host, by which targets are chosen."""
        return self.model.numpy(self.logits), self.model.numpy(self.labels)

    def aim(self, goals: IntArray) -> None:
        """From now on an attack succeeds when the image is classified as its goal, (n,).

        Where that is the image's own class none can: it stays open, and is not to be attacked.
        """
        goal = self._added(self._one_hot(self.model.asarray(goals)))
        self.goals = goals
        self._start(Judge(self.place, self.judge.label, goal))
        self.open |= goals == self.known[1]

    def renew(self) -> None:
        """Let the next attack replace any open image, but no misclassified by a correct one."""
        self._margin = self.place.asarray(np.full(len(self.open), -np.inf))

    def rows(self) -> IntArray:
        """Positions of the images that are still to be attacked, (m,)."""
        if self.goals is None:
            return np.flatnonzero(self.open)
        return np.flatnonzero(self.open & (self.goals != self.known[1]))

    def part(self, rows: IntArray) -> Part:
        """Some of the images that are still open, to be attacked."""
        if len(rows) == len(self.open):
            return Part(self, rows, self.judge, self.found, self._wrong, self._margin)
        at, take = self.place.asarray(rows), self.place.xp.take
        arrays = (take(array, at, axis=0) for array in (self.found, self._wrong, self._margin))
        return Part(self, rows, self.judge.take(at), *arrays)

    def put(self, part: Part, *, judged: bool) -> None:
        """Take over what has been found of some of the images."""
        if not len(part.rows):
            return
        self.open[part.rows] = part.open
        self.found = self.place.replaced(self.found, part.rows, part.found)
        if judged:
            self._wrong = self.place.replaced(self._wrong, part.rows, part.wrong)
            self._margin = self.place.replaced(self._margin, part.rows, part.margin)

    def confirmed(
        self,
        images: Array,
        rows: IntArray,
        succeeded: Array,
        wrong: Array,
        among: BoolArray | None = None,
    ) -> tuple[Array, Array]:
        """What votes say where single answers say that images are misclassified, each (m,).

        Args:
            images: The images, (m, *shape), arrays of the model's.
            rows: Their positions in the batch, (m,).
            succeeded: On which the attack has succeeded, by one answer.
            wrong: Which are misclassified, likewise.
            among: Those that are still of interest, (m,); all if None.
        """
        if self.votes == 1:
            return succeeded, wrong
        hits = self.place.booleans(succeeded | wrong)
        at = np.flatnonzero(hits if among is None else hits & among)
        said = np.zeros((2, len(rows)), dtype=np.float32)
        if len(at):
            some = self.model.xp.take(images, self.model.asarray(at), axis=0)
            labels = voted(one_draw(self.model), some, votes=self.votes).labels
            said[1, at] = missed = labels != self.known[1][rows[at]]
            said[0, at] = missed if self.goals is None else labels == self.goals[rows[at]]
        reached, missed = (self.place.asarray(row) > 0 for row in said)
        return reached, missed

    def _start(self, judge: Judge) -> None:
        self.judge = judge
        succeeded, wrong, self._margin = judge.of(self.logits)
        everything = np.arange(self.logits.shape[0])
        succeeded, self._wrong = self.confirmed(self.images, everything, succeeded, wrong)
        self.open: BoolArray = ~self.place.booleans(succeeded)

    def _one_hot(self, classes: Array) -> Array:
        every = self.place.asarray(np.arange(self.logits.shape[1])[None])
        return every == self.place.xp.reshape(self.place.view(classes), (-1, 1))

    def _added(self, named: Array) -> tuple[Array, Array]:
        nothing, low = (self.place.asarray(np.array([[end]])) for end in (0.0, -np.inf))
        where = self.place.xp.where
        return where(named, low, nothing), where(named, nothing, low)


class Part:
    """Some images of a batch under attack, m of them, and the best attack on each so far.

    Args:
        best: That on each image of the whole batch; ``put`` hands on what is found here.
        rows: Positions of the images in the batch, (m,), all of them open.
        judge: What is wanted of them.
        found: The best images so far, (m, *shape).
        wrong: Which of these are misclassified, though not as their goal, (m,).
        margin: Their margins, (m,); see ``Judge.of``.

    Attributes:
        open: On which no attack has succeeded yet, (m,): all that a step copies to the host.
    """

    def __init__(
        self,
        best: BestSoFar,
        rows: IntArray,
        judge: Judge,
        found: Array,
        wrong: Array,
        margin: Array,
    ) -> None:
        self.best, self.rows, self.judge = best, rows, judge
        self.found, self.wrong, self.margin = found, wrong, margin
        self.open: BoolArray = np.ones(len(rows), dtype=bool)
        self._open: Array | None = None

    def offer(self, images: Array, logits: Array) -> Array:
        """Take candidates that succeed, or are the first misclassified ones; returns all margins.

        Args:
            images: Candidates within the ball, (m, *shape).
            logits: What the model says of them, (m, k).
        """
        succeeded, wrong, margin = self.judge.of(logits)
        succeeded, wrong = self.best.confirmed(images, self.rows, succeeded, wrong, self.open)
        still = ~succeeded if self._open is None else self._open & ~succeeded
        before, self.open = np.count_nonzero(self.open), self.best.place.booleans(still)
        if self.judge.goal is not None:
            self._keep(self._among_open(succeeded | (wrong & ~self.wrong)), images, wrong, margin)
        elif np.count_nonzero(self.open) < before:
            self._keep_images(self._among_open(succeeded), images)
        if np.count_nonzero(self.open) < before:
            self._open = still
        return margin

    def finish(self, images: Array, logits: Array, keep: Literal["last", "best"]) -> None:
        """Take the last candidates for images that are all open, and hand on what was found.

        A misclassified image is not replaced by one that is classified correctly.

        Args:
            images: Candidates within the ball, (m, *shape).
            logits: What the model says of them, (m, k).
            keep: Whether candidates that bring an image no further replace what was there before:
                always, or where their margin is larger.
        """
        succeeded, wrong, margin = self.judge.of(logits)
        succeeded, wrong = self.best.confirmed(images, self.rows, succeeded, wrong)
        taken = succeeded | wrong | ~self.wrong
        if keep == "best":
            # NaN is kept, too: whoever checks the images must see it.
            further = (margin > self.margin) | (margin != margin)
            taken = succeeded | (wrong & ~self.wrong) | (taken & further)
        self._keep(taken, images, wrong, margin)
        self.open = self.best.place.booleans(~succeeded)
        self.best.put(self, judged=True)

    def close(self) -> None:
        """Hand on what was found."""
        self.best.put(self, judged=self.judge.goal is not None)

    def narrowed(self, kept: Array) -> Part:
        """Hand on what was found, and go on with the images that are open.

        Args:
            kept: Their positions among the m, on the device.
        """
        self.close()
        place = self.best.place
        kept = place.view(kept)
        arrays = (
            place.xp.take(array, kept, axis=0) for array in (self.found, self.wrong, self.margin)
        )
        return Part(self.best, self.rows[self.open], self.judge.take(kept), *arrays)

    def _among_open(self, taken: Array) -> Array:
        return taken if self._open is None else taken & self._open

    def _keep(self, taken: Array, images: Array, wrong: Array, margin: Array) -> None:
        where = self.best.place.xp.where
        self._keep_images(taken, images)
        self.wrong, self.margin = where(taken, wrong, self.wrong), where(taken, margin, self.margin)

    def _keep_images(self, taken: Array, images: Array) -> None:
        place = self.best.place
        self.found = place.chosen(taken, place.view(images), self.found)
