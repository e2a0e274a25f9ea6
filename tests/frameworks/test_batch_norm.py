"""Batch normalisation: trained by PyTorch and Keras, folded into weights for every backend."""

from __future__ import annotations

import math

import numpy as np
import pytest
from small_trainers import NET, NORMED, one_line, same, trained, trainer_of

from backends.numpy_backend import NumpyBackend
from harness.data.dataset import one_hot
from harness.errors import BackendError
from harness.maths.objectives import LogOdds
from harness.protocol import Batch, Network, Optimizer, fold_batch_norm, fully_connected


def test_folding_by_hand():
    """Factor 3 / √(3.99999 + 1e-5) = 1.5: (2x + 1 - 4) · 1.5 + 0.5 = 3x - 4."""
    weight, bias = fold_batch_norm(
        np.array([[2.0, 4.0], [1.0, 0.0]]), np.array([1.0, 2.0]), np.array([3.0, 1.0]),
        np.array([0.5, 0.0]), np.array([4.0, 2.0]), np.array([4 - 1e-5, 1 - 1e-5]),
    )  # fmt: skip
    np.testing.assert_allclose(weight, [[3, 6], [1, 0]], rtol=1e-12)
    np.testing.assert_allclose(bias, [-4, 0], atol=1e-12)


def test_folded_weights_answer_as_the_network_that_was_trained(framework, weights, toy, images):
    model, _ = trained(framework, weights, toy, NORMED, steps=15)
    expected = model.numpy(model.logits(model.asarray(images)))
    folded = model.weights()
    assert list(folded) == list(NORMED.weight_shapes())
    assert {value.dtype for value in folded.values()} == {np.dtype(np.float32)}
    for backend in (framework, NumpyBackend()):
        plain = backend.build(Network(NORMED, folded))
        found = plain.numpy(plain.logits(plain.asarray(images)))
        np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max(), rtol=0)
    # Without the statistics it would be another network.
    assert abs(expected).max() > 0.1
    assert not np.allclose(folded["layers.0.weight"], weights["layers.0.weight"], rtol=0.01)


def test_folded_weights_before_the_first_step(framework, weights):
    """Mean 0 and variance 1, scale 1 and shift 0: divided by √(1 + 1e-5)."""
    found = trainer_of(framework, weights, NORMED).model.weights()
    for name, value in weights.items():
        factor = 1 / math.sqrt(1 + 1e-5) if "layers.2" not in name else 1
        np.testing.assert_allclose(found[name], value * factor, rtol=1e-6)


def test_the_loss_of_a_step_is_that_of_the_normalised_batch(framework, weights, images, labels):
    net = fully_connected((4, 4), (8, 6), 3, batch_norm=True)
    values = images.reshape(12, -1).astype(np.float64)
    for layer in range(3):
        values = values @ weights[f"layers.{layer}.weight"].T + weights[f"layers.{layer}.bias"]
        if layer < 2:
            values = (values - values.mean(axis=0)) / np.sqrt(values.var(axis=0) + 1e-5)
            values = np.maximum(values, 0)
    expected = (np.log(np.exp(values).sum(axis=1)) - values[np.arange(12), labels]).mean()
    loss, hits = trainer_of(framework, weights, net).step(Batch(images, one_hot(labels, 3)), 1e-3)
    assert loss == pytest.approx(expected, rel=1e-4)
    assert hits == (values.argmax(axis=1) == labels).sum()


def test_scales_and_shifts_do_not_decay(framework, weights):
    """Of dark images all are alike, so normalised they are zero, and the scale has no gradient.

    The running variance is 0.9 · 1 + 0.1 · 0, and the running mean a tenth of the bias.
    """
    trainer = trainer_of(framework, weights, NORMED, Optimizer(decay=0.5))
    trainer.step(Batch(np.zeros((4, 4, 4), np.float32), np.full((4, 3), 1 / 3, np.float32)), 0.1)
    np.testing.assert_allclose(
        trainer.model.weights()["layers.0.weight"],
        weights["layers.0.weight"] * 0.95 / math.sqrt(0.9 + 1e-5), rtol=1e-5,
    )  # fmt: skip


def test_asking_a_model_in_training_updates_no_statistics(framework, weights, toy, images):
    model, _ = trained(framework, weights, toy, NORMED, steps=2)
    before = model.weights()
    x = model.asarray(images)
    first, again = (model.numpy(model.logits(x)) for _ in range(2))
    model.logits_and_gradient(x, model.asarray(np.zeros(12, np.int64)), LogOdds())
    np.testing.assert_array_equal(first, again)
    assert same(model.weights(), before)


def test_numpy_refuses_to_train_batch_normalisation_and_builds_it(weights, images):
    with pytest.raises(BackendError) as error:
        trainer_of(NumpyBackend(), weights, NORMED)
    assert "batch normalisation" in one_line(error)
    model = NumpyBackend().build(Network(NORMED, weights))
    np.testing.assert_array_equal(
        model.logits(images), NumpyBackend().build(Network(NET, weights)).logits(images)
    )
