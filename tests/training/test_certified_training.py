"""Certified training: what the loop hands to the trainer, and which epoch is kept."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from toy_training import CLASSES, SHAPE, TRAINING, VALIDATION, toy_recipe, toy_train

from backends.numpy_backend import NumpyBackend
from harness.data import Part
from harness.errors import BackendError, NotApplicable
from harness.evaluation.checking import check_collapse
from harness.networks.initial import initial_weights
from harness.protocol import Batch, Network, Optimizer, Step, Wrapping, fully_connected
from harness.results.records import Epoch
from harness.spec.training import CertifiedTrainingSpec, TrainingSpec
from harness.training.certifying import Certifying
from harness.training.loop import train

NET = fully_connected(SHAPE, (8,), CLASSES)


@pytest.mark.parametrize(
    ("progress", "share"),
    [(0.0, 0.0), (0.19, 0.0), (0.2, 0.0), (0.3, 0.25), (0.4, 0.5), (0.6, 1.0), (0.99, 1.0)],
)
def test_ball_and_weight_grow_in_the_ramp_after_the_warm_up(progress, share):
    """A fifth of the training, then two fifths; κ falls to 0.7, so the weight rises to 0.3."""
    said = CertifiedTrainingSpec(epsilon=0.2, kappa=0.7, warm_up=0.2, ramp=0.4)
    x, targets = TRAINING.x[:4], np.eye(CLASSES, dtype=np.float32)[TRAINING.y[:4]]
    batch = Certifying(said).batch(x, targets, progress)
    assert batch.x is x
    assert batch.targets is targets
    assert batch.radius == pytest.approx(0.2 * share, abs=1e-9)
    assert batch.certified_weight == pytest.approx(0.3 * share, abs=1e-9)
    assert batch.beyond_cross_entropy


def test_without_a_ramp_the_whole_ball_is_there_after_the_warm_up():
    certifying = Certifying(CertifiedTrainingSpec(epsilon=0.2, warm_up=0.5, ramp=0.0))
    radii = [certifying.batch(TRAINING.x, None, progress).radius for progress in (0.4, 0.5, 0.9)]
    assert radii == [0.0, 0.2, 0.2]


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.5, 1.5)])
def test_the_ball_is_cut_off_at_the_pixel_range(bounds):
    x = TRAINING.x[:12]
    lower, upper = Batch(x, x, radius=0.3, certified_weight=0.5).box(bounds)
    assert lower.dtype == upper.dtype == np.float32
    np.testing.assert_allclose(lower, np.maximum(x - 0.3, bounds[0]), atol=1e-6)
    np.testing.assert_allclose(upper, np.minimum(x + 0.3, bounds[1]), atol=1e-6)


def test_no_ball_is_made_where_it_does_not_count():
    x = TRAINING.x[:12]
    assert Batch(x, x).box((0, 1)) is None
    assert Batch(x, x, radius=0.3).box((0, 1)) is None
    assert not Batch(x, x).beyond_cross_entropy


class Recording:
    """A NumPy trainer that notes its steps, and takes plain ones."""

    def __init__(self):
        network = Network(NET, initial_weights(NET, 0))
        self.trainer = NumpyBackend().trainer(network, Wrapping((0.0, 1.0)), Optimizer(), seed=0)
        self.batches = []

    def __getattr__(self, name):
        return getattr(self.trainer, name)

    def step(self, batch, learning_rate):
        self.batches.append(batch)
        return self.trainer.step(Batch(batch.x, batch.targets), learning_rate)


def test_the_loop_follows_the_schedule_on_the_images_of_a_plain_training():
    recordings = []
    for certified in ({"epsilon": 0.2, "warm_up": 0.2, "ramp": 0.5}, None):
        trainer = Recording()
        recipe = TrainingSpec(epochs=2, batch_size=12, certified=certified)
        history = train(trainer, TRAINING, VALIDATION, recipe, seed=0, title="toy").history
        recordings.append((trainer.batches, history))
    (ours, history), (plain, before) = recordings
    assert len(ours) == len(plain) == 10
    for number, (batch, other) in enumerate(zip(ours, plain, strict=True)):
        np.testing.assert_array_equal(batch.x, other.x)
        np.testing.assert_array_equal(batch.targets, other.targets)
        share = min(1, max(0, number - 2) / 5)
        assert batch.radius == pytest.approx(0.2 * share, abs=1e-9)
        assert batch.certified_weight == pytest.approx(0.5 * share, abs=1e-9)
        assert (batch.perturbed, other.radius) == (None, None)
    assert all(epoch.certified_accuracy is not None for epoch in history)
    assert all(epoch.pgd_accuracy is None for epoch in history)
    assert all(epoch.certified_accuracy is None for epoch in before)


PIXEL = fully_connected((1, 1), (), 2)
HALVES = Part(
    np.array([0.2, 0.8] * 20, np.float32).reshape(40, 1, 1), np.array([0, 1] * 20), np.arange(40)
)


class Scripted:
    """A trainer whose network tells dark from bright by a threshold, another after each epoch."""

    architecture = PIXEL

    def __init__(self, *thresholds):
        self.thresholds, self.epoch = thresholds, -1

    @property
    def model(self):
        return self.inference(self.weights())

    def step(self, batch, learning_rate):
        return Step(1.0, 0)

    def weights(self):
        threshold = self.thresholds[max(self.epoch, 0)]
        return {
            "layers.0.weight": np.array([[-1], [1]], np.float32),
            "layers.0.bias": np.array([threshold, -threshold], np.float32),
        }

    def inference(self, weights):
        return NumpyBackend().build(Network(PIXEL, weights))

    def state(self):
        return {}


def test_the_best_epoch_is_one_whose_predictions_are_certified():
    """Each threshold classifies all images correctly; only that of 0.5 is within 0.25 of none."""
    trainer = Scripted(0.6, 0.5, 0.4)
    recipe = TrainingSpec(epochs=3, batch_size=40, certified={"epsilon": 0.25})

    def next_one(epoch):
        trainer.epoch = epoch.epoch

    trainer.epoch = 0
    trained = train(trainer, HALVES, HALVES, recipe, seed=0, title="toy", on_epoch=next_one)
    assert [epoch.validation_accuracy for epoch in trained.history] == [1.0, 1.0, 1.0]
    assert [epoch.certified_accuracy for epoch in trained.history] == [0.5, 1.0, 0.5]
    assert trained.best_epoch == 2
    np.testing.assert_allclose(trained.weights["layers.0.bias"], [0.5, -0.5])


def test_what_was_attacked_by_nothing_cannot_have_collapsed():
    epoch = Epoch(epoch=1, loss=1, accuracy=1, validation_loss=1, validation_accuracy=1,
                  learning_rate=1, seconds=1, certified_accuracy=0.5)  # fmt: skip
    with pytest.raises(NotApplicable, match=r"^it was not trained against an attack"):
        check_collapse(SimpleNamespace(history=(epoch,), best_epoch=1))


def test_numpy_leaves_it_to_the_frameworks_before_the_warm_up_is_over():
    recipe = toy_recipe("ibp", certified={"epsilon": 0.1, "warm_up": 0.9, "ramp": 0.1})
    with pytest.raises(
        BackendError, match=r"^the numpy backend trains with cross-entropy alone; [^\n]*$"
    ):
        toy_train("numpy", recipe)
