"""Lower bounds of linear functions of what a layer makes, for many rows in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.certification.layers import one_hot
from harness.certification.numbers import Numbers
from harness.certification.patches import Plan
from harness.certification.regions import Interval, Region
from harness.certification.relaxations import (
    Affine,
    Bent,
    Joined,
    Node,
    Path,
    Peaked,
    backward,
    taken,
)
from harness.protocol import Array, BoolArray, FloatArray, IntArray

ROOM = 24 * 2**20
"""Bytes that the largest array on the way back may take up."""


def _room_of(path: Sequence[Node]) -> int:
    """Numbers in the largest array that a row needs on its way back."""
    return max((_room(node) for node in path), default=1)


def _room(node: Node) -> int:
    if isinstance(node, Affine):
        return node.step.room
    if isinstance(node, Bent):
        return 2 * int(node.middle.shape[1])
    if isinstance(node, Peaked):
        return 2 * int(node.middle.shape[1])
    if not isinstance(node, Joined):
        return int(node.mask.shape[1])
    parts = max((_room(part) for part in (*node.branch, *node.shortcut)), default=1)
    return parts + 2 * int(node.slack.shape[1])


def rows_at_once(path: Sequence[Node]) -> int:
    """How many rows go back together."""
    return max(1, ROOM // (8 * _room_of(path)))


@dataclass(frozen=True)
class Group:
    """Rows that go back together: of some images, as many of each.

    Attributes:
        images: Positions of the images, (b,).
        rows: Of each image which functions these are, (b, r); some may be there twice.
    """

    images: IntArray
    rows: IntArray


def groups(wanted: BoolArray, most: int) -> Iterator[Group]:
    """All wanted functions of all images, (b, n), in groups of at most so many rows.

    Images are ordered by how many they need, so that few are computed twice.
    """
    counts = wanted.sum(axis=1)
    order = np.argsort(-counts, kind="stable")
    order, start = order[counts[order] > 0], 0
    while start < len(order):
        widest = int(counts[order[start]])
        images = order[start : start + max(1, most // widest)]
        rows = np.stack([np.resize(np.flatnonzero(wanted[image]), widest) for image in images])
        for first in range(0, widest, most):
            yield Group(images, rows[:, first : first + most])
        start += len(images)


def lowest(path: Path, region: Region, images: IntArray, rows: Array, total: Array) -> Array:
    """Lower bounds of linear functions of what the last layer of a path makes.

    Args:
        path: The layers' bounds, of all images.
        region: Where the images are.
        images: Which images these rows are of, (b,).
        rows: Coefficients, (b, r, n).
        total: What is added, (b, r).
    """
    numbers = region.interval.numbers
    if len(images) < region.interval.low.shape[0] or (np.diff(images) != 1).any():
        at = numbers.places(images)
        path, region = taken(path, at), region.taken(at)
    rows, total = backward(path, rows, total)
    return region.lowest(rows) + total - numbers.floor


@dataclass(frozen=True)
class Whole:
    """Going back from single values of the last layer of a path, through whole maps.

    Attributes:
        route: The layers' bounds.
        region: Where the images are.
        count: How many values the last layer has.
    """

    route: Path
    region: Region
    count: int

    @property
    def most(self) -> int:
        """How many values go back together."""
        return max(1, rows_at_once(self.route) // 2)

    def arranged(self, wanted: BoolArray) -> BoolArray:
        """Which values of all images are wanted, (b, n), as ``bounds`` has them."""
        return wanted

    def restored(self, places: IntArray) -> IntArray:
        """What is arranged so, as (b, n)."""
        return places

    def bounds(self, group: Group) -> tuple[Array, Array]:
        """Bounds of the values of a group, twice (b, r)."""
        rest, rows, total = _both(self.route, group, self.region.interval.numbers, self.count)
        return _ends(lowest(rest, self.region, group.images, rows, total))


@dataclass(frozen=True)
class Patched:
    """The same through patches, from each place of an image as from an image of its own.

    Attributes:
        plan: How far back patches go.
        region: Where the images are.
        count: How many values the last layer has.
    """

    plan: Plan
    region: Region
    count: int

    @property
    def most(self) -> int:
        """How many values go back together."""
        room = self.plan.room
        if not self.plan.to_pixels:
            room = max(room, _room_of(self.plan.rest))
        return max(1, ROOM // (16 * room))

    def arranged(self, wanted: BoolArray) -> BoolArray:
        """Which values are wanted, (b, n), with a row for each place of each image."""
        maps = wanted.reshape(len(wanted), -1, self.plan.places)
        return np.moveaxis(maps, 1, 2).reshape(-1, maps.shape[1])

    def restored(self, places: IntArray) -> IntArray:
        """What is arranged so, as (b, n)."""
        maps = places.reshape(-1, self.plan.places, places.shape[1])
        return np.moveaxis(maps, 2, 1).reshape(-1, self.count)

    def bounds(self, group: Group) -> tuple[Array, Array]:
        """Bounds of the values of a group, twice (m, r)."""
        plan, numbers = self.plan, self.region.interval.numbers
        images, places = np.divmod(group.images, plan.places)
        path = plan.path(numbers, images, places)
        every = Group(np.arange(len(images)), group.rows)
        path, rows, total = _both(path, every, numbers, plan.patches[-1].count)
        rows, total = backward(path, rows, total)
        if plan.to_pixels:
            region = plan.region(self.region, images, places)
            return _ends(region.lowest(rows) + total - numbers.floor)
        rows = plan.spread(numbers, images, places, rows)
        return _ends(lowest(plan.rest, self.region, images, rows, total))


def _ends(found: Array) -> tuple[Array, Array]:
    """Lower bounds of values, then of the same negative, (b, 2 r), as both bounds of the values."""
    count = found.shape[1] // 2
    return found[:, :count], -found[:, count:]


def narrowed(path: Path, region: Region, known: Interval, wanted: BoolArray) -> Interval:
    """An interval, narrowed where that is wanted by what the layers before say of it.

    Args:
        path: The layers' bounds.
        region: Where the images are.
        known: What is known of what the last layer makes, (b, n).
        wanted: Which of it is to be narrowed, (b, n).
    """
    numbers, xp, count = known.numbers, known.numbers.xp, wanted.shape[1]
    plan = Plan.of(path)
    way = Whole(path, region, count) if plan is None else Patched(plan, region, count)
    arranged, done = way.arranged(wanted), 0
    lows: list[Array] = []
    highs: list[Array] = []
    place = np.full(arranged.shape, -1)
    for group in groups(arranged, way.most):
        for ends, found in zip((lows, highs), way.bounds(group), strict=True):
            ends.append(xp.reshape(found, (-1,)))
        numbered = done + np.arange(group.rows.size).reshape(group.rows.shape)
        place[group.images[:, None], group.rows] = numbered
        done += group.rows.size
    if not lows:
        return known
    place = way.restored(place)
    at, chosen = numbers.places(np.maximum(place, 0).reshape(-1)), place >= 0
    mask = chosen if numbers.on_host else numbers.floats(chosen.astype(np.float64)) > 0
    low, high = (
        xp.reshape(numbers.take(numbers.joined(ends, axis=0), at), place.shape)
        for ends in (lows, highs)
    )
    return Interval(
        numbers, xp.where(mask & (low > known.low), low, known.low),
        xp.where(mask & (high < known.high), high, known.high),
    )  # fmt: skip


def _both(path: Path, group: Group, numbers: Numbers, count: int) -> tuple[Path, Array, Array]:
    """Rows that are single numbers, and the same negative, behind the last layer if it is linear.

    Such a layer's rows are the same for all images.
    """
    xp, flat = numbers.xp, group.rows.reshape(-1)
    last, shape = path[-1], group.rows.shape
    if not isinstance(last, Affine) or last.step.moves:
        ones = numbers.floats(one_hot(flat, count).reshape(*shape, count))
        zero = 0.0 * ones[:, :, 0]
        rows, total, slack = ones, zero, zero
    else:
        path = path[:-1]
        rows = xp.reshape(last.step.rows(flat), (*shape, last.step.size[0]))
        at = numbers.places(flat)
        total = xp.reshape(numbers.take(last.step.bias, at), shape)
        places = numbers.places((group.images[:, None] * count + group.rows).reshape(-1))
        slack = xp.reshape(numbers.take(xp.reshape(last.slack, (-1,)), places), shape)
    rows = numbers.joined([rows, -rows], axis=1)
    return path, rows, numbers.joined([total - slack, -total - slack], axis=1)


def margins(path: Path, region: Region, y: IntArray, classes: int) -> Array:
    """Lower bounds of z_y - z_k for all other classes k in their order, (b, classes - 1).

    The differences are rows behind the last layer: if it is linear, they are folded into it.

    Args:
        path: The layers' bounds, to the logits.
        region: Where the images are.
        y: The labels, (b,).
        classes: How many logits there are.
    """
    numbers = region.interval.numbers
    count, most = classes - 1, rows_at_once(path)
    images = max(1, most // count)
    found = []
    for start in range(0, len(y), images):
        some = np.arange(start, min(start + images, len(y)))
        parts = []
        for first in range(0, count, most):
            signs = _differences(y[some], classes)[:, first : first + most]
            rows = numbers.floats(signs)
            parts.append(lowest(path, region, some, rows, 0.0 * rows[:, :, 0]))
        found.append(numbers.joined(parts, axis=1) if len(parts) > 1 else parts[0])
    return numbers.joined(found, axis=0) if len(found) > 1 else found[0]


def others(y: IntArray, classes: int) -> IntArray:
    """The classes that are not the label, in their order, (b, classes - 1)."""
    every = np.arange(classes - 1)[None]
    return np.asarray(every + (every >= y[:, None]))


def _differences(y: IntArray, classes: int) -> FloatArray:
    """Rows of 1 for the label and -1 for another class, (b, classes - 1, classes)."""
    made = -one_hot(others(y, classes).reshape(-1), classes).reshape(len(y), classes - 1, classes)
    made[np.arange(len(y)), :, y] = 1.0
    return made


def trailing(path: Path, region: Region, logits: Interval) -> tuple[Path, Region]:
    """The linear layers at the end of a path, and where what they are given is.

    Going back through them alone folds them into one.
    """
    start = len(path)
    while start and isinstance(path[start - 1], Affine):
        start -= 1
    if start == 0:
        return path, region
    first = path[start] if start < len(path) else None
    return path[start:], Region(first.given if isinstance(first, Affine) else logits)
