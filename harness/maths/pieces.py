"""Where arrays lie: those on the host are computed with by NumPy, in pieces if they are large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.maths.norms import NORMS, per_image
from harness.protocol import Array, ArrayNamespace, BoolArray, FloatArray, IntArray, Model, NormName

CACHED = 2**19
"""Bytes of images in a piece."""
LINE = 64
"""Bytes in a line of the cache."""
HOST = 1
"""The type of the CPU in DLPack, the standard by which libraries hand arrays to each other."""


@dataclass(frozen=True)
class Place:
    """Where a model's arrays lie, for the many small computations between the steps of an attack.

    On the host these are done by NumPy on views of the arrays, which takes less time to ask than
    the frameworks do. On another device they are done there, and the arrays stay.

    Attributes:
        model: Whose arrays they are.
        on_host: Whether they lie on the host.
    """

    model: Model
    on_host: bool

    @classmethod
    def of(cls, model: Model, array: Array) -> Place:
        """That of an array."""
        return cls(model, on_host(array))

    @property
    def xp(self) -> ArrayNamespace:
        """The namespace that computes here."""
        return np if self.on_host else self.model.xp

    def view(self, array: Array) -> Array:
        """An array of the model's, as ``xp`` takes it; it is not to be written to."""
        return self.model.numpy(array) if self.on_host else array

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """NumPy values, as ``xp`` takes them, in the dtypes of ``Model.asarray``."""
        return self.view(self.model.asarray(values))

    def array(self, values: Array) -> Array:
        """What ``xp`` computed, as an array of the model's."""
        return self.model.asarray(values) if self.on_host else values

    def mask(self, chosen: Array) -> Array:
        """Booleans that ``xp`` computed, likewise."""
        return self.model.asarray(chosen) > 0 if self.on_host else chosen

    def numbers(self, chosen: Array, like: Array) -> Array:
        """Booleans that ``xp`` computed as ones and zeros, of the dtype of another array."""
        if self.on_host:
            return chosen.astype(like.dtype)
        return self.xp.where(chosen, 0.0 * like + 1.0, 0.0 * like)

    def chosen(self, taken: Array, values: Array, others: Array) -> Array:
        """Images (m, *shape): the one of ``values`` where taken, (m,), else that of ``others``."""
        if not self.on_host:
            return self.xp.where(per_image(self.xp, taken, others), values, others)
        if not taken.any():
            return others
        merged = room_for(others)  # to be filled takes a fifth of the time of NumPy's where
        merged[...] = others
        merged[taken] = values[taken]
        return merged

    def replaced(self, whole: Array, rows: IntArray, values: Array) -> Array:
        """An array (n, ...) with other values, (m, ...), in m > 0 of its rows."""
        count = whole.shape[0]
        if len(rows) == count:
            return values
        if self.on_host:
            merged = whole.copy()
            merged[rows] = values
            return merged
        # An array need not take assignments.
        inside, at = np.zeros(count), np.zeros(count, dtype=np.int64)
        inside[rows], at[rows] = 1.0, np.arange(len(rows))
        return self.chosen(
            self.asarray(inside) > 0, self.xp.take(values, self.asarray(at), axis=0), whole
        )

    def taken(self, rows: IntArray, *arrays: Array) -> tuple[Array, ...]:
        """Some rows of arrays that ``xp`` computed."""
        at = self.asarray(rows)
        return tuple(self.xp.take(array, at, axis=0) for array in arrays)

    def booleans(self, chosen: Array) -> BoolArray:
        """Booleans that ``xp`` computed, on the host."""
        return np.asarray(chosen) if self.on_host else self.model.numpy(chosen)


def copied(place: Place, images: Array) -> Array:
    """A copy of the model's images (n, *shape), where they lie."""
    if not place.on_host:
        return 1 * images
    copy = room_for(held := place.view(images))
    copy[...] = held
    return place.array(copy)


def taken_home(model: Model, images: Array, rows: IntArray) -> FloatArray:
    """Some of the images (n, *shape) on the host, (m, *shape): the others stay where they are."""
    if on_host(images):
        return np.asarray(model.numpy(images)[rows])
    some = model.xp.take(images, model.asarray(rows), axis=0)
    return np.array(model.numpy(some))


def pieces(model: Model, x: Array, other: Array) -> Iterator[tuple[ArrayNamespace, Array, Array]]:
    """Pieces of two batches of images (n, *shape), and the namespace for them.

    Where both lie on the host these are views by NumPy, which takes less time to ask than the
    frameworks do, and small. On another device they are the batches as they are.
    """
    if not (on_host(x) and on_host(other)):
        yield model.xp, x, other
        return
    x, other = model.numpy(x), model.numpy(other)
    for part in _parts(x):
        yield np, x[part], other[part]


def mapped(
    model: Model, function: Callable[..., Array], images: Array, *others: Array | float
) -> Array:
    """What a function makes of images, one by one; the model's arrays, (n, *shape).

    Args:
        model: Whose arrays they are.
        function: Called with a namespace, images, and the others; returns as many images.
        images: The first of what it takes.
        others: What else it takes: numbers, and arrays of as many images.
    """
    place = Place.of(model, images)
    if not place.on_host:
        return function(model.xp, images, *others)
    held = place.view(images)
    beside = [one if isinstance(one, float) else place.view(one) for one in others]
    found = room_for(held)
    for part in _parts(held):
        taken = (one if isinstance(one, float) else one[part] for one in beside)
        found[part] = function(np, held[part], *taken)
    return place.array(found)


def merged(model: Model, taken: Array, values: Array, others: Array) -> Array:
    """The model's images (n, *shape): those of ``values`` where taken, (n,), else of ``others``."""
    place = Place.of(model, others)
    return place.array(place.chosen(*map(place.view, (taken, values, others))))


def steepest(place: Place, gradient: Array, norm: NormName) -> Array:
    """Changes of length one along which a function of each gradient (n, *shape) rises most.

    Both are arrays of the model's.
    """
    if norm != "linf" or not place.on_host:
        return NORMS[norm].steepest(place.model.xp, gradient)
    # A sign is the same everywhere, but some frameworks take several passes over memory for it.
    held = place.view(gradient)
    return place.array(np.sign(held, out=room_for(held)))


def shifted(place: Place, x: Array, direction: Array, size: float) -> Array:
    """A new batch x + size · direction, clipped to the box: the model's arrays, (n, *shape)."""
    low, high = place.model.bounds
    if not place.on_host:
        return place.xp.clip(x + size * direction, low, high)
    clean, along = place.view(x), place.view(direction)
    found = room_for(clean)
    for part in _parts(clean):
        piece = found[part]
        np.multiply(along[part], size, out=piece)
        piece += clean[part]
        np.clip(piece, low, high, out=piece)
    return place.array(found)


def room_for(like: FloatArray) -> FloatArray:
    """An array as another, of any values, that begins where a line of the cache does.

    NumPy's own begin anywhere, and then a pass over them takes up to twice as long.
    """
    room = np.empty(like.nbytes + LINE, np.uint8)
    first = -room.ctypes.data % LINE
    return room[first : first + like.nbytes].view(like.dtype).reshape(like.shape)


def _parts(images: FloatArray) -> Iterator[slice]:
    size = max(1, CACHED // max(1, images[:1].nbytes))
    return (slice(start, start + size) for start in range(0, len(images), size))


def on_host(array: Array) -> bool:
    """Whether an array lies where NumPy can read it."""
    ask = getattr(array, "__dlpack_device__", None)
    return ask is not None and int(ask()[0]) == HOST
