"""The certified loss in each framework: sound, and of every kind of layer what NumPy's sums say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import robust_losses
from backends_at_hand import at_hand
from layered import ARCHITECTURES, CLASSES, images_for, layered
from small_trainers import STEADY, same, trainer_of

from harness.data.dataset import one_hot
from harness.networks.initial import initial_weights
from harness.protocol import (
    Architecture,
    Batch,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MeanPool,
    Network,
    ReLU,
    Residual,
    fully_connected,
)

RATE = 1e-2
NORMED = Architecture(
    (4, 4), (Conv(2, (3, 3), padding=((1, 1), (1, 1))), BatchNorm(), ReLU(), Flatten(), Dense(3)), 3
)  # fmt: skip
ENDS = {
    "mean": Architecture(
        (4, 4), (Conv(3, (3, 3), padding=((1, 1), (1, 1))), MeanPool((4, 4), (4, 4)), Flatten()), 3
    ),
    "norm": Architecture((4, 4), (Flatten(), Dense(5), ReLU(), Dense(3), BatchNorm()), 3),
    "residual": Architecture(
        (4, 4), (Flatten(), Dense(3), Residual((Dense(4), ReLU(), Dense(3)))), 3
    ),
}  # fmt: skip
"""Networks whose last layer is no ``Dense``."""


def undropped(layers):
    """Layers in which nothing is dropped."""
    return tuple(
        Dropout(0.0) if isinstance(layer, Dropout)
        else Residual(undropped(layer.branch), undropped(layer.shortcut))
        if isinstance(layer, Residual) else layer
        for layer in layers
    )  # fmt: skip


def steady(name):
    """A network of every kind of layer, without dropout."""
    network = layered(name)
    made = network.architecture
    return Network(replace(made, layers=undropped(made.layers)), network.weights)


def batch_for(x, classes, **said):
    """Images with smoothed targets, all of whose loss is certified."""
    targets = one_hot(np.arange(len(x)) % classes, classes) * np.float32(0.9)
    said = {"radius": 0.05, "certified_weight": 1.0} | said
    return Batch(x, targets + np.float32(0.1 / classes), **said)


def noisy(architecture, seed=1):
    """Weights whose biases are not zero."""
    random = np.random.default_rng(seed)
    return {name: value + random.normal(0, 0.3, value.shape).astype(np.float32)
            for name, value in initial_weights(architecture, seed).items()}  # fmt: skip


def tiny(seed=0, count=6):
    return np.random.default_rng(seed).random((count, 4, 4), dtype=np.float32)


def oracle(architecture, weights, batch):
    return robust_losses.loss_of(architecture.inference, weights, robust_losses.exact(batch))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_layer_has_the_bounds_of_numpys_sums(framework, name):
    network = steady(name)
    batch = batch_for(images_for(name, 10), CLASSES)
    expected = robust_losses.loss_of(
        network.architecture, network.weights, robust_losses.exact(batch)
    )
    trainer = trainer_of(framework, network.weights, network.architecture)
    assert trainer.step(batch, 0.0).loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ENDS)
def test_networks_that_end_in_no_dense_layer(framework, name):
    net = ENDS[name]
    weights, batch = noisy(net), batch_for(tiny(), 3)
    expected = robust_losses.loss_of(net, weights, robust_losses.exact(batch))
    trainer = trainer_of(framework, weights, net)
    assert trainer.step(batch, 0.0).loss == pytest.approx(expected, rel=1e-4)
    trainer.step(batch, RATE)
    assert trainer.step(batch, 0.0).loss < expected


@pytest.mark.parametrize(
    ("name", "radius"),
    [("mlp-colour", 0.2), ("cnn-mean", 0.2), ("resnet-last", 0.2), ("odd", 0.2), ("odd", 0.01)],
)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_no_image_of_the_ball_has_a_larger_loss(backend, name, radius):
    """With one class a target, the certified loss bounds the cross-entropy of every image there.

    That is so of the formula, which NumPy computes, and with which every framework agrees above.
    """
    network, x = steady(name), images_for(name, 6)
    architecture = network.architecture
    labels = np.arange(len(x)) % CLASSES
    batch = Batch(x, one_hot(labels, CLASSES).astype(np.float32), radius=radius,
                  certified_weight=1.0)  # fmt: skip
    if backend == "numpy":
        bound = robust_losses.loss_of(architecture, network.weights, robust_losses.exact(batch))
    else:
        trainer = trainer_of(at_hand(backend), network.weights, architecture)
        bound = trainer.step(batch, 0.0).loss
    weights = robust_losses.normalised(architecture, network.weights, x)
    random, worst = np.random.default_rng(7), np.full(len(x), -np.inf)
    rows = np.arange(len(x))
    model = robust_losses.NumpyBackend().build(
        Network(architecture.inference, weights), dtype="float64"
    )
    for draw in range(40):
        noise = random.uniform(-1, 1, x.shape)
        moved = np.clip(x + radius * (np.sign(noise) if draw % 2 else noise), 0, 1)
        logs = robust_losses.log_softmax(model.logits(moved))
        worst = np.maximum(worst, -logs[rows, labels])
    assert worst.mean() <= bound * (1 + 1e-5)


@pytest.mark.parametrize("weight", [0.4, 1.0])
def test_steps_with_batch_normalisation_are_those_of_the_formulas(framework, weight):
    """The losses of four steps: gradients pass through the batch's mean and variance."""
    weights = noisy(NORMED)
    batches = [batch_for(tiny(seed), 3, certified_weight=weight) for seed in range(4)]
    beside = {"layers.0.scale": np.ones(2), "layers.0.shift": np.zeros(2)}
    expected, _ = robust_losses.trained(NORMED, weights | beside, batches, RATE)
    trainer = trainer_of(framework, weights, NORMED)
    found = [trainer.step(batch, RATE).loss for batch in batches]
    np.testing.assert_allclose(found, expected, rtol=2e-4)


def test_bounds_leave_running_statistics_alone(framework):
    weights = noisy(NORMED)
    plain, certified = (trainer_of(framework, weights, NORMED) for _ in range(2))
    batch = batch_for(tiny(), 3, certified_weight=0.5)
    for trainer, given in ((plain, Batch(batch.x, batch.targets)), (certified, batch)):
        trainer.step(given, 0.0)
    for name, value in plain.model.weights().items():
        np.testing.assert_allclose(certified.model.weights()[name], value, rtol=1e-5, atol=1e-6)


def test_nothing_is_dropped_out_of_bounds(framework):
    """Half of all units are dropped; the certified loss is the same in each step all the same."""
    dropping = fully_connected((4, 4), (8, 6), 3, dropout=0.5)
    weights, batch = noisy(dropping), batch_for(tiny(), 3)
    trainer = trainer_of(framework, weights, dropping)
    first, second = (trainer.step(batch, 0.0).loss for _ in range(2))
    assert first == pytest.approx(second, rel=1e-6)
    assert first == pytest.approx(oracle(dropping, weights, batch), rel=1e-4)


def test_a_ball_of_no_size_has_the_loss_of_its_image(framework):
    weights, batch = noisy(STEADY), batch_for(tiny(), 3, radius=0.0)
    plain = trainer_of(framework, weights, STEADY).step(Batch(batch.x, batch.targets), RATE).loss
    found = trainer_of(framework, weights, STEADY).step(batch, RATE).loss
    assert found == pytest.approx(plain, rel=1e-5)


def test_a_loss_without_weight_changes_nothing(framework):
    weights, batch = noisy(STEADY), batch_for(tiny(), 3, certified_weight=0.0)
    plain, warming = (trainer_of(framework, weights, STEADY) for _ in range(2))
    plain.step(Batch(batch.x, batch.targets), RATE)
    warming.step(batch, RATE)
    assert same(plain.model.weights(), warming.model.weights())


def test_the_last_layer_is_folded_with_the_difference_of_logits():
    """One unit between 1 and 3; logits 2 h and h: bounds apart are 2·1 - 3 < 0, together 1."""
    net = fully_connected((1,), (1,), 2)
    weights = {
        "layers.0.weight": np.array([[1.0]]), "layers.0.bias": np.array([0.0]),
        "layers.1.weight": np.array([[2.0], [1.0]]), "layers.1.bias": np.array([0.0, 0.0]),
    }  # fmt: skip
    found = robust_losses.margins(
        net, weights, np.array([[2.0]]), np.array([0]), 1.0, pixels=(0, 5)
    )
    np.testing.assert_allclose(found, [[0.0, 1.0]])


def test_the_ball_ends_where_pixels_do(framework):
    """Black images may only become brighter, so a ball of twice the size reaches as far."""
    net = fully_connected((4, 4), (), 3)
    weights, x = noisy(net), np.zeros((3, 4, 4), np.float32)
    grey = trainer_of(framework, weights, net).step(batch_for(x + 0.5, 3, radius=0.5), 0.0).loss
    black = trainer_of(framework, weights, net).step(batch_for(x, 3, radius=1.0), 0.0).loss
    assert black == pytest.approx(grey, rel=1e-5)
