"""Which outputs of Keras and TensorFlow networks are the logits, and on which device they are."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_keras import SHAPE, X, gradient_of, module, seeded, tape_of, wrapped
from small_trainers import one_line

import harness
from harness.errors import BackendError, MeasurementError
from harness.protocol import Network, Wrapping

# Outputs


class Answer:
    def __init__(self, logits):
        self.logits, self.features = logits, logits[:, :1]


OUTPUTS = {
    "tuple": (lambda z: (z, z[:, :1]), None), "list": (lambda z: [z, -z], None),
    "logits of a dict": (lambda z: {"aux": -z, "logits": z}, None),
    "only one of a dict": (lambda z: {"scores": z}, None),
    "one of a dict by name": (lambda z: {"aux": -z, "main": z}, "main"),
    "object": (Answer, None),
}  # fmt: skip


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_logits_among_several_outputs(kind):
    outputs, name = OUTPUTS[kind]
    plain = module()
    found = gradient_of(wrapped(module(outputs), output=name))
    for ours, theirs in zip(found, tape_of(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def two_heads(names):
    import keras

    x = images = keras.Input(SHAPE)
    x = keras.layers.Flatten()(x)
    return seeded(keras.Model(images, [keras.layers.Dense(2 + i, name=name)(x)
                                       for i, name in enumerate(names)]))  # fmt: skip


def test_outputs_of_keras_models_have_the_names_of_their_layers():
    at_hand("keras")
    x = X[:3]
    net = two_heads(["first", "second"])
    first, second = (np.asarray(each) for each in net(x))
    for name, expected in ((None, first), ("first", first), ("second", second)):
        model = wrapped(net, output=name)
        np.testing.assert_allclose(model.logits(model.asarray(x)), expected, atol=1e-5)
    net = two_heads(["aux", "logits"])
    model = wrapped(net)
    np.testing.assert_allclose(model.logits(model.asarray(x)), net(x)[1], atol=1e-5)
    with pytest.raises(MeasurementError) as error:
        wrapped(net, output="head").logits(model.asarray(x))
    assert "no output 'head'; its outputs are aux, logits" in one_line(error)


def test_outputs_without_logits_say_how_to_choose_one():
    model = wrapped(module(lambda z: {"a": z, "b": z}))
    with pytest.raises(MeasurementError) as error:
        model.logits(model.asarray(X))
    assert "a, b; say which are the logits: output='NAME'" in one_line(error)


@pytest.mark.parametrize("flat", [False, True])
def test_one_logit_is_two_classes_of_which_the_first_is_minus_zero(flat):
    """The sign of the zero has to outlive the optimisation of the graph."""
    column = np.random.default_rng(2).standard_normal((108, 1)).astype(np.float32)
    net = module((lambda z: z[:, 0]) if flat else (lambda z: z), variables=column)
    model = wrapped(net)
    z = X.reshape(10, 108) @ column
    expected = np.concatenate([np.zeros_like(z), z], axis=1)
    logits, gradient = gradient_of(model, y=np.ones(10, np.int64))
    for found in (logits, model.numpy(model.logits(model.asarray(X)))):
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.signbit(found[:, 0]).all()
    # The logit of the second class rises by the column.
    np.testing.assert_allclose(gradient, np.tile(column.reshape(1, *SHAPE), (10, 1, 1, 1)),
                               atol=1e-6)  # fmt: skip
    run = harness.evaluate(model, X, (z[:, 0] > 0).astype(int), epsilons=[0.1])
    assert run.records[0].correct == 10


# Devices


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("cuda", "device: cuda is not here; there is cpu"),
        ("cuda:3", "device: cuda:3 is not here; there is cpu"),
        ("mps", "device: mps is PyTorch's; with Keras and TensorFlow say cpu or cuda"),
        ("tpu", "device: 'tpu' is none of cpu, cuda, cuda:N; there is cpu"),
    ],
)
def test_a_device_that_is_not_here_is_one_line(device, said, weights):
    from small_trainers import NET, NONE

    backend = at_hand("keras")
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU") and device.startswith("cuda"):
        pytest.skip("there is a GPU")
    how, network = Wrapping(device=device), Network(NET, weights)
    for ask in (
        lambda: backend.wrap(module(), how), lambda: backend.build(network, how),
        lambda: backend.trainer(network, how, NONE, 0),
    ):  # fmt: skip
        with pytest.raises(BackendError) as error:
            ask()
        assert one_line(error) == said


def test_the_cpu_may_be_said(weights):
    from small_trainers import NET

    backend = at_hand("keras")
    free, said = (backend.build(Network(NET, weights), Wrapping(device=d)) for d in (None, "cpu"))
    x = np.random.default_rng(0).random((5, 4, 4), dtype=np.float32)
    np.testing.assert_array_equal(said.logits(said.asarray(x)), free.logits(free.asarray(x)))
    assert said.about().device == "cpu"
