"""Networks of a few units, their trainers, and what tests ask of two sets of weights."""

from __future__ import annotations

import numpy as np

from harness.data.dataset import one_hot
from harness.maths.objectives import ClassLogit, CrossEntropy, LogOdds
from harness.protocol import Batch, Network, Optimizer, Wrapping, fully_connected

NET = fully_connected((4, 4), (8, 6), 3, dropout=0.5)
STEADY = fully_connected((4, 4), (8, 6), 3, dropout=0.0)
NORMED = fully_connected((4, 4), (8, 6), 3, dropout=0.5, batch_norm=True)
NONE = Optimizer()
OBJECTIVES = [CrossEntropy(), LogOdds(), ClassLogit()]


def trainer_of(backend, weights, architecture=NET, optimizer=NONE, seed=0):
    return backend.trainer(
        Network(architecture, weights), Wrapping((0.0, 1.0)), optimizer, seed=seed
    )


def trained(backend, weights, toy, architecture=NET, steps=20, optimizer=NONE, seed=0, rate=1e-2):
    trainer = trainer_of(backend, weights, architecture, optimizer, seed)
    x, y = toy
    outcomes = [trainer.step(Batch(x, one_hot(y, 3)), rate) for _ in range(steps)]
    return trainer.model, outcomes


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)
