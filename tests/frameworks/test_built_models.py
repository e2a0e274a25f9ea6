"""Models that a backend builds: protocol, weights in and out, and NumPy's logits and gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from small_trainers import NET, OBJECTIVES, same, trained

from backends.numpy_backend import NumpyBackend
from harness import registry
from harness.attacks.fgsm import FGSM
from harness.maths.objectives import CrossEntropy, Divergence, LogOdds
from harness.protocol import GRADIENT, Network, Wrapping, fully_connected, is_model
from harness.results.records import Epoch
from harness.training.loop import Trained
from harness.training.store import read_model, write_model


def test_a_built_model_keeps_to_the_protocol(backend, weights):
    model = backend.build(Network(NET, weights), Wrapping((-1.0, 2.0)))
    assert is_model(model)
    assert model.bounds == (-1.0, 2.0)
    assert model.capabilities == {GRADIENT}
    assert registry.backend(backend.name) is backend
    assert backend.versions()
    assert all(version[0].isdigit() for version in backend.versions().values())


def test_weights_come_back_exactly(backend, weights):
    found = backend.build(Network(NET, weights)).weights()
    assert same(found, weights)
    assert list(found) == list(NET.weight_shapes())
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}


def test_weights_in_and_out_are_copies(backend, weights, images):
    given = {name: value.copy() for name, value in weights.items()}
    model = backend.build(Network(NET, given))
    for value in (*given.values(), *model.weights().values()):
        value[...] = 0
    assert same(model.weights(), weights)
    assert model.numpy(model.logits(model.asarray(images))).any()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_logits_and_gradients_are_numpys(
    backend, weights, images, labels, objective, dtype, tolerance
):
    exact = NumpyBackend().build(Network(NET, weights), dtype="float64")
    model = backend.build(Network(NET, weights), dtype=dtype)
    expected = exact.logits_and_gradient(images.astype(np.float64), labels, objective)
    found = model.logits_and_gradient(model.asarray(images), model.asarray(labels), objective)
    for ours, theirs in zip(map(model.numpy, found), expected, strict=True):
        assert ours.dtype == dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=tolerance * abs(theirs).max(), rtol=0)
    alone = model.numpy(model.logits(model.asarray(images)))
    np.testing.assert_allclose(alone, expected[0], atol=tolerance * abs(expected[0]).max(), rtol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_labels_may_be_distributions(backend, weights, images, labels, dtype, tolerance):
    given = np.random.default_rng(1).dirichlet(np.ones(3), len(images))
    model = backend.build(Network(NET, weights), dtype=dtype)
    exact = NumpyBackend().build(Network(NET, weights), dtype="float64")
    x = images.astype(np.float64)
    expected = exact.logits_and_gradient(x, given, Divergence())
    # Labels before and after: one kind must not be taken for the other.
    for y, objective in ((labels, LogOdds()), (given, Divergence()), (labels, LogOdds())):
        found = model.logits_and_gradient(model.asarray(images), model.asarray(y), objective)
        theirs = exact.logits_and_gradient(x, y, objective)
        for ours, other in zip(map(model.numpy, found), theirs, strict=True):
            assert ours.dtype == dtype
            np.testing.assert_allclose(ours, other, atol=tolerance * abs(other).max(), rtol=0)
    value = Divergence().value(
        model.xp, model.asarray(expected[0].astype(dtype)), model.asarray(given)
    )
    np.testing.assert_allclose(
        model.numpy(value), Divergence().value(np, expected[0], given), atol=1e-5
    )


@pytest.mark.parametrize("target", NAMES)
def test_weights_saved_by_one_backend_load_in_every_other(
    backend, target, weights, toy, images, tmp_path
):
    model, _ = trained(backend, weights, toy, steps=2)
    epoch = Epoch(epoch=1, loss=1, accuracy=1, validation_loss=1, validation_accuracy=1,
                  learning_rate=1, seconds=1)  # fmt: skip
    write_model(tmp_path / "m.safetensors", Trained(model.weights(), 1, (epoch,)))
    stored = read_model(tmp_path / "m.safetensors", NET)
    other = at_hand(target).build(Network(NET, stored.weights))
    assert same(other.weights(), model.weights())
    first, second = (m.numpy(m.logits(m.asarray(images))) for m in (model, other))
    np.testing.assert_allclose(second, first, atol=1e-5 * abs(first).max(), rtol=0)


def test_read_only_images_are_accepted_and_left_alone(backend, weights, images, labels):
    given, before = images.copy(), images.copy()
    given.flags.writeable = labels.flags.writeable = False
    model = backend.build(Network(NET, weights))
    x, y = model.asarray(given), model.asarray(labels)
    model.logits(x)
    model.logits_and_gradient(x, y, CrossEntropy())
    np.testing.assert_array_equal(given, before)


def test_images_of_any_float_become_the_models_and_labels_int64(backend, weights, images):
    model = backend.build(Network(NET, weights))
    assert model.numpy(model.asarray(images.astype(np.float64))).dtype == np.float32
    for kind in (np.uint8, np.int32, np.int64):
        assert model.numpy(model.asarray(np.array([0, 2], kind))).dtype == np.int64


def test_a_batch_of_another_size_and_of_one(backend, weights, images, labels):
    model = backend.build(Network(NET, weights))
    for count in (12, 1, 5):
        x, y = model.asarray(images[:count]), model.asarray(labels[:count])
        logits, gradient = model.logits_and_gradient(x, y, CrossEntropy())
        assert model.numpy(logits).shape == (count, 3)
        assert model.numpy(gradient).shape == (count, 4, 4)


def test_a_confident_answer_still_has_a_gradient(backend):
    """Logits (40, 0) of class 0: p₁ = 1 / (e⁴⁰ + 1), where p₀ - 1 is zero in float32."""
    weights = {"layers.0.weight": np.array([[40.0], [0.0]], np.float32),
               "layers.0.bias": np.zeros(2, np.float32)}  # fmt: skip
    model = backend.build(Network(fully_connected((1,), (), 2), weights))
    x, y = model.asarray(np.ones((1, 1), np.float32)), model.asarray(np.array([0]))
    logits, gradient = model.logits_and_gradient(x, y, CrossEntropy())
    np.testing.assert_array_equal(model.numpy(logits), [[40, 0]])
    np.testing.assert_allclose(model.numpy(gradient), [[-40 / (math.exp(40) + 1)]], rtol=1e-5)
    (moved,) = FGSM().perturb(model, x, y, [0.25], index=np.arange(1))
    np.testing.assert_array_equal(model.numpy(moved), [[0.75]])


def test_attacks_stay_within_the_models_bounds(backend):
    """With gradient -40 · p₁ < 0 every pixel falls by ε, but not below the lower bound."""
    weights = {"layers.0.weight": np.array([[4.0], [0.0]], np.float32),
               "layers.0.bias": np.zeros(2, np.float32)}  # fmt: skip
    model = backend.build(Network(fully_connected((1,), (), 2), weights), Wrapping((-1.0, 1.0)))
    x = model.asarray(np.array([[1.0], [0.0], [-0.75]], np.float32))
    y = model.asarray(np.zeros(3, np.int64))
    moved = FGSM().perturb(model, x, y, [0.0, 0.5], index=np.arange(3))
    expected = [[[1.0], [0.0], [-0.75]], [[0.5], [-0.5], [-1.0]]]
    np.testing.assert_array_equal([model.numpy(batch) for batch in moved], expected)
