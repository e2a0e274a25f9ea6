"""Interval bound propagation in JAX, for training; see ``protocol.Batch``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import jax.numpy as jnp

from backends.jax_layers import EXACT, Arrays, Pass, maps_of
from harness.protocol import Architecture, Array, Conv, Dense, Placed, Residual, Scale

Pair: TypeAlias = tuple[Array, Array]


def margins(architecture: Architecture, weights: Arrays, box: Pair, labels: Array) -> Array:
    """Lower bounds (n, k) of the logit of a label (n,) less each, for all that is in a box.

    Args:
        architecture: Of the network.
        weights: With batch normalisations folded in.
        box: The lowest and the highest of the images, (n, *shape).
        labels: Classes.
    """
    placed = architecture.inference.placed
    bounds = _Bounds(weights, architecture.channels_last)
    lower, upper = maps_of(architecture, box[0]), maps_of(architecture, box[1])
    rows = jnp.arange(len(labels))
    if not isinstance(architecture.layers[-1], Dense):
        lower, upper = bounds.sequence(placed, (lower, upper))
        return (lower[rows, labels][:, None] - upper).at[rows, labels].set(0)
    lower, upper = bounds.sequence(placed[:-1], (lower, upper))
    centre = bounds.plain.one(placed[-1], (lower + upper) / 2)
    # One row for the difference of two logits, so that what these share does not count twice.
    weight = weights[f"{placed[-1].name}.weight"]
    apart = jnp.abs(weight[labels][:, None] - weight)
    spread = jnp.einsum("nkd,nd->nk", apart, (upper - lower) / 2, precision=EXACT)
    return centre[rows, labels][:, None] - centre - spread


class _Bounds:
    """Carries bounds through layers: affine ones by centre and radius, others as they are."""

    def __init__(self, weights: Arrays, last: bool) -> None:
        sizes = {
            name: jnp.zeros_like(value) if name.endswith(".bias") else jnp.abs(value)
            for name, value in weights.items()
        }
        self.plain, self.absolute = Pass(weights, last), Pass(sizes, last)

    def sequence(self, placed: Sequence[Placed], values: Pair) -> Pair:
        """Layers one after another."""
        for place in placed:
            values = self._through(place, values)
        return values

    def _through(self, place: Placed, values: Pair) -> Pair:
        lower, upper = values
        if isinstance(place.layer, Residual):
            first, second = (self.sequence(p, values) for p in (place.branch, place.shortcut))
            return first[0] + second[0], first[1] + second[1]
        if not isinstance(place.layer, Dense | Conv | Scale):
            return self.plain.one(place, lower), self.plain.one(place, upper)
        centre = self.plain.one(place, (lower + upper) / 2)
        radius = self.absolute.one(place, (upper - lower) / 2)
        return centre - radius, centre + radius
