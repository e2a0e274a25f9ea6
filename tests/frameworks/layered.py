"""Networks of every kind of layer, in every layout, with weights and images for each."""

from __future__ import annotations

import numpy as np

from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights
from harness.protocol import (
    Architecture,
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
    fully_connected,
)

CLASSES = 5
GREY, FIRST, LAST = ImageKind((12, 10), CLASSES), ImageKind((3, 12, 10), CLASSES, 0), ImageKind(
    (12, 10, 3), CLASSES, 2
)  # fmt: skip
CNN = {
    "channels": [6, 8, 8], "kernel": [3, 4, 3], "stride": [1, 2, 1], "padding": [0, 1, 1],
    "pool": [2, 1, 1], "dense": [12],
}  # fmt: skip

ODD = Architecture(
    (12, 10, 3),
    (
        # Normalised before any convolution, as in networks with pre-activation.
        BatchNorm(), ReLU(), Conv(6, (3, 2), (2, 1), ((0, 1), (1, 0))), ReLU(),
        MaxPool((3, 3), (2, 2), ((1, 1), (1, 1))),
        Residual((BatchNorm(), ReLU(), Conv(6, (3, 3), padding=((1, 1), (1, 1))))),
        MeanPool((2, 2), (1, 1)), Dropout(0.25), Flatten(), Dense(7), BatchNorm(), ReLU(),
        Residual((Dense(7), ReLU()), (Dense(7),)), Dense(CLASSES),
    ),
    CLASSES,
    channel_axis=2,
)  # fmt: skip
"""Windows that are not square, padding on one side, norms that cannot be folded."""

ARCHITECTURES = {
    "mlp": fully_connected((12, 10), (16, 8), CLASSES, batch_norm=True),
    "mlp-colour": fully_connected((12, 10, 3), (16,), CLASSES, channel_axis=2),
    "mlp-first": fully_connected((3, 12, 10), (16,), CLASSES, channel_axis=0),
    "mlp-unsaid": fully_connected((12, 10, 3), (16,), CLASSES),
    "cnn-grey": architecture_of("cnn", CNN | {"batch_norm": True, "dropout": 0.2}, GREY),
    "cnn-first": architecture_of("cnn", CNN, FIRST),
    "cnn-last": architecture_of("cnn", CNN, LAST),
    "cnn-mean": architecture_of("cnn", {"channels": [6, 8], "mean_pool": True}, LAST),
    "resnet-first": architecture_of("resnet", {"depth": 8, "width": 4}, FIRST),
    "resnet-last": architecture_of("resnet", {"depth": 10, "width": 4}, LAST),
    "odd": ODD,
}


def layered(name: str, seed: int = 0) -> Network:
    """A network by its name, with biases and scales that are not 0 and 1."""
    architecture, random = ARCHITECTURES[name], np.random.default_rng(seed)
    weights = {
        key: value + random.normal(0, 0.1, value.shape).astype(np.float32) * (value.ndim == 1)
        for key, value in initial_weights(architecture, seed).items()
    }
    return Network(architecture, weights)


def images_for(name: str, count: int, seed: int = 1) -> np.ndarray:
    """Images of a network's shape, with a black stripe as digits have; float32 in [0, 1]."""
    shape = ARCHITECTURES[name].input_shape
    x = np.random.default_rng(seed).random((count, *shape), dtype=np.float32)
    axis = 2 if ARCHITECTURES[name].channel_axis == 0 else 1
    np.moveaxis(x, axis, 0)[:4] = 0
    return x
