"""Adversarial training: what the loop hands to the trainer, and whether a collapse is seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from toy_training import CLASSES, SHAPE, TRAINING, VALIDATION, toy_recipe, toy_train

from backends.numpy_backend import NumpyBackend
from harness.data import Part
from harness.errors import BackendError
from harness.maths.objectives import Divergence, LogOdds
from harness.networks.initial import initial_weights
from harness.protocol import GRADIENT, Batch, Network, Optimizer, Wrapping, fully_connected
from harness.results.records import Epoch
from harness.spec.training import AdversarySpec, TrainingSpec
from harness.training.adversary import Adversary, probe
from harness.training.loop import TrainingError, train

NET = fully_connected(SHAPE, (8,), CLASSES)


def spec(**said):
    return AdversarySpec(
        **{"epsilon": 0.2, "steps": 3, "rel_stepsize": 2.0 / 3, "ramp": 0.5} | said
    )


class Spy:
    """A NumPy network that notes what its gradients are asked for."""

    def __init__(self, bounds=(0.0, 1.0)):
        self.model = NumpyBackend().build(Network(NET, initial_weights(NET, 0)), Wrapping(bounds))
        self.asked = []

    def __getattr__(self, name):
        return getattr(self.model, name)

    def logits_and_gradient(self, x, y, objective):
        self.asked.append((x, y, objective))
        return self.model.logits_and_gradient(x, y, objective)


def perturbed(model=None, progress=0.9, seed=0, **said):
    model = model or Spy()
    x, y = TRAINING.x[:12], TRAINING.y[:12]
    return x, Adversary(spec(**said)).perturb(
        model, x, y, progress, np.random.default_rng(seed)
    )  # fmt: skip


# Perturbing


@pytest.mark.parametrize(
    "said",
    [{}, {"trades_beta": 3.0}, {"mart_lambda": 5.0}, {"start": "clean", "align_lambda": 0.2}],
    ids=["plain", "trades", "mart", "clean"],
)
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.5, 1.5)])
def test_perturbed_images_stay_in_ball_and_box(said, bounds):
    x, found = perturbed(Spy(bounds), **said)
    assert (found.shape, found.dtype) == (x.shape, np.float32)
    assert abs(found - x).max() == pytest.approx(0.2, rel=1e-4)
    assert found.min() >= bounds[0]
    assert found.max() <= bounds[1]


@pytest.mark.parametrize(
    ("progress", "ramp", "radius"),
    [
        (0.0, 0.5, 0.0), (0.125, 0.5, 0.05), (0.25, 0.5, 0.1), (0.5, 0.5, 0.2), (0.9, 0.5, 0.2),
        (0.0, 0.0, 0.2), (0.5, 1.0, 0.1),
    ],
)  # fmt: skip
def test_epsilon_grows_in_the_ramp(progress, ramp, radius):
    x, found = perturbed(progress=progress, ramp=ramp)
    assert abs(found - x).max() == pytest.approx(radius, rel=1e-4, abs=1e-9)


def test_it_takes_the_steps_of_the_spec_from_a_random_start():
    """Three steps of 0.2 · 0.6 / 3 = 0.04, from a start that is evenly spread over the ball."""
    model = Spy()
    x, _ = perturbed(model, rel_stepsize=0.2)
    starts = (model.asked[0][0] - x)[(x > 0.21) & (x < 0.79)]
    assert len(model.asked) == 3
    assert abs(starts).max() <= 0.2 + 1e-6
    assert abs(starts).mean() == pytest.approx(0.1, rel=0.15)
    assert len(np.unique(starts)) > 0.9 * starts.size  # not the same for all images
    for (before, _, _), (after, _, _) in zip(model.asked, model.asked[1:], strict=False):
        assert abs(after - before).max() == pytest.approx(0.04, rel=1e-4)


def test_the_generator_decides_the_start():
    first, again, other = (perturbed(seed=seed)[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_trades_moves_away_from_the_models_own_predictions_and_the_others_from_the_labels():
    plain, trades = Spy(), Spy()
    x, _ = perturbed(plain)
    perturbed(trades, trades_beta=3.0)
    perturbed(plain, mart_lambda=3.0)
    assert len(plain.asked) == 6
    for _, y, objective in plain.asked:
        assert objective == LogOdds()
        assert y.tolist() == TRAINING.y[:12].tolist()
    odds = np.exp(trades.model.logits(x))
    for _, y, objective in trades.asked:
        assert objective == Divergence()
        np.testing.assert_allclose(y, odds / odds.sum(axis=1, keepdims=True), rtol=1e-5)


def test_a_clean_start_is_the_image_itself_whatever_is_drawn():
    """One whole step: each pixel but those that the box holds is as far away as can be."""
    model = Spy()
    x, found = perturbed(model, start="clean", steps=1, rel_stepsize=1.0)
    np.testing.assert_array_equal(model.asked[0][0], x)
    far = abs(abs(found - x) - 0.2) < 1e-5
    assert (far | (found == 0) | (found == 1)).all()
    np.testing.assert_array_equal(
        found, perturbed(start="clean", steps=1, rel_stepsize=1.0, seed=5)[1]
    )


def test_it_makes_the_images_harder():
    model = Spy()
    labels = TRAINING.y[:12]
    true = np.arange(CLASSES) == labels[:, None]
    x, found = perturbed(model)
    before, after = (LogOdds().value(np, model.model.logits(a), true) for a in (x, found))
    assert (after > before).mean() > 0.9


# In the loop


class Recording:
    """A NumPy trainer that notes its steps, and takes them all as plain ones."""

    def __init__(self):
        weights = initial_weights(NET, 0)
        self.trainer = NumpyBackend().trainer(
            Network(NET, weights), Wrapping((0.0, 1.0)), Optimizer(), seed=0
        )
        self.steps, self.batches = [], []

    def __getattr__(self, name):
        return getattr(self.trainer, name)

    def step(self, batch, learning_rate):
        self.batches.append(batch)
        self.steps.append((batch.x, batch.targets, batch.perturbed, batch.trades_beta))
        return self.trainer.step(Batch(batch.x, batch.targets), learning_rate)


def steps_of(**said):
    """The steps of two epochs of five batches, and the images of the same steps when unattacked."""
    recordings = []
    for adversary in (spec(**said), None):
        trainer = Recording()
        recipe = TrainingSpec(epochs=2, batch_size=12, adversary=adversary)
        trained = train(trainer, TRAINING, VALIDATION, recipe, seed=0, title="toy")
        recordings.append([trainer.steps, trained.history])
    (attacked, history), (plain, _) = recordings
    assert len(attacked) == len(plain) == 10
    return attacked, plain, history


def test_plain_adversarial_training_learns_from_the_perturbed_images_alone():
    attacked, plain, history = steps_of()
    for number, (ours, theirs) in enumerate(zip(attacked, plain, strict=True)):
        x, targets, moved, beta = ours
        assert (moved, beta) == (None, 0.0)
        np.testing.assert_array_equal(targets, theirs[1])
        # Of ten steps the first five are the ramp.
        radius = 0.2 * min(1, number / 5)
        assert abs(x - theirs[0]).max() == pytest.approx(radius, rel=1e-4, abs=1e-9)
        assert x.min() >= 0
        assert x.max() <= 1
    assert all(epoch.fgsm_accuracy is not None for epoch in history)
    assert all(epoch.pgd_accuracy is not None for epoch in history)


def test_trades_learns_from_the_clean_images_and_their_perturbed_copies():
    attacked, plain, _ = steps_of(trades_beta=3.0)
    for number, (ours, theirs) in enumerate(zip(attacked, plain, strict=True)):
        x, targets, moved, beta = ours
        assert beta == 3.0
        np.testing.assert_array_equal(x, theirs[0])
        np.testing.assert_array_equal(targets, theirs[1])
        radius = 0.2 * min(1, number / 5)
        assert abs(moved - x).max() == pytest.approx(radius, rel=1e-4, abs=1e-9)


def batches_of(**said):
    """The batches of two epochs of five, and the images of the same steps when unattacked."""
    trainer = Recording()
    recipe = TrainingSpec(epochs=2, batch_size=12, adversary=spec(**said))
    train(trainer, TRAINING, VALIDATION, recipe, seed=0, title="toy")
    _, plain, _ = steps_of()
    return list(zip(trainer.batches, [x for x, *_ in plain], strict=True))


def test_mart_learns_from_the_clean_images_and_their_perturbed_copies():
    for number, (batch, x) in enumerate(batches_of(mart_lambda=5.0)):
        assert (batch.mart_lambda, batch.trades_beta, batch.weight_gamma) == (5.0, 0.0, 0.0)
        np.testing.assert_array_equal(batch.x, x)
        radius = 0.2 * min(1, number / 5)
        assert abs(batch.perturbed - x).max() == pytest.approx(radius, rel=1e-4, abs=1e-9)
        assert batch.aligned is None


def test_aligned_are_the_clean_images_and_noise_from_the_present_ball():
    seen = set()
    for number, (batch, x) in enumerate(batches_of(align_lambda=0.5)):
        assert (batch.align_lambda, batch.perturbed) == (0.5, None)
        np.testing.assert_array_equal(batch.aligned, x)
        radius = 0.2 * min(1, number / 5)
        noise = batch.noisy - x
        assert abs(noise).max() <= radius + 1e-6
        assert (batch.noisy.min() >= 0, batch.noisy.max() <= 1) == (True, True)
        assert batch.noisy.dtype == np.float32
        # Evenly spread where the box does not hold it, and another one than the adversary's start.
        inside = (x > 0.21) & (x < 0.79)
        assert abs(noise[inside]).mean() == pytest.approx(radius / 2, rel=0.2, abs=1e-9)
        seen.add(float(noise.sum()))
    assert len(seen) == 10


@pytest.mark.parametrize("said", [{}, {"trades_beta": 3.0}, {"mart_lambda": 5.0}])
def test_weights_are_moved_with_every_loss(said):
    for (batch, _), (plain, _) in zip(
        batches_of(weight_gamma=0.01, **said), batches_of(**said), strict=True
    ):
        assert batch.weight_gamma == 0.01
        without = replace(batch, weight_gamma=0.0)
        for name in ("x", "targets", "perturbed"):
            np.testing.assert_array_equal(getattr(without, name), getattr(plain, name))
        assert (without.trades_beta, without.mart_lambda) == (plain.trades_beta, plain.mart_lambda)


def test_each_step_has_a_start_of_its_own():
    attacked, plain, _ = steps_of(rel_stepsize=1e-6, ramp=0.0)
    first, second = attacked[0][0], attacked[1][0]
    x, other = plain[0][0], plain[1][0]
    # Where neither is cut off by the box.
    inside = (abs(x - 0.5) < 0.29) & (abs(other - 0.5) < 0.29)
    assert inside.sum() > 20
    assert not np.allclose((first - x)[inside], (second - other)[inside], atol=1e-3)
    again, _, _ = steps_of(rel_stepsize=1e-6, ramp=0.0)
    np.testing.assert_array_equal(attacked[3][0], again[3][0])


def test_without_an_adversary_nothing_is_attacked():
    trainer = Recording()
    recipe = TrainingSpec(epochs=1, batch_size=12)
    (epoch,) = train(trainer, TRAINING, VALIDATION, recipe, seed=0, title="toy").history
    assert (epoch.fgsm_accuracy, epoch.pgd_accuracy, epoch.collapsed) == (None, None, False)


@pytest.mark.parametrize("name", ["trades", "mart", "awp", "gradalign"])
def test_numpy_leaves_all_but_cross_entropy_to_the_frameworks(name):
    recipe = toy_recipe(name, adversary={"epsilon": 0.1})
    with pytest.raises(
        BackendError, match=r"^the numpy backend trains with cross-entropy alone; [^\n]*$"
    ):
        toy_train("numpy", recipe)


# Collapse


class OnePixel:
    """Of one pixel p: says class 0 above a threshold, by a margin of 1. All images are of class 0.

    Near p = 1/2, where the images are, its slope may point up, so that a single step from there
    goes the wrong way; everywhere else it points to where the images are lost.
    """

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset({GRADIENT})

    def __init__(self, threshold, masked):
        self.threshold, self.masked = threshold, masked

    def asarray(self, values):
        return np.asarray(values)

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        return np.hstack([np.sign(x - self.threshold), np.zeros_like(x)])

    def logits_and_gradient(self, x, y, objective):
        return self.logits(x), np.where(self.masked & (x == 0.5), 1.0, -1.0).astype(np.float32)


HALVES = Part(np.full((20, 1), 0.5, np.float32), np.zeros(20, np.int64), np.arange(20))


class Scripted:
    """In each epoch the model of that epoch."""

    def __init__(self, *models):
        self.models, self.epoch = models, 0

    @property
    def model(self):
        return self.models[max(self.epoch - 1, 0)]

    def step(self, batch, learning_rate):
        self.epoch += 1
        return 1.0, 1

    def weights(self):
        return {"threshold": np.array([self.model.threshold], np.float32)}

    def inference(self, weights):
        return self.model


COLLAPSED, ROBUST, HONEST = OnePixel(0.4, True), OnePixel(0.0, False), OnePixel(0.4, False)


@pytest.mark.parametrize(
    ("model", "fgsm", "pgd", "collapsed"),
    [(COLLAPSED, 1.0, 0.0, True), (ROBUST, 1.0, 1.0, False), (HONEST, 0.0, 0.0, False)],
    ids=["collapsed", "robust", "not-robust"],
)
def test_a_defence_that_withstands_fgsm_alone_has_collapsed(model, fgsm, pgd, collapsed):
    adversary = spec(epsilon=0.2)
    recipe = TrainingSpec(epochs=1, batch_size=20, adversary=adversary)
    (epoch,) = train(Scripted(model), HALVES, HALVES, recipe, seed=0, title="toy").history
    assert (epoch.fgsm_accuracy, epoch.pgd_accuracy) == (fgsm, pgd)
    assert epoch.collapsed is collapsed
    assert epoch.validation_accuracy == 1.0


def test_the_best_epoch_is_one_that_resists_pgd():
    recipe = TrainingSpec(epochs=3, batch_size=20, adversary=spec(epsilon=0.2))
    trained = train(
        Scripted(COLLAPSED, ROBUST, COLLAPSED), HALVES, HALVES, recipe, seed=0, title="toy"
    )
    assert [epoch.collapsed for epoch in trained.history] == [True, False, True]
    assert trained.best_epoch == 2
    assert trained.weights["threshold"] == [0.0]


def test_the_probe_attacks_with_the_given_epsilon():
    """Half a pixel's distance of 0.1 from the threshold: lost beyond, and right within."""
    for epsilon, accuracy in ((0.09, 1.0), (0.11, 0.0)):
        found = probe(HONEST, HALVES.x, HALVES.y, epsilon)
        assert found == {"fgsm_accuracy": accuracy, "pgd_accuracy": accuracy}


@pytest.mark.parametrize(
    ("fgsm", "pgd", "collapsed"),
    [(0.6, 0.3, True), (0.5, 0.4, False), (0.3, 0.6, False), (None, None, False), (1, 0, True)],
)
def test_collapsed_is_a_gap_of_more_than_a_fifth(fgsm, pgd, collapsed):
    epoch = Epoch(epoch=1, loss=1, accuracy=1, validation_loss=1, validation_accuracy=1,
                  learning_rate=1, seconds=1, fgsm_accuracy=fgsm, pgd_accuracy=pgd)  # fmt: skip
    assert epoch.collapsed is collapsed


def test_a_model_without_slopes_is_one_line():
    class Flat(OnePixel):
        def logits_and_gradient(self, x, y, objective):
            return self.logits(x), np.zeros_like(x)

    recipe = TrainingSpec(epochs=1, batch_size=20, adversary=spec())
    with pytest.raises(TrainingError, match=r"^toy: [^\n]*fgsm changed no image[^\n]*$"):
        train(Scripted(Flat(0.4, False)), HALVES, HALVES, recipe, seed=0, title="toy")
