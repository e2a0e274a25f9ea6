"""Batches in pieces that stay in a processor's cache, for what is computed of every pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.protocol import Array, ArrayNamespace, FloatArray, Model

CACHED = 2**19
"""Bytes of images in a piece."""
HOST = 1
"""The type of the CPU in DLPack, the standard by which libraries hand arrays to each other."""


def pieces(model: Model, x: Array, other: Array) -> Iterator[tuple[ArrayNamespace, Array, Array]]:
    """Pieces of two batches of images (n, *shape), and the namespace for them.

    Where both lie on the host these are views by NumPy, which takes less time to ask than the
    frameworks do, and small. On another device they are the batches as they are.
    """
    if not (_on_host(x) and _on_host(other)):
        yield model.xp, x, other
        return
    x, other = model.numpy(x), model.numpy(other)
    for part in _parts(x):
        yield np, x[part], other[part]


def shifted(model: Model, x: Array, direction: Array, size: float) -> Array:
    """A new batch x + size · direction, clipped to the box; all of them are (n, *shape)."""
    low, high = model.bounds
    if not (_on_host(x) and _on_host(direction)):
        return model.xp.clip(x + size * direction, low, high)
    clean, along = model.numpy(x), model.numpy(direction)
    found = np.empty_like(clean)
    for part in _parts(clean):
        piece = found[part]
        np.multiply(along[part], size, out=piece)
        piece += clean[part]
        np.clip(piece, low, high, out=piece)
    return model.asarray(found)


def _parts(images: FloatArray) -> Iterator[slice]:
    size = max(1, CACHED // max(1, images[:1].nbytes))
    return (slice(start, start + size) for start in range(0, len(images), size))


def _on_host(array: Array) -> bool:
    ask = getattr(array, "__dlpack_device__", None)
    return ask is not None and int(ask()[0]) == HOST
