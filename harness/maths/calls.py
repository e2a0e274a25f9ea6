"""Batches of a network on the host in several calls, each within the processor's cache.

What a convolutional network computes of a thousand images takes hundreds of megabytes, each of
which goes to memory and back. In parts that stay in the cache FGSM takes 0.4 to 0.7 of the time
in PyTorch, and 0.9 in Keras. Attacks work on all images of a batch nonetheless, so that those that
are left, once others are misclassified, still fill a call.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from harness.maths.pieces import on_host
from harness.protocol import Array, FloatArray, Images, Model, joined

CACHE = 32 * 2**20
"""Bytes that a network may compute in one call, so that they stay in the cache."""
FEWEST = 64
"""So many images are asked in one call, whatever they take: each call has a price of its own."""
FOOTPRINTS: WeakKeyDictionary[Model, dict[tuple[int, ...], int]] = WeakKeyDictionary()
"""What is known of models that are still in use, by the shape of their images."""


def footprint_of(model: Model, x: Images | Array) -> int:
    """Bytes that the network takes up for each of these images; 0 where it cannot tell.

    Two of them are tried, once for each shape of images.

    Args:
        model: The network.
        x: Images (n, *shape) on the host.
    """
    if not x.shape[0] or not hasattr(model, "footprint"):
        return 0
    shape = tuple(x.shape[1:])
    try:
        known = FOOTPRINTS.setdefault(model, {})
    except TypeError:  # a user's own that cannot be a key
        known = {}
    if shape not in known:
        try:
            known[shape] = max(0, int(model.footprint(model.asarray(np.array(x[:2])))))
        except Exception:  # what is wrong with the network, a measurement says
            known[shape] = 0
    return known[shape]


def in_calls(
    model: Model, ask: Callable[..., tuple[Array, ...]], x: Array, *others: Array
) -> tuple[Array, ...]:
    """What a model answers to a batch, in as many calls as keep it in the cache.

    Args:
        model: What is asked.
        ask: Asks it; called with images and the others, it returns arrays of as many rows.
        x: The model's own images, (n, *shape).
        others: What else it takes, n rows each.
    """
    count = count_of(x)
    most = _at_once(model, x) if count > FEWEST else count
    if count <= most:
        return ask(x, *others)
    size = math.ceil(count / math.ceil(count / most))  # equal parts
    found = [
        ask(*(array[start : start + size] for array in (x, *others)))
        for start in range(0, count, size)
    ]
    return tuple(joined(model.xp, each) for each in zip(*found, strict=True))


def count_of(x: Any) -> int:
    """How many images a batch holds; foreign attacks may give a model what it happens to take."""
    shape = getattr(x, "shape", None)
    return int(shape[0]) if shape else 0


def logits_in_calls(model: Model, x: Array) -> FloatArray:
    """Logits of a batch (n, *shape) of the model's own images, as it returns them, on the host."""
    (logits,) = in_calls(model, lambda part: (model.logits(part),), x)
    return model.numpy(logits)


def _at_once(model: Model, x: Array) -> int:
    """How many of the images (n, *shape) are asked in one call, at most."""
    each = footprint_of(model, x) if on_host(x) else 0
    return max(FEWEST, CACHE // each) if each else int(x.shape[0])
