"""Small networks, each trained in a second or so when it is first asked for."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType

import numpy as np
from backends_at_hand import at_hand

from harness.data import Part, load_dataset
from harness.networks.initial import initial_weights
from harness.protocol import Network, Optimizer, Wrapping, fully_connected
from harness.spec.models import DataSpec
from harness.spec.training import TrainingSpec
from harness.training.loop import train

BOUNDS = (0.0, 1.0)
NET = fully_connected((8, 8), (32,), 10)
ADVERSARY = {"epsilon": 0.1, "steps": 3, "rel_stepsize": 0.5}


@cache
def digits():
    return load_dataset(DataSpec(name="digits", split="70-20-10"))


def mean_and_spread():
    """Of all training pixels."""
    return float(digits().train.x.mean()), float(digits().train.x.std())


SCALES = {
    "as they are": lambda x: x,
    "bytes": lambda x: 255 * x,
    "standardised": lambda x: (x - mean_and_spread()[0]) / mean_and_spread()[1],
    "inverted": lambda x: 1 - x,
}


@cache
def trained(
    backend="numpy", net=NET, scale="as they are", epochs=15, smoothing=0.0, adversary=False
):
    """The weights of a network that was trained on images of that scale; read-only."""
    recipe = TrainingSpec(
        epochs=epochs, batch_size=32, learning_rate=0.005, patience=epochs,
        label_smoothing=smoothing, adversary=ADVERSARY if adversary else None,
    )  # fmt: skip
    trainer = at_hand(backend).trainer(
        Network(net, initial_weights(net, 1)), Wrapping(BOUNDS), Optimizer(), seed=1
    )
    parts = (
        Part(SCALES[scale](part.x).astype(np.float32), part.y, part.index)
        for part in (digits().train, digits().validation)
    )
    weights = train(trainer, *parts, recipe, seed=1, title="zoo").weights
    # All tests of a process share them.
    for values in weights.values():
        values.setflags(write=False)
    return MappingProxyType(weights)


def built(backend="numpy", net=NET, **options):
    """A trained network, as a model."""
    return at_hand(backend).build(Network(net, trained(backend, net, **options)), Wrapping(BOUNDS))


def images(bounds=BOUNDS):
    """Test images in a pixel range, and their labels."""
    low, high = bounds
    x = low + (high - low) * digits().test.x
    return np.asarray(x, dtype=np.float32), digits().test.y
