"""The shortest way from an image to a hyperplane within the box, in either norm."""

from __future__ import annotations

from collections.abc import Callable

from harness.protocol import Array, ArrayNamespace, BoolArray, Bounds, NormName

BEYOND = 1e30
"""As far as anything is to go where the box keeps the hyperplane out of reach."""
MOST = 100
"""Rounds at most; two or three are usual, and ten are rare."""


def shortest_change(
    xp: ArrayNamespace,
    x: Array,
    normal: Array,
    rise: Array,
    bounds: Bounds,
    norm: NormName,
    booleans: Callable[[Array], BoolArray],
) -> Array:
    """The shortest change d of each x with normal · d = rise, where x + d lies within the box.

    Each pixel moves to the side on which the normal rises or falls as wanted: as far as all others
    in L∞, in proportion to its entry of the normal in L2, and no further than the box allows. How
    far they go, λ, follows from a sum over the pixels that is concave and piecewise linear in λ.
    Newton's method on it starts below, meets one piece after the other, and ends on the exact one
    in finitely many rounds, without sorting the pixels. (The projections of Croce & Hein 2020b,
    section 2.2.) Where the hyperplane is out of reach, the corner of the box that is nearest to it.

    Args:
        xp: The namespace of the arrays.
        x: Points within the box, (m, p).
        normal: Normals of the hyperplanes, (m, p); where one is zero, so is the change.
        rise: What the change is to add to normal · x, (m,).
        bounds: The box, the same for all pixels.
        norm: In what the change is the shortest.
        booleans: Takes booleans (m,) to the host.

    Returns:
        The changes, (m, p); NaN where the rise or the normal is.
    """
    (low, high), zero = bounds, 0.0 * rise
    side = xp.where(rise < 0, zero - 1.0, zero + 1.0)[:, None]
    # Scaled, because the squares of a confident image's gradient underflow.
    largest = xp.maximum(xp.max(normal, axis=1), -xp.min(normal, axis=1))
    largest = xp.where(largest == 0, zero + 1.0, largest)
    along = normal * (side / largest[:, None])
    room = xp.maximum(xp.where(along > 0, high - x, x - low), 0.0 * x)
    size, goal = xp.abs(along), xp.abs(rise) / largest
    speed = size if norm == "l2" else xp.sign(size)
    reach = zero
    for _ in range(MOST):
        free = reach[:, None] * speed < room
        gain = xp.sum(xp.where(free, size * speed, 0.0 * size), axis=1)
        held = xp.sum(xp.where(free, 0.0 * size, size * room), axis=1)
        stuck = gain == 0
        further = xp.where(stuck, zero + BEYOND, (goal - held) / xp.where(stuck, zero + 1.0, gain))
        rises = booleans(further > reach)
        reach = xp.where(further <= reach, reach, further)  # NaN must not be hidden
        if not rises.any():
            break
    return xp.sign(along) * xp.minimum(reach[:, None] * speed, room)
