"""Small random networks of all kinds of layers, and images around others to try them on."""

from __future__ import annotations

import os

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from backends.numpy_backend import NumpyBackend
from harness.maths.objectives import ClassLogit
from harness.protocol import (
    Architecture,
    ArchitectureError,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    MeanPool,
    Network,
    ReLU,
    Residual,
    Scale,
)

NETWORKS = int(os.environ.get("HARNESS_TEST_NETWORKS", "40"))
"""How many random networks a property is tried on; the variable asks for more."""
RANDOM = settings(max_examples=NETWORKS, deadline=None, print_blob=True)
CLASSES = 3


def weighted(architecture, seed, dtype="float64"):
    """A network with random weights; biases too, so that ReLUs are of either kind."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in architecture.weight_shapes().items():
        spread = 1.5 / np.sqrt(max(1, np.prod(shape[1:])))
        weights[name] = (random.standard_normal(shape) * spread).astype(dtype)
    return Network(architecture, weights)


def model_of(network, dtype="float64"):
    return NumpyBackend().build(network, dtype=dtype)


def dense(*widths, seed=0, inputs=2):
    layers = [Flatten()]
    for width in widths:
        layers += [Dense(width), ReLU()]
    return weighted(Architecture((inputs,), (*layers, Dense(CLASSES)), CLASSES), seed)


@st.composite
def _padding(draw, most):
    side = st.integers(0, most)
    return ((draw(side), draw(side)), (draw(side), draw(side)))


@st.composite
def _conv(draw):
    kernel, stride = (draw(st.tuples(*[st.integers(1, most)] * 2)) for most in (3, 2))
    return Conv(draw(st.integers(1, 3)), kernel, stride, draw(_padding(1)))


@st.composite
def _max_pool(draw):
    size, stride = (draw(st.tuples(*[st.integers(1, most)] * 2)) for most in (3, 2))
    return MaxPool(size, stride, draw(_padding(min(size) - 1)))


@st.composite
def _residual(draw):
    channels = draw(st.integers(1, 3))
    same = Conv(channels, (3, 3), padding=((1, 1), (1, 1)))
    narrow = Conv(channels, (1, 1))
    branch = draw(st.sampled_from([(same,), (same, ReLU(), same), (ReLU(), narrow)]))
    shortcut = draw(st.sampled_from([(), (narrow,), (same, ReLU())]))
    return Residual(branch, shortcut)


BLOCKS = st.one_of(
    _conv(), _conv(), _max_pool(), _residual(), st.just(ReLU()), st.just(ReLU()),
    st.just(BatchNorm()), st.just(Scale()), st.just(MeanPool((2, 2), (1, 2))),
    st.just(Dropout(0.5)),
)  # fmt: skip


@st.composite
def networks(draw):
    """Dense networks and networks of maps, with the channel first, last, or without one."""
    seed, hidden = draw(st.integers(0, 2**32 - 1)), draw(st.lists(st.integers(1, 6), max_size=2))
    end = [layer for width in hidden for layer in (Dense(width), ReLU())]
    end += [Dense(CLASSES), *draw(st.sampled_from([(), (), (ReLU(),), (Dense(CLASSES),)]))]
    shape, axis = draw(
        st.sampled_from([((4,), None), ((4, 5), None), ((2, 5, 4), 0), ((5, 4, 2), 2)])
    )
    layers = []
    if len(shape) > 1:
        for block in draw(st.lists(BLOCKS, max_size=5)):
            try:
                _ended([*layers, block], end, shape, axis)
                layers.append(block)
            except ArchitectureError:  # it does not fit, and is left out
                continue
    return weighted(_ended(layers, end, shape, axis), seed)


def _ended(layers, end, shape, axis):
    return Architecture(shape, (*layers, Flatten(), *end), CLASSES, axis)


def pictures(network, count, seed):
    """Images in [0, 1], (count, *shape)."""
    random = np.random.default_rng(seed)
    return random.random((count, *network.architecture.input_shape))


def tried(model, low, high, seed, count=40):
    """Images between two batches of them: corners, others, and where gradients lead."""
    random = np.random.default_rng(seed)
    yield from (low, high)
    for _ in range(count):
        yield np.where(random.random(low.shape) < 0.5, low, high)
        yield low + (high - low) * random.random(low.shape)
    for label in range(CLASSES):
        for sign in (1, -1):
            at = (low + high) / 2
            for _ in range(3):
                y = np.full(len(at), label)
                _, gradient = model.logits_and_gradient(at, y, ClassLogit())
                at = np.where(sign * gradient > 0, high, low)
                yield at


def around(x, epsilon):
    """The lowest and the highest pixels within epsilon and the box."""
    return np.clip(x - epsilon, 0, 1), np.clip(x + epsilon, 0, 1)
