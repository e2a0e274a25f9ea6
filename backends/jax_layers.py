"""Networks of the harness as functions of JAX; see ``protocol.layers``.

Maps are (n, height, width, channels) within a network, which XLA's convolutions on a CPU are made
for; images and weights are as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from harness.errors import BackendError
from harness.protocol import (
    BN_EPSILON,
    BN_MOMENTUM,
    UNPADDED,
    Architecture,
    Array,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    MeanPool,
    Padding,
    Pair,
    Placed,
    ReLU,
    Residual,
    Scale,
    walk,
)

Arrays: TypeAlias = Mapping[str, Array]
EXACT = lax.Precision.HIGHEST
"""In float32 throughout: by default a GPU multiplies numbers of fewer digits."""


@dataclass
class Training:
    """What a pass needs, and makes, that is made while training.

    Attributes:
        norms: ``NAME.scale`` and ``NAME.shift`` of each batch normalisation.
        key: Of the dropout masks.
        statistics: ``NAME.mean`` and ``NAME.variance``: those before, and after the pass.
        moments: Those of the batch itself, by which it was normalised.
        dropped: How many layers of dropout there were.
    """

    norms: Arrays
    key: Array
    statistics: dict[str, Array] = field(default_factory=dict)
    moments: dict[str, Array] = field(default_factory=dict)
    dropped: int = 0


def logits_of(
    architecture: Architecture, weights: Arrays, x: Array, training: Training | None = None
) -> Array:
    """Logits (n, k) of images (n, *shape); in inference where there is no ``training``."""
    made = Pass(weights, architecture.channels_last, training)
    return made.sequence(architecture.placed, maps_of(architecture, x))


def norms_of(architecture: Architecture) -> dict[str, Placed]:
    """Batch normalisations by the names of the layers that they are folded into."""
    return {p.name: p for p in walk(architecture.placed) if isinstance(p.layer, BatchNorm)}


def frozen_of(architecture: Architecture) -> set[str]:
    """Names of weights that do not learn: of scales in the place of a normalisation that does."""
    weighted = {
        place.name for place in walk(architecture.placed)
        if place.name and not isinstance(place.layer, BatchNorm)
    }  # fmt: skip
    alone = norms_of(architecture).keys() - weighted
    return {f"{name}.{part}" for name in alone for part in ("weight", "bias")}


def folded(weights: Arrays, norms: Arrays, statistics: Arrays) -> dict[str, Array]:
    """The weights with the batch normalisations folded in; see ``protocol.fold_batch_norm``."""
    found = dict(weights)
    for name in (key.removesuffix(".scale") for key in norms if key.endswith(".scale")):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        factor = norms[f"{name}.scale"] / jnp.sqrt(statistics[f"{name}.variance"] + BN_EPSILON)
        found[f"{name}.weight"] = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        found[f"{name}.bias"] = (bias - statistics[f"{name}.mean"]) * factor
        found[f"{name}.bias"] += norms[f"{name}.shift"]
    return found


class Pass:
    """One pass of images through a network; ``last`` as in ``Architecture.channels_last``."""

    def __init__(self, weights: Arrays, last: bool, training: Training | None = None) -> None:
        self.weights, self.last, self.training = weights, last, training
        self.kinds: dict[type, Callable[[Placed, Any, Array], Array]] = {
            Dense: self._dense,
            Conv: self._conv,
            BatchNorm: self._norm,
            Scale: lambda place, layer, x: self._scaled(place, x),
            ReLU: lambda place, layer, x: jnp.where(x <= 0, 0, x),  # NaN stays
            Dropout: lambda place, layer, x: self._dropped(layer, x),
            MaxPool: lambda place, layer, x: _max_pool(layer, x),
            MeanPool: _mean_pool,
            Flatten: lambda place, layer, x: self._flat(x),
            Residual: self._residual,
        }

    def sequence(self, placed: Sequence[Placed], x: Array) -> Array:
        """Layers one after another."""
        named: set[str] = set()
        for place in placed:
            if isinstance(place.layer, BatchNorm) and place.name not in named:
                x = self._scaled(place, x)  # what it is folded into; in training it does not learn
            named.add(place.name)
            x = self.one(place, x)
        return x

    def one(self, place: Placed, x: Array) -> Array:
        """One layer; a batch normalisation alone, without what it is folded into.

        Raises:
            BackendError: The backend has no such layer.
        """
        kind = type(place.layer)
        if kind not in self.kinds:
            raise BackendError(f"the jax backend has no {kind.__name__}")
        return self.kinds[kind](place, place.layer, x)

    def _dense(self, place: Placed, layer: Dense, x: Array) -> Array:
        weight, bias = self._of(place)
        return jnp.matmul(x, weight.T, precision=EXACT) + bias

    def _conv(self, place: Placed, layer: Conv, x: Array) -> Array:
        weight, bias = self._of(place)
        found = lax.conv_general_dilated(
            x,
            weight,
            layer.stride,
            layer.padding,
            dimension_numbers=("NHWC", "OIHW", "NHWC"),
            precision=EXACT,
        )
        return found + bias

    def _residual(self, place: Placed, layer: Residual, x: Array) -> Array:
        return self.sequence(place.branch, x) + self.sequence(place.shortcut, x)

    def _scaled(self, place: Placed, x: Array) -> Array:
        weight, bias = self._of(place)
        return x * weight + bias

    def _norm(self, place: Placed, layer: BatchNorm, x: Array) -> Array:
        training, name = self.training, place.name
        if training is None:
            raise BackendError("batch normalisation is folded in before inference")
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axes), x.var(axes)
        training.moments |= {f"{name}.mean": mean, f"{name}.variance": variance}
        count = x.size // x.shape[-1]
        # Running statistics are of the whole population, as those of PyTorch.
        now = {"mean": mean, "variance": variance * (count / max(1, count - 1))}
        for part, value in now.items():
            before = training.statistics[f"{name}.{part}"]
            after = BN_MOMENTUM * before + (1 - BN_MOMENTUM) * value
            training.statistics[f"{name}.{part}"] = lax.stop_gradient(after)
        scale = training.norms[f"{name}.scale"] * lax.rsqrt(variance + BN_EPSILON)
        return (x - mean) * scale + training.norms[f"{name}.shift"]

    def _dropped(self, layer: Dropout, x: Array) -> Array:
        if self.training is None:
            return x
        self.training.dropped += 1
        key = jax.random.fold_in(self.training.key, self.training.dropped)
        kept = jax.random.uniform(key, x.shape, x.dtype) >= layer.share
        return jnp.where(kept, x / (1 - layer.share), 0)

    def _flat(self, x: Array) -> Array:
        if x.ndim == 4 and not self.last:
            x = x.transpose(0, 3, 1, 2)
        return x.reshape(x.shape[0], -1)

    def _of(self, place: Placed) -> tuple[Array, Array]:
        return self.weights[f"{place.name}.weight"], self.weights[f"{place.name}.bias"]


def maps_of(architecture: Architecture, x: Array) -> Array:
    """Images (n, *shape) as the first layer takes them; maps are (n, height, width, channels)."""
    if not architecture.takes_maps:
        return x.reshape(x.shape[0], -1)  # in the order of the images' own axes
    if x.ndim == 3:
        return x[..., None]
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 and not architecture.channels_last else x


def _windows(x: Array, size: Pair, stride: Pair) -> list[Array]:
    """What each place of a sliding window sees, by rows: size many (n, rows, columns, channels)."""
    rows, columns = (
        (side - width) // step + 1
        for side, width, step in zip(x.shape[1:3], size, stride, strict=True)
    )
    return [
        x[:, row : row + (rows - 1) * stride[0] + 1 : stride[0],
          column : column + (columns - 1) * stride[1] + 1 : stride[1]]
        for row in range(size[0]) for column in range(size[1])
    ]  # fmt: skip


def _max_pool(layer: MaxPool, x: Array) -> Array:
    """Elementwise over the places of the window.

    The gradient of ``lax.reduce_window`` goes to the first of equal values, too, but takes several
    times as long on a CPU.
    """
    seen = _windows(_padded(x, layer.padding, -jnp.inf), layer.size, layer.stride)
    best = seen[0]
    for value in seen[1:]:
        best = jnp.where((value > best) | (value != value), value, best)  # NaN wins
    return best


def _mean_pool(place: Placed, layer: MeanPool, x: Array) -> Array:
    if layer.size == x.shape[1:3]:
        return x.mean((1, 2), keepdims=True)
    return sum(_windows(x, layer.size, layer.stride)) / (layer.size[0] * layer.size[1])


def _padded(x: Array, padding: Padding, value: float) -> Array:
    if padding == UNPADDED:
        return x
    return jnp.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)
