"""Every backend in turn, and the weights, images and labels that are given to each."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from small_trainers import NET

from harness.networks.initial import initial_weights


@pytest.fixture(params=NAMES)
def backend(request):
    return at_hand(request.param)


@pytest.fixture(params=["torch", "keras", "jax"])
def framework(request):
    return at_hand(request.param)


@pytest.fixture(scope="module")
def weights():
    random = np.random.default_rng(3)
    named = initial_weights(NET, seed=1)
    return {name: value + random.normal(0, 0.1, value.shape).astype(np.float32)
            for name, value in named.items()}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).random((12, 4, 4), dtype=np.float32)


@pytest.fixture(scope="module")
def labels():
    return np.arange(12) % 3


@pytest.fixture(scope="module")
def toy():
    """Two classes of 4 × 4 images, bright on the left or on the right, of 64 each."""
    random = np.random.default_rng(0)
    x = random.random((128, 4, 4), dtype=np.float32) * np.float32(0.5)
    y = np.arange(128) % 2
    x[y == 0, :, :2] += np.float32(0.5)
    x[y == 1, :, 2:] += np.float32(0.5)
    return x, y
