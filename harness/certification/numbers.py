"""The arithmetic of certificates: where it is done, in which precision, and how far it may be off.

A sum of n products, in any order, with or without fused steps, differs from the exact one by at
most γ_n Σ|a_i||b_i|, where γ_n = n u / (1 - n u), and u is the unit roundoff (Higham 2002,
"Accuracy and Stability of Numerical Algorithms", sections 3.1 and 4.2). All slack is of this form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.maths.pieces import Place
from harness.protocol import Array, ArrayNamespace, FloatArray, IntArray, Model

SPARE = 32
"""Roundings beside those of a sum that its slack has room for: those of scaling, of halving and of
subtracting its parts."""


@dataclass(frozen=True)
class Numbers:
    """Where numbers are computed, and in which precision.

    On the host that is NumPy in float64. On another device it is the model's namespace there, in
    float64 if the device has it; if not the slack is that of what it has.

    Attributes:
        xp: The namespace.
        unit: The unit roundoff u of what is computed.
        model: Whose arrays they are; None of NumPy's own.
        on_host: Whether NumPy computes.
        model_unit: The unit roundoff of the model that is attacked; 0 if there is none.
        extra: Roundings that every slack has room for, on top of those of its own sum.
    """

    xp: ArrayNamespace
    unit: float
    model: Model | None = None
    on_host: bool = True
    model_unit: float = 0.0
    extra: int = SPARE

    @classmethod
    def of(cls, model: Model, images: Array) -> Numbers:
        """Those for a model's images."""
        place = Place.of(model, images)
        held = _unit(model.numpy(model.asarray(np.zeros(1))))
        if place.on_host:
            return cls(np, _unit(np.zeros(1)), model, True, held)
        wide = model.numpy(_widened(model.xp, model.asarray(np.zeros(1))))
        return cls(model.xp, _unit(wide), model, False, held)

    @property
    def floor(self) -> float:
        """What is taken off a bound at last: far more than underflow can have added to it."""
        return 1e-150 if self.unit < 1e-12 else 1e-18

    def gamma(self, terms: int) -> float:
        """γ of a sum of so many products, with room for what goes with it."""
        return _gamma(terms + self.extra, self.unit)

    def model_gamma(self, terms: int) -> float:
        """The same of what the model computes."""
        return _gamma(terms + 8, self.model_unit)

    def floats(self, values: FloatArray) -> Array:
        """NumPy floats in the precision of the model, then in that of the computation."""
        if self.model is None:
            return np.asarray(values, dtype=np.float64)
        return self.widened(self.model.asarray(np.asarray(values)))

    def widened(self, array: Array) -> Array:
        """Floats of the model's in the precision of the computation."""
        if self.on_host:
            values = array if self.model is None else self.model.numpy(array)
            return np.asarray(values).astype(np.float64)
        return _widened(self.xp, array)

    def places(self, values: IntArray) -> Array:
        """Positions for ``take``."""
        values = np.asarray(values, dtype=np.int64)
        return values if self.on_host or self.model is None else self.model.asarray(values)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """An array on the host."""
        if self.on_host or self.model is None:
            return np.asarray(array)
        return self.model.numpy(array)

    def take(self, array: Array, at: Array, axis: int = 0) -> Array:
        """Some entries along an axis, by their positions (m,)."""
        if self.on_host:  # positions are ours, and need no check
            return np.take(array, at, axis=axis, mode="clip")
        return self.xp.take(array, at, axis=axis)

    def joined(self, arrays: list[Array], axis: int) -> Array:
        """Arrays one after another."""
        join = self.xp.concat if hasattr(self.xp, "concat") else self.xp.concatenate
        return join(arrays, axis=axis)

    def dot(self, rows: Array, vector: Array) -> Array:
        """Rows (b, r, n) times a vector of each image, (b, n), or of all, (n,): (b, r)."""
        xp = self.xp
        product = xp.matmul(rows, xp.reshape(vector, (*vector.shape, 1)))
        return xp.reshape(product, tuple(product.shape)[:-1])

    def bent(self, rows: Array, size: Array, middle: Array, half: Array) -> Array:
        """``rows * middle + size * half``; ``size`` is not used any more after it."""
        if not self.on_host:
            return rows * middle + size * half
        made: Array = np.multiply(rows, middle)
        if size.shape == made.shape:
            size *= half
            made += size
            return made
        return made + size * half


def _gamma(terms: int, unit: float) -> float:
    share = terms * unit
    return share / (1 - share) if share < 0.5 else math.inf


def _unit(values: npt.NDArray[Any]) -> float:
    return float(np.finfo(values.dtype).eps) / 2


def _widened(xp: ArrayNamespace, array: Array) -> Array:
    """An array in float64; as it is where its device has none."""
    try:
        if hasattr(xp, "astype"):
            return xp.astype(array, xp.float64)
        return xp.cast(array, "float64")
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return array
