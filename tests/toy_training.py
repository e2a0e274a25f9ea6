"""Trainings of a second with every backend: three classes of 6 × 6 images, and all that trains."""

from __future__ import annotations

import numpy as np
from backends_at_hand import at_hand

from harness.data import Part
from harness.networks.initial import initial_weights
from harness.protocol import Network, Optimizer, Wrapping, fully_connected
from harness.spec.training import TrainingSpec
from harness.training.loop import train

SHAPE, CLASSES = (6, 6), 3


def toy_part(count, seed):
    """Images with a bright band in one of three places, in noise."""
    random = np.random.default_rng(seed)
    x = random.random((count, *SHAPE), dtype=np.float32) * np.float32(0.5)
    y = np.arange(count) % CLASSES
    for label in range(CLASSES):
        x[y == label, 2 * label : 2 * label + 2] += np.float32(0.5)
    return Part(x, y, np.arange(count))


TRAINING, VALIDATION = toy_part(60, seed=1), toy_part(30, seed=2)


def toy_recipe(name="accurate", **said):
    """A named recipe, made short."""
    return TrainingSpec(**{"recipe": name, "epochs": 4, "batch_size": 12, "patience": 9} | said)


def toy_net(name):
    """A network with dropout, and with batch normalisation where the backend trains it."""
    return fully_connected(SHAPE, (10, 8), CLASSES, dropout=0.3, batch_norm=name != "numpy")


def toy_trainer(name, recipe, seed=3):
    """A backend's trainer at its first step."""
    net = toy_net(name)
    return at_hand(name).trainer(
        Network(net, initial_weights(net, seed)),
        Wrapping((0.0, 1.0)),
        Optimizer(recipe.l2, recipe.weight_decay),
        seed=seed,
    )


def toy_train(name, recipe, trainer=None, seed=3, **options):
    """A whole training, with a new trainer if none is given."""
    trainer = trainer or toy_trainer(name, recipe, seed)
    return train(trainer, TRAINING, VALIDATION, recipe, seed=seed, title="toy", **options)


def same_weights(a, b):
    """Whether all weights are equal to the last bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def without_seconds(history):
    """A history, but for the time that it took."""
    return [epoch.model_dump(exclude={"seconds"}) for epoch in history]
