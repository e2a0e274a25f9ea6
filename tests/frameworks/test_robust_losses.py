"""MART, TRADES, moved weights, aligned gradients and bounds, in each framework, against NumPy's
sums."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import robust_losses
from small_trainers import STEADY, same, trainer_of

from backends.numpy_backend import NumpyBackend
from harness.data.dataset import one_hot
from harness.networks.initial import initial_weights
from harness.protocol import (
    Architecture,
    Batch,
    BatchNorm,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    Network,
    Optimizer,
    ReLU,
    fully_connected,
)

DENSE = fully_connected((4, 4), (5,), 3)
MAPS = Architecture(
    (4, 4), (Conv(2, (3, 3), padding=((1, 1), (1, 1))), ReLU(), MaxPool((2, 2), (2, 2)),
             Flatten(), Dense(3)), 3,
)  # fmt: skip
RATE = 1e-2


def batch_of(seed=0, **said):
    """Six images with smoothed targets, and all that a loss may want of them."""
    random = np.random.default_rng(seed)
    x, moved, noise = random.random((3, 6, 4, 4), dtype=np.float32)
    targets = one_hot(np.arange(6) % 3, 3) * np.float32(0.85) + np.float32(0.05)
    given = {"trades_beta": {"perturbed": moved}, "mart_lambda": {"perturbed": moved},
             "align_lambda": {"aligned": x, "noisy": noise}}  # fmt: skip
    batch = Batch(x, targets, **said)
    for key in said:
        batch = replace(batch, **given.get(key, {}))
    return batch


KINDS = {
    "plain": {}, "trades": {"trades_beta": 3.0}, "mart": {"mart_lambda": 5.0},
    "awp": {"weight_gamma": 0.2}, "gradalign": {"align_lambda": 0.7},
    "trades-awp": {"trades_beta": 3.0, "weight_gamma": 0.2},
    "mart-awp": {"mart_lambda": 5.0, "weight_gamma": 0.2},
    "gradalign-awp": {"align_lambda": 0.7, "weight_gamma": 0.2},
    "mart-gradalign": {"mart_lambda": 5.0, "align_lambda": 0.7},
    "ibp": {"radius": 0.1, "certified_weight": 0.5},
    "ibp-alone": {"radius": 0.2, "certified_weight": 1.0},
    "ibp-awp": {"radius": 0.1, "certified_weight": 0.5, "weight_gamma": 0.2},
    "ibp-trades": {"radius": 0.1, "certified_weight": 0.3, "trades_beta": 3.0},
    "ibp-gradalign": {"radius": 0.1, "certified_weight": 0.3, "align_lambda": 0.7},
}  # fmt: skip


def weights_of(net, seed=1):
    random = np.random.default_rng(seed)
    return {name: value + random.normal(0, 0.3, value.shape).astype(np.float32)
            for name, value in initial_weights(net, seed).items()}  # fmt: skip


@pytest.mark.parametrize("net", [DENSE, MAPS], ids=["dense", "maps"])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_the_formulas(framework, kind, net):
    """Three steps of Adam: the second and third depend on how long the gradients are. Whatever the
    loss is made of, hits are those of x before the step."""
    optimizer, weights = Optimizer(l2=1e-2, decay=0.1), weights_of(net)
    batches = [batch_of(seed, **KINDS[kind]) for seed in range(3)]
    losses, expected = robust_losses.trained(net, weights, batches, RATE, optimizer)
    trainer = trainer_of(framework, weights, net, optimizer)
    steps = [trainer.step(batch, RATE) for batch in batches]
    np.testing.assert_allclose([step.loss for step in steps], losses, rtol=1e-4)
    for name, value in trainer.model.weights().items():
        np.testing.assert_allclose(value, expected[name], atol=0.02 * RATE)
    logits = NumpyBackend().build(Network(net, weights)).logits(batches[0].x)
    assert steps[0].correct == (logits.argmax(axis=1) == batches[0].targets.argmax(axis=1)).sum()


def test_the_kinds_are_told_apart():
    """Weights after the steps differ by many times what the test above lets pass."""
    ends = {
        kind: robust_losses.trained(
            DENSE, weights_of(DENSE), [batch_of(seed, **said) for seed in range(3)], RATE
        )[1]
        for kind, said in KINDS.items()
    }
    for kind, end in ends.items():
        for other in KINDS:
            gap = max(abs(end[name] - ends[other][name]).max() for name in end)
            assert (kind == other) == (gap < 0.2 * RATE), (kind, other)


def test_moved_weights_come_back_to_the_last_bit(framework):
    weights = weights_of(STEADY)
    trainer = trainer_of(framework, weights, STEADY)
    trainer.step(batch_of(weight_gamma=0.3), 0.0)
    assert same(trainer.model.weights(), weights)


def test_weights_without_gradient_are_not_moved(framework):
    """Dead units: the first layer's gradient is zero, and its direction none."""
    weights = {name: np.full(shape, -1, np.float32)
               for name, shape in DENSE.weight_shapes().items()}  # fmt: skip
    trainer = trainer_of(framework, weights, DENSE)
    loss, _ = trainer.step(batch_of(weight_gamma=0.3), RATE)
    assert np.isfinite(loss)
    found = trainer.model.weights()
    assert all(np.isfinite(value).all() for value in found.values())
    np.testing.assert_array_equal(found["layers.0.weight"], -1)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "plain"])
def test_a_network_that_is_sure_has_finite_gradients(framework, kind):
    """Logits of some thousands, right for some images and wrong for others: the softmax is 0 and 1
    in float32."""
    weights = {name: value * np.float32(100) for name, value in weights_of(DENSE).items()}
    trainer = trainer_of(framework, weights, DENSE)
    for seed in range(2):
        loss, _ = trainer.step(batch_of(seed, **KINDS[kind]), RATE)
        assert np.isfinite(loss)
    assert all(np.isfinite(value).all() for value in trainer.model.weights().values())
    assert not same(trainer.model.weights(), weights)


def test_equal_gradients_are_aligned_and_none_count_as_aligned(framework):
    """A linear network has the same gradient direction for two classes everywhere; a dead one has
    none at all. Neither adds to the loss."""
    linear = fully_connected((4, 4), (), 2)
    dead = fully_connected((4, 4), (5,), 2)
    nets = {"linear": (linear, weights_of(linear)),
            "dead": (dead, {name: np.full(shape, -1, np.float32)
                            for name, shape in dead.weight_shapes().items()})}  # fmt: skip
    batch = replace(batch_of(align_lambda=50.0), targets=one_hot(np.arange(6) % 2, 2))
    for name, (net, weights) in nets.items():
        plain, aligned = (trainer_of(framework, weights, net) for _ in range(2))
        expected = plain.step(Batch(batch.x, batch.targets), RATE).loss
        assert aligned.step(batch, RATE).loss == pytest.approx(expected, abs=1e-4), name
        assert all(np.isfinite(value).all() for value in aligned.model.weights().values()), name


NORMED = Architecture(
    (4, 4), (Conv(2, (3, 3), padding=((1, 1), (1, 1))), BatchNorm(), ReLU(), Flatten(), Dense(3)), 3
)  # fmt: skip


def test_running_statistics_are_those_of_the_pass_with_moved_weights(framework):
    """A step of length zero: what folding changes of the weights is of the statistics alone."""
    weights = weights_of(NORMED)

    def after(*batches):
        trainer = trainer_of(framework, weights, NORMED)
        for batch in batches:
            trainer.step(batch, 0.0)
        return trainer.model.weights()

    plain = after(batch_of())
    # Moved by next to nothing: one update of the statistics, not two.
    slightly, twice = after(batch_of(weight_gamma=1e-6)), after(batch_of(), batch_of())
    far = after(batch_of(weight_gamma=0.5))
    for name, value in plain.items():
        np.testing.assert_allclose(slightly[name], value, rtol=1e-4, atol=1e-5)
    kernel = "layers.0.weight"
    assert abs(twice[kernel] / plain[kernel] - 1).max() > 0.01
    assert abs(far[kernel] / plain[kernel] - 1).max() > 0.001


def test_aligning_leaves_statistics_alone_and_looks_at_the_network_in_inference(framework):
    weights = weights_of(NORMED)
    plain, aligned = (trainer_of(framework, weights, NORMED) for _ in range(2))
    batch = batch_of(align_lambda=0.7)
    for trainer, given in ((plain, Batch(batch.x, batch.targets)), (aligned, batch)):
        trainer.step(given, 0.0)
    assert same(plain.model.weights(), aligned.model.weights())
    # What is added is what the folded network has there.
    folded = {name: value.astype(np.float64) for name, value in plain.model.weights().items()}
    gap = aligned.step(batch, 0.0).loss - plain.step(Batch(batch.x, batch.targets), 0.0).loss
    exact = robust_losses.exact(batch)
    added = robust_losses.loss_of(NORMED.inference, folded, exact) - robust_losses.loss_of(
        NORMED.inference, folded, robust_losses.exact(Batch(batch.x, batch.targets))
    )
    assert gap == pytest.approx(added, rel=1e-3)
