"""Networks of layers in Keras: shapes, layouts, weights, and files of Keras's own layers."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_trainers import same, trainer_of

from backends.numpy_backend import NumpyBackend
from harness.data.dataset import one_hot
from harness.maths.objectives import CrossEntropy
from harness.networks.initial import initial_weights
from harness.protocol import (
    Architecture,
    Batch,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    MeanPool,
    Network,
    Optimizer,
    ReLU,
    Residual,
    Scale,
    Wrapping,
    fold_batch_norm,
)

EVEN = ((1, 1), (1, 1))
LAYOUTS = {"grey": ((7, 6), None), "first": ((2, 7, 6), 0), "last": ((7, 6, 2), 2)}
TRUNKS = {
    "strided": (Conv(3, (3, 2), (2, 1), ((0, 1), (2, 0))), ReLU()),
    "same": (Conv(3, (3, 3), padding=EVEN), ReLU(), Conv(2, (4, 4), (2, 2), ((1, 1), (1, 1)))),
    # Of images darkened to zeros many values are equal.
    "max": (MaxPool((2, 3), (1, 1)), Conv(2, (2, 2)), ReLU(), MaxPool((2, 2), (2, 1))),
    "even max": (Conv(2, (2, 3), padding=((0, 0), (1, 1))), ReLU(), MaxPool((2, 2), (2, 2))),
    "padded max": (MaxPool((3, 3), (2, 2), ((1, 0), (0, 2))), Conv(2, (2, 2))),
    "same max": (Conv(2, (2, 2)), MaxPool((3, 3), (1, 1), EVEN)),
    "mean": (Conv(3, (2, 2)), ReLU(), MeanPool((2, 2), (2, 1))),
    "scaled": (Scale(), Conv(3, (3, 3)), ReLU(), Scale()),
    "residual": (
        Conv(3, (1, 1)), Residual((Conv(3, (3, 3), padding=EVEN), ReLU())),
        Residual((Conv(4, (3, 3), (2, 2), EVEN), Scale()), (Conv(4, (1, 1), (2, 2)),)), ReLU(),
    ),
}  # fmt: skip


@pytest.fixture
def keras():
    return at_hand("keras")


def network_of(layers, layout, classes=4, seed=0):
    shape, axis = LAYOUTS[layout]
    net = Architecture(shape, (*layers, Flatten(), Dense(classes)), classes, axis)
    random = np.random.default_rng(seed)
    return Network(net, {name: random.normal(0, 0.5, size).astype(np.float32)
                         for name, size in net.weight_shapes().items()})  # fmt: skip


def images_of(shape, count=5):
    """Images of which the upper half is black."""
    x = np.random.default_rng(1).random((count, *shape))
    x[np.random.default_rng(2).random(x.shape) < 0.5] = 0
    return x


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("trunk", TRUNKS)
def test_logits_and_gradients_are_those_of_numpy(keras, trunk, layout):
    network = network_of(TRUNKS[trunk], layout)
    x, y = images_of(network.architecture.input_shape), np.arange(5) % 4
    exact = NumpyBackend().build(network, dtype="float64")
    expected = exact.logits_and_gradient(x, y, CrossEntropy())
    for dtype, close in (("float64", 1e-12), ("float32", 1e-5)):
        model = keras.build(network, dtype=dtype)
        assert model.channel_axis == network.architecture.channel_axis
        images = model.asarray(x.astype(dtype))
        found = model.logits_and_gradient(images, model.asarray(y), CrossEntropy())
        for ours, theirs in zip(map(model.numpy, found), expected, strict=True):
            assert ours.dtype == dtype
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, atol=close * abs(theirs).max(), rtol=0)
        assert same(model.weights(), {k: v.astype(dtype) for k, v in network.weights.items()})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_steps_are_those_of_numpy(keras, layout):
    """Two steps with penalty and decay, which only matrices and kernels have."""
    network = network_of(TRUNKS["residual"], layout)
    weights = dict(network.weights)
    x = images_of(network.architecture.input_shape).astype(np.float32)
    batch, optimizer = Batch(x, one_hot(np.arange(5) % 4, 4)), Optimizer(l2=0.01, decay=0.5)
    ours, theirs = (
        trainer_of(b, weights, network.architecture, optimizer) for b in (keras, NumpyBackend())
    )
    for rate in (1e-2, 3e-2):
        found, expected = (trainer.step(batch, rate) for trainer in (ours, theirs))
        assert found.loss == pytest.approx(expected.loss, rel=1e-5)
        assert found.correct == expected.correct
    for name, value in theirs.weights().items():
        np.testing.assert_allclose(ours.weights()[name], value, atol=1e-4, rtol=1e-3)


NORMED = (Conv(3, (2, 2)), BatchNorm(), ReLU(), BatchNorm(),
          Residual((Conv(3, (1, 1)), BatchNorm()), (BatchNorm(),)))  # fmt: skip


def test_folded_weights_answer_as_the_network_that_was_trained(keras):
    """With normalisations behind a convolution, and elsewhere, where they become a scale."""
    network = network_of((*NORMED, Dropout(0.3)), "first")
    net, weights = network.architecture, dict(network.weights)
    x = images_of(net.input_shape, 12).astype(np.float32)
    trainer = trainer_of(keras, weights, net)
    losses = [trainer.step(Batch(x, one_hot(np.arange(12) % 4, 4)), 0.02).loss for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    folded = trainer.weights()
    assert list(folded) == list(net.weight_shapes())
    expected = trainer.model.numpy(trainer.model.logits(trainer.model.asarray(x)))
    for model in (keras.build(Network(net, folded)), NumpyBackend().build(Network(net, folded))):
        found = model.numpy(model.logits(model.asarray(x)))
        np.testing.assert_allclose(found, expected, atol=1e-4 * abs(expected).max(), rtol=0)
    plain = trainer.inference(folded)
    assert same(plain.weights(), folded)


def test_maps_are_normalised_by_the_channel(keras):
    """A step of length zero: the running statistics are a tenth of the batch's, and the rest of
    what they began with, 0 and 1; what they are made of are all pixels of a channel."""
    network = network_of((Conv(3, (2, 2)), BatchNorm(), ReLU()), "last")
    net, weights = network.architecture, dict(network.weights)
    x = images_of(net.input_shape, 6)
    trainer = trainer_of(keras, weights, net)
    trainer.step(Batch(x.astype(np.float32), one_hot(np.arange(6) % 4, 4)), 0.0)
    kernel, bias = (weights[f"layers.0.{part}"].astype(np.float64) for part in ("weight", "bias"))
    maps = np.zeros((6, 3, 6, 5))
    for row, column in np.ndindex(2, 2):
        seen = x[:, row : row + 6, column : column + 5]
        maps += np.einsum("nhwi,oi->nohw", seen, kernel[:, :, row, column])
    maps += bias[:, None, None]
    mean, variance = 0.1 * maps.mean(axis=(0, 2, 3)), 0.9 + 0.1 * maps.var(axis=(0, 2, 3))
    expected = fold_batch_norm(kernel, bias, np.ones(3), np.zeros(3), mean, variance)
    for part, value in zip(("weight", "bias"), expected, strict=True):
        np.testing.assert_allclose(trainer.weights()[f"layers.0.{part}"], value, rtol=2e-4)


def test_a_scale_before_a_normalisation_does_not_learn_and_another_does(keras):
    weights = network_of((BatchNorm(), Conv(2, (1, 1)), ReLU(), Scale()), "first")
    trainer = trainer_of(keras, dict(weights.weights), weights.architecture)
    names = [variable.path for variable in trainer.model.net.trainable_variables]
    # One normalisation's scale and shift, kernel and bias, a scale, and the last layer's.
    assert len(names) == 8
    x = images_of((2, 7, 6)).astype(np.float32)
    before = trainer.weights()
    trainer.step(Batch(x, one_hot(np.arange(5) % 4, 4)), 0.05)
    after = trainer.weights()
    assert not np.allclose(before["layers.2.weight"], after["layers.2.weight"], atol=0.04)


def test_dropout_in_maps_is_seeded_and_a_restored_trainer_goes_on(keras):
    layers = (Conv(3, (2, 2)), BatchNorm(), ReLU(), Dropout(0.5), Conv(2, (2, 2)), Dropout(0.5))
    network = network_of(layers, "grey")
    net, weights = network.architecture, dict(network.weights)
    x = images_of(net.input_shape).astype(np.float32)
    moved = x[::-1].copy()
    targets = one_hot(np.arange(5) % 4, 4)
    batches = [
        Batch(x, targets), Batch(x, targets, moved, mart_lambda=5.0, weight_gamma=0.01),
        Batch(x, targets, aligned=x, noisy=moved, align_lambda=0.2),
    ]  # fmt: skip

    def steps(trainer):
        return [trainer.step(batch, 0.01) for batch in batches]

    first, again, other = (trainer_of(keras, weights, net, seed=seed) for seed in (7, 7, 8))
    assert steps(first) == steps(again) != steps(other)
    state = first.state()
    expected = steps(first)
    other.restore(state)
    assert steps(other) == expected
    assert same(other.state(), first.state())


def test_a_saved_network_is_loaded_without_the_harness(keras, tmp_path):
    """All layers are Keras's own, with a padding that only an operation has."""
    import keras as library

    for trunk, layout in (
        ("residual", "first"), ("padded max", "first"), ("scaled", "first"), ("same", "grey"),
    ):  # fmt: skip
        network = network_of(TRUNKS[trunk], layout)
        model = keras.build(network)
        path = tmp_path / f"{trunk}.keras"
        model.net.save(path)
        images = images_of(network.architecture.input_shape).astype(np.float32)
        expected = model.numpy(model.logits(model.asarray(images)))
        found = library.saving.load_model(path, compile=False, safe_mode=True)(images)
        np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-5, atol=1e-5)
        wrapped = keras.load(path, Wrapping())
        np.testing.assert_allclose(
            wrapped.numpy(wrapped.logits(wrapped.asarray(images))), expected, rtol=1e-5, atol=1e-5
        )


def test_building_leaves_the_global_generators_alone(keras):
    """Keras draws seeds from Python's generator."""
    import random

    network = network_of((*NORMED, Dropout(0.3)), "last")
    random.seed(4)
    state = random.getstate()
    keras.build(network)
    keras.trainer(network, Wrapping(), Optimizer(), seed=0)
    assert random.getstate() == state


def test_initial_weights_fit_every_layer(keras):
    network = network_of(TRUNKS["scaled"], "last")
    weights = initial_weights(network.architecture, 0)
    model = keras.build(Network(network.architecture, weights))
    assert same(model.weights(), weights)


@pytest.mark.parametrize("kernel", [(3, 3), (1, 5), (3, 1), (1, 1)])
def test_a_convolution_of_grey_images_has_the_frameworks_gradients(keras, kernel):
    import tensorflow as tf

    from backends.keras_narrow import narrow

    random = np.random.default_rng(0)
    images, weights, flow = (
        tf.constant(random.normal(size=shape))
        for shape in ((2, 5, 6, 1), (*kernel, 1, 3), (2, 5, 6, 3))
    )
    found = []
    for convolve in (narrow, lambda x, w: tf.nn.conv2d(x, w, 1, "SAME")):
        with tf.GradientTape() as tape:
            tape.watch([images, weights])
            answer = convolve(images, weights)
        found.append([answer, *tape.gradient(answer, [images, weights], flow)])
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_which_convolutions_are_computed_so(keras):
    from backends.keras_narrow import is_narrow

    def first(layer, layout="grey"):
        return is_narrow(network_of((layer,), layout).architecture.placed[0])

    assert first(Conv(2, (3, 3), padding=EVEN))
    assert first(Conv(2, (1, 5), padding=((0, 0), (2, 2))))
    assert not first(Conv(2, (3, 3)))
    assert not first(Conv(2, (3, 3), (2, 2), EVEN))
    assert not first(Conv(2, (2, 2), padding=((0, 1), (0, 1))))
    assert not first(Conv(2, (3, 3), padding=EVEN), "first")
    assert not first(MaxPool((3, 3), (1, 1), EVEN))
