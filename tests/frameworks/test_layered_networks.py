"""One description, every backend: logits, gradients and counts of the same networks agree."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from layered import ARCHITECTURES, CLASSES, images_for, layered

from backends.numpy_backend import NumpyBackend
from harness.attacks.fgsm import FGSM
from harness.attacks.sweep import sweep
from harness.data.dataset import one_hot
from harness.maths.objectives import CrossEntropy
from harness.maths.query import correct_count
from harness.networks.initial import initial_weights
from harness.protocol import Batch, Network, Optimizer, Wrapping

EPSILONS = (0.0, 0.01, 0.03, 0.1, 0.3)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_logits_and_gradients_are_numpys(backend, name, dtype, tolerance):
    count = 128 if dtype == "float32" else 8  # JAX compiles for each of a few sizes
    network, x = layered(name), images_for(name, count)
    y = np.arange(count) % CLASSES
    exact = NumpyBackend().build(network, dtype="float64")
    expected = exact.logits_and_gradient(x.astype(np.float64), y, CrossEntropy())
    model = backend.build(network, dtype=dtype)
    images = model.asarray(x)
    found = model.logits_and_gradient(images, model.asarray(y), CrossEntropy())
    for ours, theirs in zip(map(model.numpy, found), expected, strict=True):
        assert ours.dtype == dtype
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, atol=tolerance * abs(theirs).max(), rtol=0)
    alone = model.numpy(model.logits(images))
    np.testing.assert_allclose(alone, expected[0], atol=tolerance * abs(expected[0]).max(), rtol=0)
    np.testing.assert_array_equal(model.numpy(images), x)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weights_come_back_exactly(backend, name):
    network = layered(name)
    model = backend.build(network)
    found = model.weights()
    assert list(found) == list(network.architecture.weight_shapes())
    for key, value in network.weights.items():
        np.testing.assert_array_equal(found[key], value)
    # They are copies.
    for value in found.values():
        value[...] = 0
    for key, value in network.weights.items():
        np.testing.assert_array_equal(model.weights()[key], value)


@cache
def counts(backend: str, name: str) -> list[int]:
    """By epsilon; a backend is a side of several pairs, and asked once."""
    network, x = layered(name, seed=2), images_for(name, 128, seed=3)
    # Labels that the network gives itself, most of them: there is something to lose.
    y = NumpyBackend().build(network).logits(x).argmax(axis=1)
    y[::7] = (y[::7] + 1) % CLASSES
    results = sweep(at_hand(backend).build(network), FGSM(), x, y, EPSILONS)
    return [correct_count(result.predictions, y) for result in results]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("one", "other"), combinations(NAMES, 2))
def test_counts_of_each_pair_are_equal_to_the_image(one, other, name):
    found = counts(one, name)
    assert found == counts(other, name)
    assert found[0] > found[-1]


def learnable(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Images with a bright stripe whose place is the class."""
    x = images_for(name, 100, seed=4) * np.float32(0.4)
    y = np.arange(100) % CLASSES
    axis = 2 if ARCHITECTURES[name].channel_axis == 0 else 1
    for image, label in zip(x, y, strict=True):
        np.moveaxis(image, axis - 1, 0)[2 * label : 2 * label + 2] += np.float32(0.6)
    return x, y


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if not n.startswith("mlp")])
def test_each_learns_and_its_folded_weights_answer_alike(backend, name):
    architecture = ARCHITECTURES[name]
    if backend.name == "numpy" and architecture.inference != architecture:
        architecture = architecture.inference
    x, y = learnable(name)
    network = Network(architecture, initial_weights(architecture, 0))
    trainer = backend.trainer(network, Wrapping(), Optimizer(decay=0.01), seed=0)
    losses = [trainer.step(Batch(x, one_hot(y, CLASSES)), 1e-2).loss for _ in range(100)]
    assert losses[-1] < 0.5 * losses[0]
    # In inference mode the one in training, which normalises by running statistics, answers as
    # the one that has them folded in.
    ours = trainer.model.numpy(trainer.model.logits(trainer.model.asarray(x)))
    folded = NumpyBackend().build(Network(architecture, trainer.weights()), dtype="float64")
    theirs = folded.logits(x.astype(np.float64))
    np.testing.assert_allclose(ours, theirs, atol=1e-4 * abs(theirs).max())
    assert (theirs.argmax(axis=1) == y).mean() > 0.5


# The odd one has what a ResNet has: residual sums, norms and strides.
@pytest.mark.parametrize("name", ["cnn-grey", "odd"])
def test_a_training_goes_on_exactly_from_its_state(backend, name):
    architecture = ARCHITECTURES[name]
    if backend.name == "numpy":
        architecture = architecture.inference
    x, y = learnable(name)
    batch = Batch(x, one_hot(y, CLASSES))

    def begun(seed):
        network = Network(architecture, initial_weights(architecture, seed))
        return backend.trainer(network, Wrapping(), Optimizer(), seed=0)

    first = begun(0)
    for _ in range(3):
        first.step(batch, 1e-2)
    kept = first.state()
    ahead = [first.step(batch, 1e-2).loss for _ in range(3)]
    second = begun(1)
    second.restore(kept)
    assert [second.step(batch, 1e-2).loss for _ in range(3)] == pytest.approx(ahead, rel=1e-6)
