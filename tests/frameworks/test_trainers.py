"""Trainers of every backend, against NumPy's and sums done by hand: steps, state, and TRADES."""

from __future__ import annotations

import math

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_trainers import NET, NORMED, STEADY, same, trained, trainer_of

from backends.numpy_backend import NumpyBackend
from harness.data.dataset import one_hot
from harness.networks.initial import initial_weights
from harness.protocol import Batch, Network, Optimizer, fully_connected

# Training


def test_a_step_answers_with_loss_and_hits_before_it(backend, weights, images, labels):
    exact = NumpyBackend().build(Network(STEADY, weights), dtype="float64")
    logits = exact.logits(images.astype(np.float64))
    cross_entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), labels]
    penalty = sum((value.astype(np.float64) ** 2).sum()
                  for name, value in weights.items() if name.endswith("weight"))  # fmt: skip
    trainer = trainer_of(backend, weights, STEADY, Optimizer(l2=0.01))
    loss, correct = trainer.step(Batch(images, one_hot(labels, 3)), 1e-3)
    assert (type(loss), type(correct)) == (float, int)
    assert loss == pytest.approx(cross_entropy.mean() + 0.01 * penalty, rel=1e-5)
    assert correct == (logits.argmax(axis=1) == labels).sum()


def test_the_first_step_of_adam_moves_each_weight_by_the_learning_rate(backend):
    """One image x = (1, 0.5), logits 0: the gradient of W is (p - onehot) ⊗ x = ±(0.5, 0.25)."""
    weights = {"layers.0.weight": np.zeros((2, 2), np.float32),
               "layers.0.bias": np.zeros(2, np.float32)}  # fmt: skip
    x, targets = np.array([[1.0, 0.5]], np.float32), one_hot(np.array([0]), 2)
    trainer = trainer_of(backend, weights, fully_connected((2,), (), 2))
    loss, _ = trainer.step(Batch(x, targets), 0.125)
    assert loss == pytest.approx(math.log(2))
    found = trainer.model.weights()
    np.testing.assert_allclose(found["layers.0.weight"], [[0.125] * 2, [-0.125] * 2], rtol=1e-5)
    np.testing.assert_allclose(found["layers.0.bias"], [0.125, -0.125], rtol=1e-5)


def test_without_dropout_every_backend_trains_alike(backend, weights, toy):
    ours, outcomes = trained(backend, weights, toy, STEADY, steps=5, optimizer=Optimizer(l2=1e-3))
    theirs, expected = trained(
        NumpyBackend(), weights, toy, STEADY, steps=5, optimizer=Optimizer(l2=1e-3)
    )
    np.testing.assert_allclose(outcomes, expected, rtol=1e-4)
    for name, value in ours.weights().items():
        np.testing.assert_allclose(value, theirs.weights()[name], atol=1e-4)


def test_the_learning_rate_is_that_of_the_step(backend, weights, toy):
    trainer, batch = trainer_of(backend, weights, STEADY), Batch(toy[0], one_hot(toy[1], 3))
    trainer.step(batch, 1e-2)
    before = trainer.model.weights()
    trainer.step(batch, 0.0)
    assert same(trainer.model.weights(), before)
    trainer.step(batch, 1e-2)
    assert not same(trainer.model.weights(), before)


def test_training_reduces_the_loss_and_learns(backend, weights, toy):
    model, outcomes = trained(backend, weights, toy, steps=60)
    assert outcomes[-1][0] < 0.5 * outcomes[0][0]
    x, y = toy
    assert (model.numpy(model.logits(model.asarray(x))).argmax(axis=1) == y).mean() > 0.95


def test_the_seed_decides_the_dropout_masks(backend, weights, toy):
    first, again, other = (
        trained(backend, weights, toy, seed=seed)[0].weights() for seed in (7, 7, 8)
    )
    assert same(first, again)
    assert not same(first, other)


def test_without_dropout_the_seed_changes_nothing(backend, weights, toy):
    first, other = (trained(backend, weights, toy, STEADY, seed=s)[0].weights() for s in (7, 8))
    assert same(first, other)


def test_dropout_is_inverted(backend):
    """Of 4,000 equal units half are dropped and the others doubled, so the mean logit stays."""
    width = 4000
    net = fully_connected((1,), (width,), 2, dropout=0.5)
    weights = {name: np.zeros(shape, np.float32) for name, shape in net.weight_shapes().items()}
    weights["layers.0.bias"][:] = 1
    weights["layers.1.weight"][0] = 1 / width
    trainer = trainer_of(backend, weights, net)
    x, y = np.zeros((64, 1), np.float32), np.ones(64, np.int64)
    loss, _ = trainer.step(Batch(x, one_hot(y, 2)), 1e-6)
    # Logits (m, 0) of class 1, with m = 1 ± 0.016: the loss is log(1 + eᵐ).
    assert loss == pytest.approx(math.log(1 + math.e), abs=0.01)


def test_a_penalty_on_weights_makes_them_smaller(backend, weights, toy):
    def size(l2):
        model, _ = trained(backend, weights, toy, STEADY, steps=50, optimizer=Optimizer(l2=l2))
        return sum((v**2).sum() for name, v in model.weights().items() if name.endswith("weight"))

    assert size(0.1) < size(0.01) < size(0.0)


def test_after_a_training_step_the_model_answers_in_inference_mode(backend, weights, toy, images):
    model, _ = trained(backend, weights, toy, steps=1)
    x = model.asarray(images)
    first, second = (model.numpy(model.logits(x)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    oracle = NumpyBackend().build(Network(NET, model.weights()), dtype="float64")
    np.testing.assert_allclose(first, oracle.logits(images.astype(np.float64)), atol=1e-5)


def test_training_leaves_the_initial_weights_alone(backend, weights, toy):
    before = {name: value.copy() for name, value in weights.items()}
    trained(backend, weights, toy, steps=1)
    assert same(before, weights)


def test_weight_decay_shrinks_the_weights_and_nothing_else(backend, weights):
    """Dark images have no gradient for the first layer, and two equal targets next to none for
    the biases: what is left is the factor 1 - 0.1 · 0.5 a step."""
    trainer = trainer_of(backend, weights, STEADY, Optimizer(decay=0.5))
    targets = np.full((4, 3), 1 / 3, np.float32)
    for _ in range(2):
        trainer.step(Batch(np.zeros((4, 4, 4), np.float32), targets), 0.1)
    found = trainer.model.weights()
    np.testing.assert_allclose(
        found["layers.0.weight"], weights["layers.0.weight"] * 0.95**2, rtol=1e-5
    )
    other = trainer_of(backend, weights, STEADY)
    for _ in range(2):
        other.step(Batch(np.zeros((4, 4, 4), np.float32), targets), 0.1)
    assert same({"w": other.model.weights()["layers.0.weight"]}, {"w": weights["layers.0.weight"]})


def test_biases_do_not_decay(backend):
    """Dead units: neither their weights nor their biases have a gradient."""
    net = fully_connected((2,), (3,), 2)
    weights = {name: np.full(shape, -1, np.float32) for name, shape in net.weight_shapes().items()}
    trainer = trainer_of(backend, weights, net, Optimizer(decay=0.5))
    trainer.step(Batch(np.ones((2, 2), np.float32), one_hot(np.array([0, 1]), 2)), 0.1)
    found = trainer.model.weights()
    np.testing.assert_allclose(found["layers.0.weight"], -0.95, rtol=1e-6)
    np.testing.assert_allclose(found["layers.1.weight"], -0.95, rtol=1e-6)
    np.testing.assert_array_equal(found["layers.0.bias"], -1)


def test_decay_and_l2_are_different_things(backend, weights, toy):
    first, second = (
        trained(backend, weights, toy, STEADY, optimizer=p)[0].weights()
        for p in (Optimizer(l2=0.1), Optimizer(decay=0.1))
    )
    assert not same(first, second)


def test_soft_targets_by_hand(backend):
    """Logits 0, targets (0.75, 0.25): the loss is log 2, and the first class is the right one."""
    weights = {"layers.0.weight": np.zeros((2, 1), np.float32),
               "layers.0.bias": np.array([1.0, 0.0], np.float32)}  # fmt: skip
    trainer = trainer_of(backend, weights, fully_connected((1,), (), 2))
    x, targets = np.zeros((2, 1), np.float32), np.array([[0.75, 0.25], [0.25, 0.75]], np.float32)
    loss, hits = trainer.step(Batch(x, targets), 0.1)
    assert loss == pytest.approx(math.log(1 + math.e) - 0.5, rel=1e-6)
    assert hits == 1


def test_a_model_for_inference_has_the_given_weights_and_leaves_the_trainer_alone(
    backend, weights, toy, images
):
    trainer, batch = trainer_of(backend, weights), Batch(toy[0], one_hot(toy[1], 3))
    trainer.step(batch, 1e-2)
    before = trainer.model.weights()
    other = {name: value + 1 for name, value in weights.items()}
    for given in (other, weights):
        model = trainer.inference(given)
        expected = backend.build(Network(NET, given))
        np.testing.assert_allclose(
            model.numpy(model.logits(model.asarray(images))),
            expected.numpy(expected.logits(expected.asarray(images))), rtol=1e-5, atol=1e-5,
        )  # fmt: skip
        assert same(model.weights(), given)
    assert same(trainer.model.weights(), before)


def test_training_in_torch_leaves_the_global_generator_alone():
    backend = at_hand("torch")
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    net = fully_connected((4,), (8,), 3, dropout=0.5)
    weights = initial_weights(net, 0)
    trainer = trainer_of(backend, weights, net)
    trainer.step(Batch(np.zeros((2, 4), dtype=np.float32), one_hot(np.array([0, 1]), 3)), 0.1)
    assert torch.equal(torch.rand(3), expected)


# State


@pytest.mark.filterwarnings("error::DeprecationWarning")
@pytest.mark.parametrize("kind", ["plain", "normed"])
def test_a_restored_trainer_takes_exactly_the_same_steps(backend, weights, toy, kind):
    net = NORMED if kind == "normed" else NET
    if backend.name == "numpy":
        net = NET
    x, targets = toy[0], one_hot(toy[1], 3)
    trainer, other = (
        trainer_of(backend, weights, net, Optimizer(l2=1e-3, decay=0.1), seed=7) for _ in range(2)
    )
    moved = None if backend.name == "numpy" else x[::-1].copy()

    def steps(one, first, count):
        outcomes = []
        for number in range(first, first + count):
            some = slice(number % 4 * 32, number % 4 * 32 + 32)
            extra = () if moved is None else (moved[some], 2.0)
            outcomes.append(one.step(Batch(x[some], targets[some], *extra), 0.01 / (number + 1)))
        return outcomes

    steps(trainer, 0, 3)
    state = trainer.state()
    assert all(isinstance(value, np.ndarray) for value in state.values())
    kept = {key: value.copy() for key, value in state.items()}
    steps(other, 5, 1)  # it has been elsewhere
    other.restore(state)
    assert same(other.model.weights(), trainer.model.weights())
    assert same(other.state(), kept)
    for number in range(3, 8):
        assert steps(trainer, number, 1) == steps(other, number, 1)
        assert same(other.model.weights(), trainer.model.weights())
    assert same(other.state(), trainer.state())
    # What was handed out is a copy.
    assert same(state, kept)


# TRADES


LINEAR = {"layers.0.weight": np.array([[1.0, -0.5], [0.25, 0.75], [-1.0, 0.5]], np.float32),
          "layers.0.bias": np.array([0.1, -0.2, 0.3], np.float32)}  # fmt: skip


def trades_loss(named, x, targets, perturbed, beta):
    """Cross-entropy of x, and β · KL(softmax f(x) || softmax f(perturbed)), from their sums."""

    def log_softmax(images):
        logits = images @ named["layers.0.weight"].T + named["layers.0.bias"]
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    ours, theirs = log_softmax(x), log_softmax(perturbed)
    cross_entropy = -(targets * ours).sum(axis=1)
    divergence = (np.exp(ours) * (ours - theirs)).sum(axis=1)
    return (cross_entropy + beta * divergence).mean()


@pytest.mark.parametrize("beta", [3.0, 0.5])
def test_a_step_of_trades_by_hand(framework, beta):
    x = np.array([[0.5, 0.25], [1.0, 0.0]], np.float32)
    perturbed = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    targets = one_hot(np.array([0, 2]), 3)
    exact = {name: value.astype(np.float64) for name, value in LINEAR.items()}
    expected = trades_loss(exact, x, targets, perturbed, beta)
    assert expected != pytest.approx(trades_loss(exact, perturbed, targets, x, beta), rel=0.01)
    trainer = trainer_of(framework, LINEAR, fully_connected((2,), (), 3))
    loss, hits = trainer.step(Batch(x, targets, perturbed, beta), 1e-3)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert hits == 1  # of the clean images
    # Adam's first step goes by the learning rate against the sign of the gradient.
    for name, value in exact.items():
        for at in np.ndindex(value.shape):
            sides = []
            for step in (1e-6, -1e-6):
                nudged = {key: other.copy() for key, other in exact.items()}
                nudged[name][at] += step
                sides.append(trades_loss(nudged, x, targets, perturbed, beta))
            slope = (sides[0] - sides[1]) / 2e-6
            assert abs(slope) > 1e-3
            moved = trainer.model.weights()[name][at] - LINEAR[name][at]
            assert moved == pytest.approx(-1e-3 * np.sign(slope), rel=1e-3)


def test_without_a_pull_or_a_difference_trades_is_plain_training(framework, weights, toy):
    x, targets = toy[0], one_hot(toy[1], 3)
    losses = []
    for extra in ((), (x, 3.0), (x[::-1].copy(), 0.0)):
        trainer = trainer_of(framework, weights, STEADY)
        losses.append([trainer.step(Batch(x, targets, *extra), 0.01)[0] for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)
