"""Every backend against the protocol, against NumPy, and against sums done by hand."""

from __future__ import annotations

import math

import backends_at_hand
import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand

from backends.numpy_backend import NumpyBackend
from harness import registry
from harness.attacks.fgsm import FGSM
from harness.data.dataset import one_hot
from harness.errors import BackendError
from harness.maths.objectives import ClassLogit, CrossEntropy, Divergence, LogOdds
from harness.networks.initial import initial_weights
from harness.protocol import (
    GRADIENT,
    TRAIN,
    WEIGHTS,
    Architecture,
    Model,
    Penalties,
    fold_batch_norm,
)
from harness.results.records import Epoch
from harness.training.loop import Trained
from harness.training.store import read_model, write_model

NET = Architecture((4, 4), (8, 6), 3, dropout=0.5)
STEADY = Architecture((4, 4), (8, 6), 3, dropout=0.0)
NONE = Penalties()
OBJECTIVES = [CrossEntropy(), LogOdds(), ClassLogit()]


@pytest.fixture(params=NAMES)
def backend(request):
    return at_hand(request.param)


@pytest.fixture(scope="module")
def weights():
    random = np.random.default_rng(3)
    named = initial_weights(NET, seed=1)
    return {name: value + random.normal(0, 0.1, value.shape).astype(np.float32)
            for name, value in named.items()}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(5).random((12, 4, 4), dtype=np.float32)


@pytest.fixture(scope="module")
def labels():
    return np.arange(12) % 3


@pytest.fixture(scope="module")
def toy():
    """Two classes of 4 × 4 images, bright on the left or on the right, of 64 each."""
    random = np.random.default_rng(0)
    x = random.random((128, 4, 4), dtype=np.float32) * np.float32(0.5)
    y = np.arange(128) % 2
    x[y == 0, :, :2] += np.float32(0.5)
    x[y == 1, :, 2:] += np.float32(0.5)
    return x, y


def trainer_of(backend, weights, architecture=NET, penalties=NONE, seed=0):
    return backend.trainer(architecture, weights, bounds=(0.0, 1.0), penalties=penalties, seed=seed)


def trained(backend, weights, toy, architecture=NET, steps=20, penalties=NONE, seed=0, rate=1e-2):
    trainer = trainer_of(backend, weights, architecture, penalties, seed)
    x, y = toy
    outcomes = [trainer.step(x, one_hot(y, 3), rate) for _ in range(steps)]
    return trainer.model, outcomes


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


# Models


def test_a_built_model_keeps_to_the_protocol(backend, weights):
    model = backend.build(NET, weights, bounds=(-1.0, 2.0))
    assert isinstance(model, Model)
    assert model.bounds == (-1.0, 2.0)
    assert model.capabilities == {GRADIENT, TRAIN, WEIGHTS}
    assert registry.backend(backend.name) is backend
    assert backend.versions()
    assert all(version[0].isdigit() for version in backend.versions().values())


def test_weights_come_back_exactly(backend, weights):
    found = backend.build(NET, weights).weights()
    assert same(found, weights)
    assert list(found) == list(NET.weight_shapes())
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}


def test_weights_in_and_out_are_copies(backend, weights, images):
    given = {name: value.copy() for name, value in weights.items()}
    model = backend.build(NET, given)
    for value in (*given.values(), *model.weights().values()):
        value[...] = 0
    assert same(model.weights(), weights)
    assert model.numpy(model.logits(model.asarray(images))).any()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.name)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_logits_and_gradients_are_numpys(
    backend, weights, images, labels, objective, dtype, tolerance
):
    exact = NumpyBackend().build(NET, weights, dtype="float64")
    model = backend.build(NET, weights, dtype=dtype)
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
    model = backend.build(NET, weights, dtype=dtype)
    exact = NumpyBackend().build(NET, weights, dtype="float64")
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
    other = at_hand(target).build(NET, stored.weights)
    assert same(other.weights(), model.weights())
    first, second = (m.numpy(m.logits(m.asarray(images))) for m in (model, other))
    np.testing.assert_allclose(second, first, atol=1e-5 * abs(first).max(), rtol=0)


def test_read_only_images_are_accepted_and_left_alone(backend, weights, images, labels):
    given, before = images.copy(), images.copy()
    given.flags.writeable = labels.flags.writeable = False
    model = backend.build(NET, weights)
    x, y = model.asarray(given), model.asarray(labels)
    model.logits(x)
    model.logits_and_gradient(x, y, CrossEntropy())
    np.testing.assert_array_equal(given, before)


def test_images_of_any_float_become_the_models_and_labels_int64(backend, weights, images):
    model = backend.build(NET, weights)
    assert model.numpy(model.asarray(images.astype(np.float64))).dtype == np.float32
    for kind in (np.uint8, np.int32, np.int64):
        assert model.numpy(model.asarray(np.array([0, 2], kind))).dtype == np.int64


def test_a_batch_of_another_size_and_of_one(backend, weights, images, labels):
    model = backend.build(NET, weights)
    for count in (12, 1, 5):
        x, y = model.asarray(images[:count]), model.asarray(labels[:count])
        logits, gradient = model.logits_and_gradient(x, y, CrossEntropy())
        assert model.numpy(logits).shape == (count, 3)
        assert model.numpy(gradient).shape == (count, 4, 4)


def test_a_confident_answer_still_has_a_gradient(backend):
    """Logits (40, 0) of class 0: p₁ = 1 / (e⁴⁰ + 1), where p₀ - 1 is zero in float32."""
    weights = {"layers.0.weight": np.array([[40.0], [0.0]], np.float32),
               "layers.0.bias": np.zeros(2, np.float32)}  # fmt: skip
    model = backend.build(Architecture((1,), (), 2), weights)
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
    model = backend.build(Architecture((1,), (), 2), weights, bounds=(-1.0, 1.0))
    x = model.asarray(np.array([[1.0], [0.0], [-0.75]], np.float32))
    y = model.asarray(np.zeros(3, np.int64))
    moved = FGSM().perturb(model, x, y, [0.0, 0.5], index=np.arange(3))
    expected = [[[1.0], [0.0], [-0.75]], [[0.5], [-0.5], [-1.0]]]
    np.testing.assert_array_equal([model.numpy(batch) for batch in moved], expected)


# Training


def test_a_step_answers_with_loss_and_hits_before_it(backend, weights, images, labels):
    exact = NumpyBackend().build(STEADY, weights, dtype="float64")
    logits = exact.logits(images.astype(np.float64))
    cross_entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), labels]
    penalty = sum((value.astype(np.float64) ** 2).sum()
                  for name, value in weights.items() if name.endswith("weight"))  # fmt: skip
    trainer = trainer_of(backend, weights, STEADY, Penalties(l2=0.01))
    loss, correct = trainer.step(images, one_hot(labels, 3), 1e-3)
    assert (type(loss), type(correct)) == (float, int)
    assert loss == pytest.approx(cross_entropy.mean() + 0.01 * penalty, rel=1e-5)
    assert correct == (logits.argmax(axis=1) == labels).sum()


def test_the_first_step_of_adam_moves_each_weight_by_the_learning_rate(backend):
    """One image x = (1, 0.5), logits 0: the gradient of W is (p - onehot) ⊗ x = ±(0.5, 0.25)."""
    weights = {"layers.0.weight": np.zeros((2, 2), np.float32),
               "layers.0.bias": np.zeros(2, np.float32)}  # fmt: skip
    x, targets = np.array([[1.0, 0.5]], np.float32), one_hot(np.array([0]), 2)
    trainer = trainer_of(backend, weights, Architecture((2,), (), 2))
    loss, _ = trainer.step(x, targets, 0.125)
    assert loss == pytest.approx(math.log(2))
    found = trainer.model.weights()
    np.testing.assert_allclose(found["layers.0.weight"], [[0.125] * 2, [-0.125] * 2], rtol=1e-5)
    np.testing.assert_allclose(found["layers.0.bias"], [0.125, -0.125], rtol=1e-5)


def test_without_dropout_every_backend_trains_alike(backend, weights, toy):
    ours, outcomes = trained(backend, weights, toy, STEADY, steps=5, penalties=Penalties(l2=1e-3))
    theirs, expected = trained(
        NumpyBackend(), weights, toy, STEADY, steps=5, penalties=Penalties(l2=1e-3)
    )
    np.testing.assert_allclose(outcomes, expected, rtol=1e-4)
    for name, value in ours.weights().items():
        np.testing.assert_allclose(value, theirs.weights()[name], atol=1e-4)


def test_the_learning_rate_is_that_of_the_step(backend, weights, toy):
    trainer, batch = trainer_of(backend, weights, STEADY), (toy[0], one_hot(toy[1], 3))
    trainer.step(*batch, 1e-2)
    before = trainer.model.weights()
    trainer.step(*batch, 0.0)
    assert same(trainer.model.weights(), before)
    trainer.step(*batch, 1e-2)
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
    net = Architecture((1,), (width,), 2, dropout=0.5)
    weights = {name: np.zeros(shape, np.float32) for name, shape in net.weight_shapes().items()}
    weights["layers.0.bias"][:] = 1
    weights["layers.1.weight"][0] = 1 / width
    trainer = trainer_of(backend, weights, net)
    x, y = np.zeros((64, 1), np.float32), np.ones(64, np.int64)
    loss, _ = trainer.step(x, one_hot(y, 2), 1e-6)
    # Logits (m, 0) of class 1, with m = 1 ± 0.016: the loss is log(1 + eᵐ).
    assert loss == pytest.approx(math.log(1 + math.e), abs=0.01)


def test_a_penalty_on_weights_makes_them_smaller(backend, weights, toy):
    def size(l2):
        model, _ = trained(backend, weights, toy, STEADY, steps=50, penalties=Penalties(l2=l2))
        return sum((v**2).sum() for name, v in model.weights().items() if name.endswith("weight"))

    assert size(0.1) < size(0.01) < size(0.0)


def test_after_a_training_step_the_model_answers_in_inference_mode(backend, weights, toy, images):
    model, _ = trained(backend, weights, toy, steps=1)
    x = model.asarray(images)
    first, second = (model.numpy(model.logits(x)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    oracle = NumpyBackend().build(NET, model.weights(), dtype="float64")
    np.testing.assert_allclose(first, oracle.logits(images.astype(np.float64)), atol=1e-5)


def test_training_leaves_the_initial_weights_alone(backend, weights, toy):
    before = {name: value.copy() for name, value in weights.items()}
    trained(backend, weights, toy, steps=1)
    assert same(before, weights)


def test_weight_decay_shrinks_the_weights_and_nothing_else(backend, weights):
    """Dark images have no gradient for the first layer, and two equal targets next to none for
    the biases: what is left is the factor 1 - 0.1 · 0.5 a step."""
    trainer = trainer_of(backend, weights, STEADY, Penalties(decay=0.5))
    targets = np.full((4, 3), 1 / 3, np.float32)
    for _ in range(2):
        trainer.step(np.zeros((4, 4, 4), np.float32), targets, 0.1)
    found = trainer.model.weights()
    np.testing.assert_allclose(
        found["layers.0.weight"], weights["layers.0.weight"] * 0.95**2, rtol=1e-5
    )
    other = trainer_of(backend, weights, STEADY)
    for _ in range(2):
        other.step(np.zeros((4, 4, 4), np.float32), targets, 0.1)
    assert same({"w": other.model.weights()["layers.0.weight"]}, {"w": weights["layers.0.weight"]})


def test_biases_do_not_decay(backend):
    """Dead units: neither their weights nor their biases have a gradient."""
    net = Architecture((2,), (3,), 2)
    weights = {name: np.full(shape, -1, np.float32) for name, shape in net.weight_shapes().items()}
    trainer = trainer_of(backend, weights, net, Penalties(decay=0.5))
    trainer.step(np.ones((2, 2), np.float32), one_hot(np.array([0, 1]), 2), 0.1)
    found = trainer.model.weights()
    np.testing.assert_allclose(found["layers.0.weight"], -0.95, rtol=1e-6)
    np.testing.assert_allclose(found["layers.1.weight"], -0.95, rtol=1e-6)
    np.testing.assert_array_equal(found["layers.0.bias"], -1)


def test_decay_and_l2_are_different_things(backend, weights, toy):
    first, second = (
        trained(backend, weights, toy, STEADY, penalties=p)[0].weights()
        for p in (Penalties(l2=0.1), Penalties(decay=0.1))
    )
    assert not same(first, second)


def test_soft_targets_by_hand(backend):
    """Logits 0, targets (0.75, 0.25): the loss is log 2, and the first class is the right one."""
    weights = {"layers.0.weight": np.zeros((2, 1), np.float32),
               "layers.0.bias": np.array([1.0, 0.0], np.float32)}  # fmt: skip
    trainer = trainer_of(backend, weights, Architecture((1,), (), 2))
    x, targets = np.zeros((2, 1), np.float32), np.array([[0.75, 0.25], [0.25, 0.75]], np.float32)
    loss, hits = trainer.step(x, targets, 0.1)
    assert loss == pytest.approx(math.log(1 + math.e) - 0.5, rel=1e-6)
    assert hits == 1


def test_a_model_for_inference_has_the_given_weights_and_leaves_the_trainer_alone(
    backend, weights, toy, images
):
    trainer, batch = trainer_of(backend, weights), (toy[0], one_hot(toy[1], 3))
    trainer.step(*batch, 1e-2)
    before = trainer.model.weights()
    other = {name: value + 1 for name, value in weights.items()}
    for given in (other, weights):
        model = trainer.inference(given)
        expected = backend.build(NET, given)
        np.testing.assert_allclose(
            model.numpy(model.logits(model.asarray(images))),
            expected.numpy(expected.logits(expected.asarray(images))), rtol=1e-5, atol=1e-5,
        )  # fmt: skip
        assert same(model.weights(), given)
    assert same(trainer.model.weights(), before)


# Batch normalisation


NORMED = Architecture((4, 4), (8, 6), 3, dropout=0.5, batch_norm=True)


@pytest.fixture(params=["torch", "keras"])
def framework(request):
    return at_hand(request.param)


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
        plain = backend.build(NORMED, folded)
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
    net = Architecture((4, 4), (8, 6), 3, batch_norm=True)
    values = images.reshape(12, -1).astype(np.float64)
    for layer in range(3):
        values = values @ weights[f"layers.{layer}.weight"].T + weights[f"layers.{layer}.bias"]
        if layer < 2:
            values = (values - values.mean(axis=0)) / np.sqrt(values.var(axis=0) + 1e-5)
            values = np.maximum(values, 0)
    expected = (np.log(np.exp(values).sum(axis=1)) - values[np.arange(12), labels]).mean()
    loss, hits = trainer_of(framework, weights, net).step(images, one_hot(labels, 3), 1e-3)
    assert loss == pytest.approx(expected, rel=1e-4)
    assert hits == (values.argmax(axis=1) == labels).sum()


def test_scales_and_shifts_do_not_decay(framework, weights):
    """Of dark images all are alike, so normalised they are zero, and the scale has no gradient.

    The running variance is 0.9 · 1 + 0.1 · 0, and the running mean a tenth of the bias.
    """
    trainer = trainer_of(framework, weights, NORMED, Penalties(decay=0.5))
    trainer.step(np.zeros((4, 4, 4), np.float32), np.full((4, 3), 1 / 3, np.float32), 0.1)
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
    assert "batch_norm" in one_line(error)
    assert "torch or keras" in str(error.value)
    model = NumpyBackend().build(NORMED, weights)
    np.testing.assert_array_equal(
        model.logits(images), NumpyBackend().build(NET, weights).logits(images)
    )


# State


@pytest.mark.filterwarnings("error::DeprecationWarning")
@pytest.mark.parametrize("kind", ["plain", "normed"])
def test_a_restored_trainer_takes_exactly_the_same_steps(backend, weights, toy, kind):
    net = NORMED if kind == "normed" else NET
    if backend.name == "numpy":
        net = NET
    x, targets = toy[0], one_hot(toy[1], 3)
    trainer, other = (
        trainer_of(backend, weights, net, Penalties(l2=1e-3, decay=0.1), seed=7) for _ in range(2)
    )
    twins = {} if backend.name == "numpy" else {"twin": x[::-1].copy(), "pull": 2.0}

    def steps(one, first, count):
        outcomes = []
        for number in range(first, first + count):
            some = slice(number % 4 * 32, number % 4 * 32 + 32)
            extra = twins and {"twin": twins["twin"][some], "pull": 2.0}
            outcomes.append(one.step(x[some], targets[some], 0.01 / (number + 1), **extra))
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

PULLED = {"layers.0.weight": np.array([[1.0, -0.5], [0.25, 0.75], [-1.0, 0.5]], np.float32),
          "layers.0.bias": np.array([0.1, -0.2, 0.3], np.float32)}  # fmt: skip


def trades_loss(named, x, targets, twin, pull):
    """Cross-entropy of x, and pull times KL(softmax f(x) || softmax f(twin)), from their sums."""

    def log_softmax(images):
        logits = images @ named["layers.0.weight"].T + named["layers.0.bias"]
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    ours, theirs = log_softmax(x), log_softmax(twin)
    cross_entropy = -(targets * ours).sum(axis=1)
    divergence = (np.exp(ours) * (ours - theirs)).sum(axis=1)
    return (cross_entropy + pull * divergence).mean()


@pytest.mark.parametrize("pull", [3.0, 0.5])
def test_a_step_of_trades_by_hand(framework, pull):
    x = np.array([[0.5, 0.25], [1.0, 0.0]], np.float32)
    twin = np.array([[0.25, 0.75], [0.5, 0.5]], np.float32)
    targets = one_hot(np.array([0, 2]), 3)
    exact = {name: value.astype(np.float64) for name, value in PULLED.items()}
    expected = trades_loss(exact, x, targets, twin, pull)
    assert expected != pytest.approx(trades_loss(exact, twin, targets, x, pull), rel=0.01)
    trainer = trainer_of(framework, PULLED, Architecture((2,), (), 3))
    loss, hits = trainer.step(x, targets, 1e-3, twin, pull)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert hits == 1  # of the clean images
    # Adam's first step goes by the learning rate against the sign of the gradient.
    for name, value in exact.items():
        for at in np.ndindex(value.shape):
            sides = []
            for step in (1e-6, -1e-6):
                nudged = {key: other.copy() for key, other in exact.items()}
                nudged[name][at] += step
                sides.append(trades_loss(nudged, x, targets, twin, pull))
            slope = (sides[0] - sides[1]) / 2e-6
            assert abs(slope) > 1e-3
            moved = trainer.model.weights()[name][at] - PULLED[name][at]
            assert moved == pytest.approx(-1e-3 * np.sign(slope), rel=1e-3)


def test_without_a_pull_or_a_difference_trades_is_plain_training(framework, weights, toy):
    x, targets = toy[0], one_hot(toy[1], 3)
    losses = []
    for extra in ((), (x, 3.0), (x[::-1].copy(), 0.0)):
        trainer = trainer_of(framework, weights, STEADY)
        losses.append([trainer.step(x, targets, 0.01, *extra)[0] for _ in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)


# PyTorch


def test_torch_networks_that_work_in_place_leave_their_input_alone(images, labels):
    backend = at_hand("torch")
    import torch

    class Centres(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Linear(16, 3)

        def forward(self, x):
            x -= 0.5
            return self.last(x.mul_(2.0).flatten(1))

    net = Centres()
    model = backend.wrap(net, bounds=(0.0, 1.0))
    x = model.asarray(images.copy())
    first = model.logits(x)
    beside, gradient = model.logits_and_gradient(x, model.asarray(labels), ClassLogit())
    np.testing.assert_array_equal(model.numpy(x), images)
    expected = net.last((torch.tensor(images) * 2 - 1).flatten(1))
    assert torch.allclose(first, expected, atol=1e-6)
    assert torch.equal(first, beside)
    # The logit of a class rises by twice its weights.
    of_class = 2 * net.last.weight[torch.tensor(labels)].detach().reshape(12, 4, 4)
    assert torch.allclose(gradient, of_class)


def test_torch_computes_no_gradients_of_weights(weights, images, labels):
    model = at_hand("torch").build(NET, weights)
    for objective in OBJECTIVES:
        model.logits_and_gradient(model.asarray(images), model.asarray(labels), objective)
    assert all(parameter.grad is None for parameter in model.net.parameters())


def test_torch_leaves_the_gradients_that_the_user_has(images, labels):
    backend = at_hand("torch")
    import torch

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    net[1].weight.grad = torch.ones(3, 16)
    net[1].bias.requires_grad_(False)
    model = backend.wrap(net, bounds=(0.0, 1.0))
    x = model.asarray(images)
    with torch.no_grad():
        _, gradient = model.logits_and_gradient(x, model.asarray(labels), CrossEntropy())
    assert gradient.abs().max() > 0
    assert not gradient.requires_grad
    assert not x.requires_grad
    assert bool((net[1].weight.grad == 1).all())
    assert not net[1].bias.requires_grad


def test_each_torch_module_gets_its_own_mode_back(images, labels):
    backend = at_hand("torch")
    import torch

    class Fails(torch.nn.Module):
        armed = False

        def forward(self, x):
            if self.armed:
                raise RuntimeError("out of order")
            return x

    norm = torch.nn.BatchNorm1d(16)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), norm, torch.nn.Dropout(0.5), torch.nn.Dropout(0.5),
        torch.nn.Linear(16, 3), Fails(),
    )  # fmt: skip
    net.train()
    net[2].eval()
    modes = [module.training for module in net.modules()]
    assert set(modes) == {True, False}
    model = backend.wrap(net, bounds=(0.0, 1.0))
    x, y = model.asarray(images), model.asarray(labels)
    assert torch.equal(model.logits(x), model.logits(x))
    model.logits_and_gradient(x, y, CrossEntropy())
    net[5].armed = True
    for call in (lambda: model.logits(x), lambda: model.logits_and_gradient(x, y, ClassLogit())):
        with pytest.raises(RuntimeError, match="out of order"):
            call()
        assert [module.training for module in net.modules()] == modes
    assert norm.num_batches_tracked == 0
    assert not norm.running_mean.any()


# Keras


def test_keras_leaves_batch_statistics_alone(images, labels):
    backend = at_hand("keras")
    import keras

    net = keras.Sequential(
        [keras.Input((4, 4)), keras.layers.Flatten(), keras.layers.BatchNormalization(),
         keras.layers.Dropout(0.5), keras.layers.Dense(3)]
    )  # fmt: skip
    before = [value.copy() for value in net.get_weights()]
    model = backend.wrap(net, bounds=(0.0, 1.0))
    x = model.asarray(images)
    first, second = (model.numpy(model.logits(x)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    model.logits_and_gradient(x, model.asarray(labels), CrossEntropy())
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_keras_model_without_a_declared_input_is_refused():
    backend = at_hand("keras")
    import keras

    class Subclassed(keras.Model):
        def call(self, x):
            return x

    for net in (keras.Sequential([keras.layers.Dense(3)]), Subclassed()):
        with pytest.raises(BackendError) as error:
            backend.wrap(net, bounds=(0.0, 1.0))
        assert "no declared input" in one_line(error)
        assert "keras.Input" in str(error.value)


# What a backend refuses


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("net", [object(), "net", None])
def test_what_is_no_network_of_the_framework_is_refused(name, net):
    with pytest.raises(BackendError) as error:
        at_hand(name).wrap(net, bounds=(0.0, 1.0))
    assert type(net).__name__ in one_line(error)


@pytest.mark.parametrize("name", ["torch", "keras"])
def test_the_weights_of_a_wrapped_network_have_no_names(name):
    backend = at_hand(name)
    if name == "torch":
        import torch

        net = torch.nn.Linear(2, 2)
    else:
        import keras

        net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model = backend.wrap(net, bounds=(0.0, 1.0))
    assert model.capabilities == {GRADIENT}
    with pytest.raises(BackendError) as error:
        model.weights()
    assert "neutral names" in one_line(error)


# The registry, and the helper of these tests


def test_an_unknown_backend_is_refused_by_name():
    for ask in (registry.missing, registry.backend):
        with pytest.raises(BackendError) as error:
            ask("theano")
        assert "theano" in one_line(error)
        assert "torch, keras, numpy" in str(error.value)


@pytest.fixture
def ghost(monkeypatch):
    entry = registry.BackendEntry("backends.ghost", "Ghost", ("no_such_package", "numpy"))
    monkeypatch.setitem(registry.BACKENDS, "ghost", entry)
    monkeypatch.setattr(backends_at_hand, "NAMES", tuple(registry.BACKENDS))


@pytest.mark.usefixtures("ghost")
def test_a_backend_that_is_not_installed_says_what_to_install():
    reason = registry.missing("ghost")
    assert "no_such_package" in reason
    assert "numpy" not in reason
    assert "pip install 'robustness-harness[ghost]'" in reason
    with pytest.raises(BackendError) as error:
        registry.backend("ghost")
    assert one_line(error) == reason
    registry.import_together({"ghost"})


def test_a_framework_that_does_not_import_is_one_line(monkeypatch):
    entry = registry.BackendEntry("backends.no_such_module", "Ghost")
    monkeypatch.setitem(registry.BACKENDS, "ghost", entry)
    with pytest.raises(BackendError) as error:
        registry.backend("ghost")
    assert "ghost" in one_line(error)
    assert "does not import" in str(error.value)


def test_one_that_does_not_import_is_passed_over_and_the_others_are_imported(monkeypatch):
    imported = []

    class Fine:
        def __init__(self):
            imported.append("fine")

    entries = {"broken": registry.BackendEntry("backends.no_such_module", "Ghost"),
               "fine": registry.BackendEntry("test_backends", "Fine")}  # fmt: skip
    monkeypatch.setattr(registry, "BACKENDS", entries)
    monkeypatch.setitem(globals(), "Fine", Fine)
    registry.backend.cache_clear()
    try:
        registry.import_together({"fine", "broken"})
        with pytest.raises(BackendError, match="broken: its framework does not import"):
            registry.backend("broken")
    finally:
        registry.backend.cache_clear()
    assert imported == ["fine"]


@pytest.mark.usefixtures("ghost")
def test_tests_of_a_missing_backend_are_skipped_unless_it_must_be_there(monkeypatch):
    monkeypatch.delenv(backends_at_hand.REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no_such_package not installed"):
        at_hand("ghost")
    monkeypatch.setenv(backends_at_hand.REQUIRED, "numpy, ghost")
    with pytest.raises(pytest.fail.Exception, match=r"names ghost, but .*no_such_package"):
        at_hand("ghost")
    monkeypatch.setenv(backends_at_hand.REQUIRED, "nunpy")
    with pytest.raises(ValueError, match="nunpy"):
        at_hand("numpy")


def test_training_in_torch_leaves_the_global_generator_alone():
    backend = at_hand("torch")
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    net = Architecture((4,), (8,), 3, dropout=0.5)
    weights = initial_weights(net, 0)
    trainer = trainer_of(backend, weights, net)
    trainer.step(np.zeros((2, 4), dtype=np.float32), one_hot(np.array([0, 1]), 3), 0.1)
    assert torch.equal(torch.rand(3), expected)
