"""Lower bounds of linear functions of what a layer makes, for many rows in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from harness.certification.layers import Linear, one_hot
from harness.certification.numbers import Numbers
from harness.certification.regions import Interval, Region
from harness.certification.relaxations import Affine, Bent, Joined, Node, Path, Peaked, backward, taken
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


def lowest(
    path: Path, region: Region, images: IntArray, rows: Array, total: Array
) -> Array:
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


def narrowed(path: Path, region: Region, known: Interval, wanted: BoolArray) -> Interval:
    """An interval, narrowed where that is wanted by what the layers before say of it.

    Args:
        path: The layers' bounds.
        region: Where the images are.
        known: What is known of what the last layer makes, (b, n).
        wanted: Which of it is to be narrowed, (b, n).
    """
    numbers, xp = known.numbers, known.numbers.xp
    lows, highs, place, done = [], [], np.full(wanted.shape, -1), 0
    for group in groups(wanted, max(1, rows_at_once(path) // 2)):
        rest, rows, total = _both(path, group, numbers, wanted.shape[1])
        found = lowest(rest, region, group.images, rows, total)
        count = group.rows.shape[1]
        lows.append(xp.reshape(found[:, :count], (-1,)))
        highs.append(xp.reshape(-found[:, count:], (-1,)))
        numbered = done + np.arange(group.rows.size).reshape(group.rows.shape)
        np.put_along_axis(place_of := place[group.images], group.rows, numbered, axis=1)
        place[group.images] = place_of
        done += group.rows.size
    if not lows:
        return known
    at = numbers.places(np.maximum(place, 0).reshape(-1))
    chosen = place >= 0
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
    numbers, xp = region.interval.numbers, region.interval.numbers.xp
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
