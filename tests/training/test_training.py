"""The training loop, with a trainer that plays a script instead of learning."""

from __future__ import annotations

import math
from itertools import chain

import numpy as np
import pytest
import toy_training
from backends_at_hand import NAMES, at_hand

from backends.numpy_backend import NumpyBackend
from harness import registry
from harness.data import Part
from harness.errors import HarnessError
from harness.networks.initial import initial_weights
from harness.protocol import Network, Optimizer, Wrapping, fully_connected
from harness.spec.training import TrainingSpec
from harness.training.loop import TrainingError, learning_rates, train
from harness.training.store import ModelKey, load_or_train

COUNT = 10


class Scripted:
    """After epoch e it is right on as many of 10 images, and as surely, as the script says.

    ``weights`` answers the number of the epoch, so that it shows which epoch's were kept. Its own
    model: the loop asks it for no more than logits and weights. Whatever the weights, inference is
    the script's.
    """

    def __init__(self, script=((5, 1.0),), losses=(1.0,), steps=1):
        self.script = [item if isinstance(item, tuple) else (item, 1.0) for item in script]
        self.losses = losses
        self.steps_an_epoch = steps
        self.model = self
        self.batches, self.rates, self.targets, self.judged = [], [], [], []

    @property
    def epoch(self):
        return math.ceil(len(self.batches) / self.steps_an_epoch)

    def step(self, batch, learning_rate):
        loss = self.losses[len(self.batches) % len(self.losses)]
        self.batches.append(batch.x[:, 0].astype(int).tolist())
        self.rates.append(learning_rate)
        self.targets.append(batch.targets)
        return loss, 1

    def inference(self, weights):
        self.judged.append(weights)
        return self

    def asarray(self, values):
        return values

    numpy = asarray

    def logits(self, x):
        right, margin = self.script[min(self.epoch, len(self.script)) - 1]
        of_true = np.where(x[:, 0] < right, margin, -margin)
        return np.stack([of_true, np.zeros(len(x))], axis=1)

    def weights(self):
        return {"epoch": np.array([self.epoch])}


@pytest.fixture(scope="module")
def part():
    """Images that show their own number, all of class 0."""
    x = np.arange(COUNT, dtype=np.float32).reshape(-1, 1)
    return Part(x, np.zeros(COUNT, np.int64), np.arange(COUNT))


def recipe(epochs, batch_size=COUNT, **fields):
    return TrainingSpec(epochs=epochs, batch_size=batch_size, **fields)


def run(trainer, part, recipe, seed=0, title="training mlp in toy"):
    return train(trainer, part, part, recipe, seed=seed, title=title)


# Which weights are kept


@pytest.mark.parametrize(
    ("script", "best"),
    [
        ([3, 7, 5], 2),
        ([3, 5, 7], 3),
        ([7, 5, 3], 1),
        ([3, 7, 7], 2),  # of equals the first
        ([3, (7, 2.0), (7, 1.0)], 3),  # as accurate, and the three mistakes cost less
        ([3, (7, 1.0), (7, 2.0)], 2),  # and here they cost more
        ([3, (7, 1.0), (8, 9.0)], 3),  # accuracy first, whatever the loss
        ([0, 0], 1),
    ],
)
def test_the_weights_of_the_best_epoch_are_returned(part, script, best):
    trained = run(Scripted(script), part, recipe(len(script), patience=9))
    assert trained.best_epoch == best
    assert trained.weights["epoch"] == [best]
    assert [epoch.epoch for epoch in trained.history] == list(range(1, len(script) + 1))


@pytest.mark.parametrize(
    ("script", "patience", "epochs"),
    [
        ([5, 4, 4, 9], 2, 3),  # epoch 3 is two after the best
        ([5, 4, 6, 5, 5, 9], 2, 5),  # epoch 3 came in time
        ([5, 4, 9], 1, 2),
        ([5, 4, 4, 9], 3, 4),  # epoch 4 is in time, and the best
        ([1, 2, 3, 4], 1, 4),
    ],
)
def test_training_stops_when_patience_is_over(part, script, patience, epochs):
    trainer = Scripted(script)
    trained = run(trainer, part, recipe(len(script), patience=patience))
    assert len(trained.history) == len(trainer.batches) == epochs


# What is said of each epoch


def test_an_epochs_loss_is_the_mean_over_images_not_batches(part):
    """Batches of 4, 4 and 2 images with losses 1, 2 and 6: (4·1 + 4·2 + 2·6) / 10."""
    trainer = Scripted([(7, math.log(3))], losses=[1.0, 2.0, 6.0], steps=3)
    (epoch,) = run(trainer, part, recipe(1, batch_size=4)).history
    assert epoch.loss == pytest.approx(2.4)
    assert epoch.accuracy == pytest.approx(0.3)  # one hit a step
    assert epoch.validation_accuracy == pytest.approx(0.7)
    # Margin log 3: 7 images have p = 3/4, and 3 have p = 1/4.
    expected = -0.7 * math.log(3 / 4) - 0.3 * math.log(1 / 4)
    assert epoch.validation_loss == pytest.approx(expected)
    assert epoch.seconds >= 0


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_is_one_line_and_nothing_is_stored(
    part, loss, tmp_path, monkeypatch
):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path))
    spec = recipe(3, learning_rate=0.25)
    key = ModelKey("data", fully_connected((1,), (2,), 2), spec, 0, NumpyBackend())
    trainer = Scripted([5, 5], losses=[1.0, loss])
    with pytest.raises(TrainingError) as error:
        load_or_train(key, lambda _: run(trainer, part, spec), retrain=False)
    assert str(error.value).startswith("training mlp in toy: ")
    for words in (str(loss), "epoch 2", "learning_rate", "0.25"):
        assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_weights_that_explode_in_an_epochs_last_step_are_one_line_too(part):
    """The loss of the only step is taken before it, so it is finite: the weights no more are."""
    net = fully_connected((1,), (4,), 2)
    weights = initial_weights(net, 0)
    trainer = NumpyBackend().trainer(
        Network(net, weights), Wrapping((0.0, 10.0)), Optimizer(), seed=0
    )
    with pytest.raises(TrainingError, match="training mlp in toy: ") as error:
        run(trainer, part, recipe(1, learning_rate=1e38))
    assert "learning_rate" in str(error.value)
    assert "\n" not in str(error.value)


# Learning rates


def test_a_constant_rate_is_constant():
    rate = learning_rates(recipe(2, learning_rate=0.3, schedule="constant"), steps=2)
    assert [rate(step) for step in range(4)] == [0.3] * 4


def test_a_cosine_falls_from_the_rate_to_zero():
    """Two epochs of two steps: (1 + cos(kπ/4)) / 2 of the rate at step k."""
    rate = learning_rates(recipe(2, learning_rate=2.0, schedule="cosine"), steps=2)
    half = 1 / math.sqrt(2)
    assert [rate(step) for step in range(5)] == pytest.approx([2, 1 + half, 1, 1 - half, 0])


def test_one_cycle_rises_for_a_fifth_and_falls_to_zero():
    """Two epochs of five steps: it rises to the rate in two, then falls by half a cosine."""
    rate = learning_rates(recipe(2, learning_rate=3.0, schedule="one-cycle"), steps=5)
    found = [rate(step) for step in range(11)]
    assert found[:3] == pytest.approx([1, 2, 3])
    assert found[6] == pytest.approx(1.5)
    assert found[10] == pytest.approx(0, abs=1e-12)
    assert found[2:] == sorted(found[2:], reverse=True)
    assert found[4] == pytest.approx(3 * (1 + math.cos(math.pi / 4)) / 2)


def test_every_step_gets_its_own_rate(part):
    trainer = Scripted([1, 2], steps=2)
    trained = run(trainer, part, recipe(2, batch_size=5, learning_rate=2.0, schedule="cosine"))
    half = 1 / math.sqrt(2)
    assert trainer.rates == pytest.approx([2, 1 + half, 1, 1 - half])
    assert [epoch.learning_rate for epoch in trained.history] == pytest.approx([2, 1])


# The order of the images


def orders(part, seed):
    trainer = Scripted([1, 2, 3], steps=3)
    run(trainer, part, recipe(3, batch_size=4), seed=seed)
    assert [len(batch) for batch in trainer.batches] == [4, 4, 2] * 3
    return [list(chain(*trainer.batches[first : first + 3])) for first in (0, 3, 6)]


def test_each_epoch_visits_each_image_once_in_an_order_of_its_own(part):
    epochs = orders(part, seed=0)
    assert all(sorted(order) == list(range(COUNT)) for order in epochs)
    assert len(set(map(tuple, epochs))) == 3
    assert list(range(COUNT)) not in epochs


@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [(3, [3, 3, 4]), (9, [10]), (4, [4, 4, 2]), (10, [10]), (99, [10]), (1, [1] * 10)],
)
def test_an_image_left_over_joins_the_batch_before_it(part, batch_size, sizes):
    trainer = Scripted([1], steps=len(sizes))
    spec = recipe(1, batch_size=batch_size, learning_rate=2.0, schedule="cosine")
    run(trainer, part, spec)
    assert [len(batch) for batch in trainer.batches] == sizes
    assert sorted(chain(*trainer.batches)) == list(range(COUNT))
    # The rates know how many steps there are.
    rate = learning_rates(spec, len(sizes))
    assert trainer.rates == [rate(step) for step in range(len(sizes))]


@pytest.mark.parametrize("name", ["torch", "keras", "jax"])
def test_batch_normalisation_trains_on_any_number_of_images(name):
    """Of sixty images, one is left over."""
    recipe = toy_training.toy_recipe(epochs=1, batch_size=59)
    assert len(toy_training.toy_train(name, recipe).history) == 1


def test_the_order_is_that_of_the_seed(part):
    assert orders(part, seed=4) == orders(part, seed=4)
    assert orders(part, seed=4) != orders(part, seed=5)


class ThreeClasses(Scripted):
    """The same, of three classes."""

    def logits(self, x):
        return np.pad(super().logits(x), ((0, 0), (0, 1)))


def of_three_classes():
    """Images that show their own number, of class number modulo 3."""
    x = np.arange(COUNT, dtype=np.float32).reshape(-1, 1)
    part = Part(x, np.arange(COUNT) % 3, np.arange(COUNT))
    return part, Part(x, np.zeros(COUNT, np.int64), np.arange(COUNT))


@pytest.mark.parametrize(("smoothing", "high", "low"), [(0.0, 1.0, 0.0), (0.3, 0.8, 0.1)])
def test_images_stay_with_their_targets_and_these_are_smoothed(smoothing, high, low):
    """With a share of 0.3 over three classes: 0.7 + 0.1 for the true one, and 0.1 for others."""
    trainer = ThreeClasses([1])
    training, validation = of_three_classes()
    spec = recipe(1, batch_size=3, label_smoothing=smoothing)
    train(trainer, training, validation, spec, seed=1, title="")
    assert len(trainer.batches) == 3
    for numbers, targets in zip(trainer.batches, trainer.targets, strict=True):
        assert targets.dtype == np.float32
        true = np.arange(3) == np.array(numbers)[:, None] % 3
        np.testing.assert_allclose(targets, np.where(true, high, low), rtol=1e-6)


# Averaged weights


class Counting(Scripted):
    """Its weights are the number of steps that it has taken."""

    def weights(self):
        return {"steps": np.array([len(self.batches)], np.float32)}


def test_averaged_weights_by_hand(part):
    """Ten steps an epoch, and an update after steps 1, 17 and 33.

    The decay of update u is (1 + u) / (10 + u), at first less than 0.9¹⁶ = 0.1853: 2/11 and 3/12.
    """
    trainer = Counting([1, 2, 3, 4], steps=10)
    trained = run(trainer, part, recipe(4, batch_size=1, averaging=0.9))
    first = 1.0
    second = first + (1 - 2 / 11) * (17 - first)
    third = second + (1 - 0.9**16) * (33 - second)
    judged = [weights["steps"].item() for weights in trainer.judged]
    assert judged == pytest.approx([first, second, second, third], rel=1e-6)
    assert trained.best_epoch == 4
    assert trained.weights["steps"].item() == pytest.approx(third, rel=1e-6)
    assert trained.weights["steps"].dtype == np.float32


def test_without_averaging_the_weights_are_the_last(part):
    trainer = Counting([1, 2], steps=10)
    run(trainer, part, recipe(2, batch_size=1))
    assert [weights["steps"].item() for weights in trainer.judged] == [10, 20]


# All backends


def test_every_backend_sees_the_same_images_and_targets():
    """In the accurate recipe, with its distortions and smoothed labels."""

    class Recording:
        def __init__(self, trainer):
            self.trainer, self.seen = trainer, []

        def __getattr__(self, name):
            return getattr(self.trainer, name)

        def step(self, batch, learning_rate):
            self.seen.append((batch.x.copy(), batch.targets.copy(), learning_rate))
            return self.trainer.step(batch, learning_rate)

    recipe = toy_training.toy_recipe(epochs=2)
    recordings = []
    for name in NAMES:
        if name != "numpy" and registry.missing(name):
            continue
        trainer = Recording(toy_training.toy_trainer(name, recipe))
        toy_training.toy_train(name, recipe, trainer)
        recordings.append(trainer.seen)
    first, *others = recordings
    assert len(first) == 10
    for other in others:
        for (x, targets, rate), (x_, targets_, rate_) in zip(first, other, strict=True):
            np.testing.assert_array_equal(x, x_)
            np.testing.assert_array_equal(targets, targets_)
            assert rate == rate_
    # They are distorted, and differently in each epoch.
    ordered = [np.sort(np.concatenate([x.sum(axis=(1, 2)) for x, _, _ in part]))
               for part in (first[:5], first[5:])]  # fmt: skip
    plain = np.sort(toy_training.TRAINING.x.sum(axis=(1, 2)))
    assert not np.allclose(ordered[0], plain)
    assert not np.allclose(ordered[0], ordered[1])


def batches_of(x, augmentation, channel_axis):
    """What the loop hands to a trainer in an epoch, all batches in one."""
    net = fully_connected(x.shape[1:], (), 2, channel_axis=channel_axis)
    trainer = NumpyBackend().trainer(
        Network(net, initial_weights(net, 0)), Wrapping((0.0, 1.0)), Optimizer(), seed=0
    )
    seen = []

    class Recording:
        def __getattr__(self, name):
            return getattr(trainer, name)

        def step(self, batch, learning_rate):
            seen.append(batch.x)
            return trainer.step(batch, learning_rate)

    part = Part(x, np.arange(len(x)) % 2, np.arange(len(x)))
    recipe = TrainingSpec(epochs=1, batch_size=4, augmentation=augmentation)
    train(Recording(), part, part, recipe, seed=0, title="toy")
    return np.concatenate(seen)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_colour_images_are_distorted_along_height_and_width_alone(axis):
    """Five channels, each of one value: along the right axes no distortion changes them.

    The model says which axis holds them; by the shape of an image nobody could tell.
    """
    values = np.linspace(0.1, 0.9, 5, dtype=np.float32)
    x = np.moveaxis(np.broadcast_to(values, (8, 5, 5, 5)), -1, 1 + axis)
    np.testing.assert_allclose(batches_of(x, "colour", axis), x, rtol=1e-6)
    assert not np.allclose(batches_of(x, "colour", (axis + 1) % 3), x)


def test_flat_images_cannot_be_distorted_and_one_line_says_so():
    with pytest.raises(HarnessError, match=r"^augmentation: 'affine' is of images [^\n]*\(7,\)"):
        batches_of(np.zeros((8, 7), np.float32), "affine", None)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_weights_to_the_last_bit(name):
    at_hand(name)
    recipe = toy_training.toy_recipe(epochs=3)
    first, again, other = (toy_training.toy_train(name, recipe, seed=s) for s in (3, 3, 4))
    assert toy_training.same_weights(first.weights, again.weights)
    assert toy_training.without_seconds(first.history) == toy_training.without_seconds(
        again.history
    )
    assert not toy_training.same_weights(first.weights, other.weights)


# Initial weights


def test_initial_weights_have_the_shapes_of_the_network_and_biases_of_zero():
    net = fully_connected((2, 3), (5, 4), 3)
    weights = initial_weights(net, seed=0)
    assert {name: value.shape for name, value in weights.items()} == {
        "layers.0.weight": (5, 6), "layers.0.bias": (5,),
        "layers.1.weight": (4, 5), "layers.1.bias": (4,),
        "layers.2.weight": (3, 4), "layers.2.bias": (3,),
    }  # fmt: skip
    assert {value.dtype for value in weights.values()} == {np.dtype(np.float32)}
    for name, value in weights.items():
        assert value.any() == name.endswith("weight")


def test_initial_weights_are_he_normal():
    """Variance 2 / fan-in; with 80,000 values its estimate is within 2 % (four sigma)."""
    weights = initial_weights(fully_connected((20, 20), (200, 400), 10), seed=0)
    for name, fan_in in (("layers.0.weight", 400), ("layers.1.weight", 200)):
        values = weights[name].astype(np.float64)
        assert values.var() == pytest.approx(2 / fan_in, rel=0.02)
        assert abs(values.mean()) < 4 * math.sqrt(2 / fan_in / values.size)
        assert abs(values).max() > 3.5 * math.sqrt(2 / fan_in)  # normal, not uniform


def test_initial_weights_are_those_of_the_seed():
    net = fully_connected((4,), (3,), 2)
    first, again, other = (initial_weights(net, seed) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["layers.0.weight"], other["layers.0.weight"])
