"""A small network that is trained on a model's own answers, to be attacked in its place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from harness import registry
from harness.maths.initial import initial_weights
from harness.maths.objectives import ClassLogit
from harness.maths.query import batches
from harness.protocol import (
    UNIT,
    Batch,
    Bounds,
    FloatArray,
    IntArray,
    Model,
    Network,
    Optimizer,
    differentiable,
    fully_connected,
)

HIDDEN = (64,)
TRAINED = 500
"""Optimizer steps of a substitute's training."""
BATCH, LEARNING_RATE = 64, 3e-3
AHEAD = 0.1
"""Length of the steps that make further images to ask about, as a share of the pixel range."""


def substitute_for(predicted: IntArray, x: FloatArray, bounds: Bounds, classes: int) -> Model:
    """A NumPy network trained on a model's predictions (Papernot et al. 2017, substitute models).

    Args:
        predicted: The labels that the model predicts, (n,).
        x: For these images, (n, *shape).
        bounds: Their pixel range; the network takes pixels in [0, 1].
        classes: Number of classes.
    """
    architecture = fully_connected(tuple(x.shape[1:]), HIDDEN, classes)
    network = Network(architecture, initial_weights(architecture, 0))
    trainer = registry.builder("numpy").trainer(network, UNIT, Optimizer(), seed=0)
    images, targets = to_unit(x, bounds), np.eye(classes, dtype=np.float32)[predicted]
    random = np.random.default_rng(0)
    for _ in range(TRAINED):
        rows = random.integers(len(x), size=BATCH)
        trainer.step(Batch(images[rows], targets[rows]), LEARNING_RATE)
    return trainer.model


def substitute_asking(
    ask: Callable[[FloatArray], FloatArray], x: FloatArray, bounds: Bounds, rounds: int
) -> Model:
    """A substitute that asks about more and more images (Papernot et al. 2017, algorithm 1).

    After each training every image gets a neighbour in the direction in which the substitute's
    answer changes most, and that is asked about, too.

    Args:
        ask: Tells the logits (m, k) of as many images as there are in x, or of fewer.
        x: The first images, (n, *shape).
        bounds: Their pixel range; the network takes pixels in [0, 1].
        rounds: How often the number of images is doubled.
    """
    images = x
    logits = ask(x)
    labels = logits.argmax(axis=1)
    for _ in range(rounds):
        substitute = substitute_for(labels, images, bounds, logits.shape[1])
        unit = to_unit(images, bounds)
        _, slope = differentiable(substitute).logits_and_gradient(
            substitute.asarray(unit), substitute.asarray(labels), ClassLogit()
        )
        step = AHEAD * (bounds[1] - bounds[0]) * np.sign(substitute.numpy(slope))
        ahead = np.clip(images + step, *bounds).astype(images.dtype)
        answers = [ask(ahead[part]).argmax(axis=1) for part in batches(len(ahead), len(x))]
        images, labels = np.concatenate([images, ahead]), np.concatenate([labels, *answers])
    return substitute_for(labels, images, bounds, logits.shape[1])


def to_unit(x: FloatArray, bounds: Bounds) -> FloatArray:
    """Images with their pixels in [0, 1], float32."""
    return np.asarray((x - bounds[0]) / (bounds[1] - bounds[0]), dtype=np.float32)
