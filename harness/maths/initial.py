"""The weights that a training begins with."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from harness.protocol import Architecture, FloatArray


def initial_weights(architecture: Architecture, seed: int | Sequence[int]) -> dict[str, FloatArray]:
    """He-normal weights (He et al. 2015, eq. 10) and zero biases, the same for every backend.

    The weights of a ``Scale`` are ones.
    """
    random = np.random.default_rng(seed)
    weights: dict[str, FloatArray] = {}
    for name, shape in architecture.weight_shapes().items():
        if name.endswith("bias"):
            weights[name] = np.zeros(shape, dtype=np.float32)
        elif len(shape) == 1:
            weights[name] = np.ones(shape, dtype=np.float32)
        else:
            spread = math.sqrt(2.0 / math.prod(shape[1:]))
            weights[name] = (random.standard_normal(shape) * spread).astype(np.float32)
    return weights
