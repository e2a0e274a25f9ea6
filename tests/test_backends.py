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
from harness.errors import BackendError
from harness.model_store import read_model, write_model
from harness.objectives import ClassLogit, CrossEntropy, LogOdds
from harness.protocol import GRADIENT, TRAIN, WEIGHTS, Architecture, Model
from harness.records import Epoch
from harness.training import Trained, initial_weights

NET = Architecture((4, 4), (8, 6), 3, dropout=0.5)
STEADY = Architecture((4, 4), (8, 6), 3, dropout=0.0)
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


def trained(backend, weights, toy, architecture=NET, steps=20, l2=0.0, seed=0, rate=1e-2):
    trainer = backend.trainer(architecture, weights, bounds=(0.0, 1.0), l2=l2, seed=seed)
    x, y = toy
    outcomes = [trainer.step(x, y, rate) for _ in range(steps)]
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
    (moved,) = FGSM().perturb(model, x, y, [0.25])
    np.testing.assert_array_equal(model.numpy(moved), [[0.75]])


def test_attacks_stay_within_the_models_bounds(backend):
    """With gradient -40 · p₁ < 0 every pixel falls by ε, but not below the lower bound."""
    weights = {"layers.0.weight": np.array([[4.0], [0.0]], np.float32),
               "layers.0.bias": np.zeros(2, np.float32)}  # fmt: skip
    model = backend.build(Architecture((1,), (), 2), weights, bounds=(-1.0, 1.0))
    x = model.asarray(np.array([[1.0], [0.0], [-0.75]], np.float32))
    moved = FGSM().perturb(model, x, model.asarray(np.zeros(3, np.int64)), [0.0, 0.5])
    expected = [[[1.0], [0.0], [-0.75]], [[0.5], [-0.5], [-1.0]]]
    np.testing.assert_array_equal([model.numpy(batch) for batch in moved], expected)


# Training


def test_a_step_answers_with_loss_and_hits_before_it(backend, weights, images, labels):
    exact = NumpyBackend().build(STEADY, weights, dtype="float64")
    logits = exact.logits(images.astype(np.float64))
    cross_entropy = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(12), labels]
    penalty = sum((value.astype(np.float64) ** 2).sum()
                  for name, value in weights.items() if name.endswith("weight"))  # fmt: skip
    trainer = backend.trainer(STEADY, weights, bounds=(0.0, 1.0), l2=0.01, seed=0)
    loss, correct = trainer.step(images, labels, 1e-3)
    assert (type(loss), type(correct)) == (float, int)
    assert loss == pytest.approx(cross_entropy.mean() + 0.01 * penalty, rel=1e-5)
    assert correct == (logits.argmax(axis=1) == labels).sum()


def test_the_first_step_of_adam_moves_each_weight_by_the_learning_rate(backend):
    """One image x = (1, 0.5), logits 0: the gradient of W is (p - onehot) ⊗ x = ±(0.5, 0.25)."""
    weights = {"layers.0.weight": np.zeros((2, 2), np.float32),
               "layers.0.bias": np.zeros(2, np.float32)}  # fmt: skip
    x, y = np.array([[1.0, 0.5]], np.float32), np.array([0])
    trainer = backend.trainer(Architecture((2,), (), 2), weights, bounds=(0, 1), l2=0.0, seed=0)
    loss, _ = trainer.step(x, y, 0.125)
    assert loss == pytest.approx(math.log(2))
    found = trainer.model.weights()
    np.testing.assert_allclose(found["layers.0.weight"], [[0.125] * 2, [-0.125] * 2], rtol=1e-5)
    np.testing.assert_allclose(found["layers.0.bias"], [0.125, -0.125], rtol=1e-5)


def test_without_dropout_every_backend_trains_alike(backend, weights, toy):
    ours, outcomes = trained(backend, weights, toy, STEADY, steps=5, l2=1e-3)
    theirs, expected = trained(NumpyBackend(), weights, toy, STEADY, steps=5, l2=1e-3)
    np.testing.assert_allclose(outcomes, expected, rtol=1e-4)
    for name, value in ours.weights().items():
        np.testing.assert_allclose(value, theirs.weights()[name], atol=1e-4)


def test_the_learning_rate_is_that_of_the_step(backend, weights, toy):
    trainer = backend.trainer(STEADY, weights, bounds=(0.0, 1.0), l2=0.0, seed=0)
    trainer.step(*toy, 1e-2)
    before = trainer.model.weights()
    trainer.step(*toy, 0.0)
    assert same(trainer.model.weights(), before)
    trainer.step(*toy, 1e-2)
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
    trainer = backend.trainer(net, weights, bounds=(0.0, 1.0), l2=0.0, seed=0)
    x, y = np.zeros((64, 1), np.float32), np.ones(64, np.int64)
    loss, _ = trainer.step(x, y, 1e-6)
    # Logits (m, 0) of class 1, with m = 1 ± 0.016: the loss is log(1 + eᵐ).
    assert loss == pytest.approx(math.log(1 + math.e), abs=0.01)


def test_a_penalty_on_weights_makes_them_smaller(backend, weights, toy):
    def size(l2):
        model, _ = trained(backend, weights, toy, STEADY, steps=50, l2=l2)
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


# PyTorch


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
    entry = registry.Entry("backends.ghost", "Ghost", ("no_such_package", "numpy"))
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
    entry = registry.Entry("backends.no_such_module", "Ghost")
    monkeypatch.setitem(registry.BACKENDS, "ghost", entry)
    with pytest.raises(BackendError) as error:
        registry.backend("ghost")
    assert "ghost" in one_line(error)
    assert "does not import" in str(error.value)


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
    trainer = backend.trainer(net, weights, bounds=(0.0, 1.0), l2=0.0, seed=0)
    trainer.step(np.zeros((2, 4), dtype=np.float32), np.array([0, 1]), 0.1)
    assert torch.equal(torch.rand(3), expected)
