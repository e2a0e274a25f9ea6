"""The shortest way from an image to a hyperplane within the box, in either norm."""

from __future__ import annotations

import numpy as np

from harness.maths.norms import Norm
from harness.maths.pieces import Place
from harness.protocol import Array, ArrayNamespace, Bounds, NormName

BEYOND = 1e30
"""As far as anything is to go where the box keeps the hyperplane out of reach."""
SLOWEST = 1e-30
"""A pixel that moves no faster than this share of the fastest does not count."""
MOST = 100
"""Rounds at most; five are usual, and fifteen are rare."""


def shortest_change(
    place: Place,
    x: Array,
    normal: Array,
    rise: Array,
    bounds: Bounds,
    norm: NormName,
) -> Array:
    """The shortest change d of each x with normal · d = rise, where x + d lies within the box.

    Each pixel moves to the side on which the normal rises or falls as wanted: as far as all others
    in L∞, in proportion to its entry of the normal in L2, and no further than the box allows. How
    far they go, λ, follows from a sum over the pixels that is concave and piecewise linear in λ.
    Newton's method on it starts below, meets one piece after the other, and ends on the exact one
    in finitely many rounds, without sorting the pixels. (The projections of Croce & Hein 2020b,
    section 2.2.) Where the hyperplane is out of reach, the corner of the box that is nearest to it.

    Args:
        place: Where the arrays lie.
        x: Points within the box, (m, p).
        normal: Normals of the hyperplanes, (m, p); where one is zero, so is the change.
        rise: What the change is to add to normal · x, (m,).
        bounds: The box, the same for all pixels.
        norm: In what the change is the shortest.

    Returns:
        The changes, (m, p); NaN where the rise or the normal is.
    """
    xp, (low, high), zero = place.xp, bounds, 0.0 * rise
    side = xp.where(rise < 0, zero - 1.0, zero + 1.0)[:, None]
    # Scaled, because the squares of a confident image's gradient underflow.
    largest = xp.maximum(xp.max(normal, axis=1), -xp.min(normal, axis=1))
    largest = xp.where(largest == 0, zero + 1.0, largest)
    along = normal * (side / largest[:, None])
    # Products, because choosing by a mask that is hard to foresee takes ten times as long.
    upwards = place.numbers(along > 0, along)
    room = (x - low) + upwards * (high + low - 2 * x)
    size, goal = xp.abs(along), xp.abs(rise) / largest
    speed = size if norm == "l2" else place.numbers(size > 0, size)
    limit = room / xp.maximum(speed, 0.0 * speed + SLOWEST)
    gains, whole = size * speed, size * room
    reach = zero
    for _ in range(MOST):
        free = place.numbers(limit > reach[:, None], limit)
        gain, held = _products(free, gains), _products(1 - free, whole)
        stuck = gain == 0
        further = xp.where(stuck, zero + BEYOND, (goal - held) / xp.where(stuck, zero + 1.0, gain))
        rises = place.booleans(further > reach)
        reach = xp.where(further <= reach, reach, further)  # NaN must not be hidden
        if not rises.any():
            break
    return (2 * upwards - 1) * xp.minimum(reach[:, None] * speed, room)


def distance(xp: ArrayNamespace, lead: Array, gradient: Array, norm: Norm) -> Array:
    """How far the boundary is by the linear approximation, (m,), whatever the scale of the logits.

    Args:
        xp: The namespace of the arrays.
        lead: What is zero there, (m,).
        gradient: Its gradients, (m, *shape); where one is zero, the boundary is beyond all boxes.
        norm: What measures the distance.
    """
    slope = norm.dual(xp, gradient)
    sloping = slope > 0
    with np.errstate(over="ignore"):
        found = xp.abs(lead) / xp.where(sloping, slope, 0.0 * slope + 1.0)
    return xp.where(sloping, found, 0.0 * found + BEYOND)


def _products(one: Array, other: Array) -> Array:
    """The inner product of each row of one with that of the other, (m,)."""
    return (one[:, None, :] @ other[:, :, None])[:, 0, 0]
