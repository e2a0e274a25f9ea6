"""Randomised variants of a model: with random layers, or trained on random labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from harness.data.dataset import one_hot
from harness.protocol import Batch, FloatArray, Learner, Weights

STEPS, BATCH, LEARNING_RATE = 150, 64, 2e-3
"""Of the training on random labels: steps, images a step, and the learning rate."""
RELABELLED = 500
"""Images that get random labels."""


def cascade(weights: Weights, random: Weights) -> Iterator[dict[str, FloatArray]]:
    """The weights with the last layer random, then the last two, and so on to all of them.

    That is the cascading randomisation of Adebayo et al. (2018), section 3.1.

    Args:
        weights: A trained network's, under neutral names.
        random: Those of an untrained one of the same architecture.
    """
    made = dict(weights)
    depth = sum(name.endswith(".weight") for name in weights)
    for layer in reversed(range(depth)):
        prefix = f"layers.{layer}."
        made |= {name: value for name, value in random.items() if name.startswith(prefix)}
        yield dict(made)


def learn_random_labels(learner: Learner, x: FloatArray, classes: int, seed: int) -> None:
    """A short training of a network on labels that are independent of the images.

    That is the data randomisation of Adebayo et al. (2018), section 3.2, in small: it takes
    ``STEPS`` steps on the first ``RELABELLED`` images.

    Args:
        learner: Starts from random weights; a ``Trainer`` is one.
        x: Images, (n, *shape).
        classes: Number of classes.
        seed: Of the labels, and of the order of the images.
    """
    random = np.random.default_rng(seed)
    images = x[:RELABELLED]
    targets = one_hot(random.integers(classes, size=len(images)), classes)
    for _ in range(STEPS):
        rows = random.integers(len(images), size=BATCH)
        learner.step(Batch(images[rows], targets[rows]), LEARNING_RATE)
