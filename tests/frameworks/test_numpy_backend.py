"""The oracle itself: networks computed by hand, finite differences, Adam's first steps."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backends.numpy_backend import NumpyBackend, NumpyModel, NumpyTrainer, one_hot
from backends.numpy_layers import Pass
from harness.data.dataset import one_hot as targets_of
from harness.errors import BackendError
from harness.maths.objectives import ClassLogit, CrossEntropy
from harness.networks.initial import initial_weights
from harness.protocol import (
    UNIT,
    Architecture,
    Batch,
    Dense,
    Dropout,
    Network,
    Optimizer,
    Wrapping,
    fully_connected,
    is_model,
)

# Two pixels, two hidden units, two classes.
TINY = fully_connected((2,), (2,), 2)
WEIGHTS = {
    "layers.0.weight": np.array([[1.0, 2.0], [-3.0, 1.0]]),
    "layers.0.bias": np.array([0.5, 0.25]),
    "layers.1.weight": np.array([[2.0, 1.0], [-1.0, 4.0]]),
    "layers.1.bias": np.array([0.0, -1.0]),
}


def tiny(dtype="float64"):
    return NumpyBackend().build(Network(TINY, WEIGHTS), dtype=dtype)


# Inference


def test_logits_of_two_images_by_hand():
    x = np.array([[0.5, 0.25], [0.0, 1.0]])
    # Before ReLU: (0.5 + 0.5 + 0.5, -1.5 + 0.25 + 0.25), and (2.5, 1.25).
    assert tiny().logits(x).tolist() == [[3.0, -2.5], [6.25, 1.5]]


def test_the_gradient_of_a_logit_by_hand():
    x = np.array([[0.5, 0.25], [0.0, 1.0], [0.0, 1.0]])
    logits, gradient = tiny().logits_and_gradient(x, np.array([1, 0, 1]), ClassLogit())
    assert logits.tolist() == [[3.0, -2.5], [6.25, 1.5], [6.25, 1.5]]
    # The second hidden unit of the first image is off, so only -1 * (1, 2) comes through;
    # else 2 * (1, 2) + 1 * (-3, 1), and -1 * (1, 2) + 4 * (-3, 1).
    assert gradient.tolist() == [[-1.0, -2.0], [-1.0, 5.0], [-13.0, 2.0]]


def test_the_gradient_of_cross_entropy_by_hand():
    _, gradient = tiny().logits_and_gradient(np.array([[0.0, 1.0]]), np.array([0]), CrossEntropy())
    wrong = 1 / (1 + math.exp(6.25 - 1.5))
    # The probability of the wrong class, times the gradient of its logit minus the true one's.
    np.testing.assert_allclose(gradient, [[wrong * (-13 + 1), wrong * (2 - 5)]], rtol=1e-12)


def test_a_hidden_unit_at_exactly_zero_is_off():
    x = np.array([[0.25, 0.5]])  # the second unit: -0.75 + 0.5 + 0.25
    _, gradient = tiny().logits_and_gradient(x, np.array([0]), ClassLogit())
    assert gradient.tolist() == [[2.0, 4.0]]


@settings(deadline=None, max_examples=25, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(3,), (2, 3)]),
    hidden=st.sampled_from([(), (5,), (4, 3)]),
    objective=st.sampled_from([CrossEntropy(), ClassLogit()]),
)
def test_input_gradients_are_those_of_finite_differences(seed, shape, hidden, objective):
    architecture = fully_connected(shape, hidden, 3)
    model = NumpyBackend().build(
        Network(architecture, initial_weights(architecture, seed)), dtype="float64"
    )
    rng = np.random.default_rng(seed)
    x, y, step = rng.random((2, *shape)), rng.integers(3, size=2), 1e-8

    def values(images):
        return objective.value(np, model.logits(images), one_hot(y, 3))

    _, gradient = model.logits_and_gradient(x, y, objective)
    assert gradient.shape == x.shape
    for pixel in np.ndindex(shape):
        nudge = np.zeros(shape)
        nudge[pixel] = step
        expected = (values(x + nudge) - values(x - nudge)) / (2 * step)
        np.testing.assert_allclose(gradient[(slice(None), *pixel)], expected, atol=1e-5)


def test_the_dtype_is_that_of_the_model():
    for dtype in ("float32", "float64"):
        model = tiny(dtype)
        x, y = (
            model.asarray(np.array([[0.5, 0.25]], np.float64)),
            model.asarray(np.array([0], "u1")),
        )
        assert (x.dtype, y.dtype) == (dtype, np.int64)
        assert {a.dtype.name for a in model.logits_and_gradient(x, y, CrossEntropy())} == {dtype}
        assert {w.dtype.name for w in model.weights().values()} == {dtype}


def test_weights_are_copies_both_ways():
    given_weights = {name: value.copy() for name, value in WEIGHTS.items()}
    model = NumpyBackend().build(Network(TINY, given_weights), dtype="float64")
    for value in (*given_weights.values(), *model.weights().values()):
        value[...] = 99
    assert set(model.weights()) == set(WEIGHTS)
    for name, value in WEIGHTS.items():
        np.testing.assert_array_equal(model.weights()[name], value)


def test_weights_rebuild_the_model():
    architecture = fully_connected((2, 2), (3, 5), 4)
    weights = initial_weights(architecture, seed=1)
    model = NumpyBackend().build(Network(architecture, weights))
    assert {n: w.shape for n, w in model.weights().items()} == architecture.weight_shapes()
    again = NumpyBackend().build(Network(architecture, model.weights()))
    x = np.random.default_rng(0).random((3, 2, 2), dtype=np.float32)
    np.testing.assert_array_equal(again.logits(x), model.logits(x))


def test_neither_images_nor_weights_are_changed_by_being_asked():
    model = tiny()
    x = np.array([[0.5, 0.25], [0.0, 1.0]])
    x.flags.writeable = False
    model.logits(x)
    model.logits_and_gradient(x, np.array([0, 1]), CrossEntropy())
    assert all(np.array_equal(model.weights()[name], WEIGHTS[name]) for name in WEIGHTS)


def test_the_backend_makes_models_of_the_protocol():
    backend = NumpyBackend()
    model = backend.build(Network(TINY, WEIGHTS), Wrapping((-1.0, 1.0)))
    assert is_model(model)
    assert model.bounds == (-1.0, 1.0)
    assert model.logits(np.zeros((1, 2), np.float32)).dtype == np.float32
    assert backend.versions() == {"numpy": np.__version__}
    with pytest.raises(BackendError, match=r"^list: [^\n]+$"):
        backend.wrap([], UNIT)


# Training


def exact_trainer(architecture, weights, l2=0.0, seed=0):
    """A trainer in float64, so that it can be compared with finite differences."""
    model = NumpyModel(architecture, weights, (0.0, 1.0), "float64")
    return NumpyTrainer(model, architecture, Optimizer(l2), seed)


def training_loss(model, x, y, l2):
    """Mean cross-entropy plus L2 penalty of the matrices, from its definition."""
    logits = model.logits(x)
    log_sum = np.log(np.exp(logits).sum(axis=1))
    penalty = sum((w**2).sum() for n, w in model.weights().items() if n.endswith("weight"))
    return (log_sum - logits[np.arange(len(y)), y]).mean() + l2 * penalty


def captured_gradients(trainer, x, y):
    """The gradients that a step hands to Adam, under the names of the weights."""
    found = {}
    trainer._adam = lambda gradients, learning_rate: found.update(gradients)
    trainer.step(Batch(x, targets_of(y, trainer.architecture.classes)), 1.0)
    return found


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_training_gradients_are_those_of_finite_differences_of_the_loss(l2):
    architecture = fully_connected((3,), (4, 3), 3)
    weights = {n: w.astype(float) for n, w in initial_weights(architecture, seed=2).items()}
    rng = np.random.default_rng(0)
    for name in weights:
        weights[name] += 0.1 * rng.standard_normal(weights[name].shape)
    x, y, step = rng.random((5, 3)), np.array([0, 2, 1, 1, 0]), 1e-6
    gradients = captured_gradients(exact_trainer(architecture, weights, l2), x, y)
    assert set(gradients) == set(weights)
    for name, value in weights.items():
        for at in np.ndindex(value.shape):
            sides = []
            for sign in (1, -1):
                nudged = {n: w.copy() for n, w in weights.items()}
                nudged[name][at] += sign * step
                model = NumpyBackend().build(Network(architecture, nudged), dtype="float64")
                sides.append(training_loss(model, x, y, l2))
            expected = (sides[0] - sides[1]) / (2 * step)
            assert gradients[name][at] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("l2", [0.0, 0.5])
def test_a_step_returns_the_loss_and_the_hits_from_before_it(l2):
    x, y = np.array([[0.5, 0.25], [0.0, 1.0], [0.0, 1.0]]), np.array([0, 0, 1])
    loss, hits = exact_trainer(TINY, WEIGHTS, l2).step(Batch(x, targets_of(y, 2)), 0.1)
    # Margins 5.5, 4.75 and -4.75; the squared weights sum to 15 and 22.
    expected = sum(math.log1p(math.exp(-m)) for m in (5.5, 4.75, -4.75)) / 3 + l2 * (15 + 22)
    assert loss == pytest.approx(expected, rel=1e-12)
    assert hits == 2


def test_the_first_step_of_adam_is_the_learning_rate_against_the_sign_of_the_gradient():
    trainer = exact_trainer(TINY, WEIGHTS)
    x, y = np.array([[0.0, 1.0]]), np.array([1])
    gradients = captured_gradients(exact_trainer(TINY, WEIGHTS), x, y)
    trainer.step(Batch(x, targets_of(y, 2)), 0.01)
    for name, now in trainer.model.weights().items():
        gradient = gradients[name]
        step = 0.01 * gradient / (np.abs(gradient) + 1e-8)
        np.testing.assert_allclose(now, WEIGHTS[name] - step, rtol=1e-12)
        assert np.abs(step).max() == pytest.approx(0.01, rel=1e-5)
    # The first pixel is dark, so nothing is learnt about it.
    assert trainer.model.weights()["layers.0.weight"][:, 0].tolist() == [1.0, -3.0]


def test_later_steps_of_adam_are_those_of_the_algorithm():
    trainer = exact_trainer(fully_connected((1,), (), 2), {
        "layers.0.weight": np.array([[1.0], [2.0]]), "layers.0.bias": np.zeros(2),
    })  # fmt: skip
    parameter, mean, square = trainer.model.named["layers.0.bias"], np.zeros(2), np.zeros(2)
    expected = parameter.copy()
    for t, gradient in enumerate(([1.0, -2.0], [0.5, 3.0], [-4.0, 0.0]), start=1):
        g = np.array(gradient)
        trainer._adam({"layers.0.weight": np.zeros((2, 1)), "layers.0.bias": g}, 0.1)
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        unbiased = mean / (1 - 0.9**t), square / (1 - 0.999**t)
        expected -= 0.1 * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        np.testing.assert_allclose(parameter, expected, rtol=1e-12)


def test_training_lowers_the_loss_and_the_model_sees_it():
    architecture = fully_connected((4,), (16,), 2, dropout=0.2)
    rng = np.random.default_rng(0)
    x = rng.random((64, 4), dtype=np.float32)
    y = (x[:, 0] > x[:, 1]).astype(np.int64)
    trainer = NumpyBackend().trainer(
        Network(architecture, initial_weights(architecture, 0)),
        Wrapping((0.0, 1.0)),
        Optimizer(),
        seed=0,
    )
    before = training_loss(trainer.model, x, y, 0.0)
    for _ in range(150):
        trainer.step(Batch(x, targets_of(y, 2)), 0.01)
    assert training_loss(trainer.model, x, y, 0.0) < 0.5 * before
    assert (trainer.model.logits(x).argmax(axis=1) == y).mean() > 0.9


def test_the_loss_of_a_hopeless_example_is_finite():
    weights = {"layers.0.weight": np.array([[1e4], [-1e4]]), "layers.0.bias": np.zeros(2)}
    trainer = NumpyBackend().trainer(
        Network(fully_connected((1,), (), 2), weights), Wrapping((0.0, 1.0)), Optimizer(), seed=0
    )
    loss, hits = trainer.step(Batch(np.ones((1, 1), np.float32), np.array([[0.0, 1.0]])), 0.1)
    assert math.isfinite(loss)
    assert loss > 50
    assert hits == 0


@pytest.mark.parametrize("dropout", [0.0, 0.2, 0.5])
def test_dropout_keeps_the_mean_and_drops_its_share(dropout):
    # The logits are the pixels, once some are dropped.
    architecture = Architecture((500,), (Dropout(dropout), Dense(500)), 500)
    weights = {
        "layers.0.weight": np.eye(500, dtype=np.float32),
        "layers.0.bias": np.zeros(500, np.float32),
    }
    x = np.ones((200, 500), np.float32)
    mask, _ = Pass(weights, np.random.default_rng(0)).network(architecture, x)
    assert mask.dtype == np.float32
    assert mask.mean() == pytest.approx(1.0, abs=0.02)
    assert (mask == 0).mean() == pytest.approx(dropout, abs=0.01)
    np.testing.assert_allclose(np.unique(mask[mask > 0]), [1 / (1 - dropout)], rtol=1e-6)


def test_a_dropped_unit_neither_speaks_nor_learns(monkeypatch):
    trainer = exact_trainer(fully_connected((2,), (2,), 2, dropout=0.5), WEIGHTS)
    random = SimpleNamespace(random=lambda shape: np.array([[0.0, 0.5]]))
    monkeypatch.setattr(np.random, "default_rng", lambda seed: random)
    x, y = np.array([[0.0, 1.0]]), np.array([0])
    # The first unit counts twice, 2 * 2.5, and the second not at all: logits (10, -6).
    gradients = captured_gradients(trainer, x, y)
    wrong = 1 / (1 + math.exp(16))
    np.testing.assert_allclose(gradients["layers.1.weight"], [[-5 * wrong, 0], [5 * wrong, 0]])
    np.testing.assert_allclose(gradients["layers.0.weight"], [[0, -6 * wrong], [0, 0]])
    assert trainer.step(Batch(x, targets_of(y, 2)), 0.0)[0] == pytest.approx(
        math.log1p(math.exp(-16)), rel=1e-9
    )


def test_dropout_follows_the_seed_and_is_off_in_inference():
    architecture = fully_connected((2,), (8,), 2, dropout=0.5)
    x, y = np.array([[0.5, 0.25], [0.0, 1.0]], np.float32), np.array([0, 1])

    def losses(seed):
        trainer = NumpyBackend().trainer(
            Network(architecture, initial_weights(architecture, 0)),
            Wrapping((0.0, 1.0)),
            Optimizer(),
            seed=seed,
        )
        model = trainer.model
        np.testing.assert_array_equal(model.logits(x), model.logits(x))
        return [trainer.step(Batch(x, targets_of(y, 2)), 0.01)[0] for _ in range(4)]

    assert losses(1) == losses(1)
    assert losses(1) != losses(2)


def test_training_changes_neither_the_given_weights_nor_the_images():
    x = np.array([[0.5, 0.25]], np.float32)
    x.flags.writeable = False
    weights = {name: value.astype(np.float32) for name, value in WEIGHTS.items()}
    trainer = NumpyBackend().trainer(
        Network(TINY, weights), Wrapping((0.0, 1.0)), Optimizer(l2=0.1), seed=0
    )
    trainer.step(Batch(x, np.array([[0.0, 1.0]])), 0.1)
    for name, value in weights.items():
        np.testing.assert_array_equal(value, WEIGHTS[name])
        assert not np.array_equal(trainer.model.weights()[name], value)


def test_one_hot_marks_the_label_of_each_row():
    mask = one_hot(np.array([2, 0]), 3)
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[False, False, True], [True, False, False]]
