"""Adversarial images are those that an evaluation counts, to the image."""

from __future__ import annotations

import numpy as np
import pytest

import harness
from harness.attacks import PGD, Square
from harness.errors import HarnessError, SpecError
from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights
from harness.protocol import Network, Wrapping
from harness.registry import backend


def brightest(images):
    """Scores of two classes: the pixels themselves."""
    return images.reshape(len(images), -1)


X = np.array([[[0.45, 0.55]], [[0.9, 0.1]], [[0.6, 0.4]]], np.float32)
Y = np.array([1, 0, 1])


def black_box():
    return harness.wrap_function(brightest, outputs="logits")


@pytest.fixture(scope="module")
def network():
    """Random weights, which are right of some images, in the NumPy backend."""
    kind = ImageKind.of((6, 6), 4, None)
    architecture = architecture_of("mlp", {"hidden": [8]}, kind)
    made = Network(architecture, initial_weights(architecture, 1))
    return backend("numpy").build(made, Wrapping((0.0, 1.0)))


@pytest.fixture(scope="module")
def images(network):
    x = np.random.default_rng(0).random((40, 6, 6), dtype=np.float32)
    y = network.logits(x).argmax(axis=1)
    y[::5] = (y[::5] + 1) % 4
    return x, y


def test_images_labels_and_successes_by_hand():
    found = harness.perturb(black_box(), X, Y, "square", 0.1)
    # Of the first the two pixels are 0.1 apart, of the second 0.8; the third was wrong before.
    assert found.successes.tolist() == [True, False, True]
    assert found.labels.tolist() == brightest(found.images).argmax(axis=1).tolist() == [0, 0, 0]
    assert (found.images[2] == X[2]).all()
    assert (found.images.dtype, found.labels.dtype) == (np.float32, np.int32)
    assert found.successes.dtype == bool
    assert (found.attack, found.epsilon) == ("square", 0.1)


@pytest.mark.parametrize(
    "attack", ["noise", "fgsm", "pgd", "apgd", "apgd-t", "square", "fab", "pgd-l2"]
)
@pytest.mark.parametrize("epsilon", [0.0, 0.03])
def test_as_many_are_right_as_an_evaluation_counts(network, images, attack, epsilon):
    found = harness.perturb(network, *images, attack, epsilon)
    run = harness.evaluate(network, *images, attack, epsilon, progress=False)
    (record,) = (record for record in run.records if record.check == attack)
    assert record.correct == record.total - found.successes.sum()
    stored = next(
        value
        for key, value in run.arrays.items()
        if key.endswith(f"{attack}@{epsilon:g}/predictions")
    )
    assert (stored == found.labels).all()
    assert (network.logits(found.images).argmax(axis=1) == found.labels).all()
    assert (found.successes == (found.labels != images[1])).all()


def test_portions_do_not_matter(network, images):
    whole = harness.perturb(network, *images, "pgd", 0.03)
    parts = harness.perturb(network, *images, "pgd", 0.03, batch_size=7)
    assert (whole.labels == parts.labels).all()
    np.testing.assert_allclose(whole.images, parts.images, atol=1e-6)


def test_images_stay_within_ball_and_bounds_and_nothing_is_written_to(network, images):
    x, y = images
    before = x.copy()
    found = harness.perturb(network, x, y, PGD(steps=3), 0.05)
    assert (x == before).all()
    assert np.abs(found.images - x).max() <= 0.05 + 1e-6
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    assert not (found.images == x).all()


def test_success_of_a_targeted_attack_is_reaching_its_goal(network, images):
    x, y = images
    found = harness.perturb(network, x, y, PGD(target=2), 0.2)
    run = harness.evaluate(network, x, y, PGD(target=2), 0.2, progress=False)
    (record,) = (record for record in run.records if record.check == "pgd")
    others = y != 2
    assert found.successes.sum() / others.sum() == pytest.approx(record.value)
    assert not found.successes[~others].any()
    assert (found.labels[found.successes] == 2).all()


def test_what_is_not_answered_is_no_success():
    def fails(images):
        if (images[:, 0, 0] > 0.8).any():
            raise OSError("busy")
        return brightest(images)

    model = harness.wrap_function(fails, outputs="logits")
    found = harness.perturb(model, X, Y, Square(steps=5), 0.1)
    assert found.labels[1] == -1
    assert not found.successes[1]
    assert (found.images[1] == X[1]).all()


def test_bytes_and_units():
    x = np.array([[[110, 140]]], np.uint8)
    found = harness.perturb(black_box(), x, [1], "square", 25, epsilon_unit=255)
    assert found.epsilon == pytest.approx(25 / 255)
    assert np.abs(found.images - x / 255).max() <= 25 / 255 + 1e-6
    assert found.successes.all()


@pytest.mark.parametrize(
    ("error", "arguments", "said"),
    [
        (SpecError, (X, Y, "sqare", 0.1), "did you mean square?"),
        (HarnessError, (X, Y, ["square", "noise"], 0.1), "attack: there are several"),
        (HarnessError, (X, Y, "square", [0.1, 0.2]), "epsilon: there are several"),
        (HarnessError, (X, Y, "square", -0.1), "not one or more finite numbers"),
        (HarnessError, (X, None, "square", 0.1), "y: missing"),
        (HarnessError, (X, [0, 1, 2], "square", 0.1), "the model has 2 classes"),
        (HarnessError, (X, Y, "pgd", 0.1), "pgd: pgd needs gradient, which the model lacks"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(error, arguments, said):
    with pytest.raises(error) as caught:
        harness.perturb(black_box(), *arguments)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_its_repr_is_one_short_line():
    found = harness.perturb(black_box(), X, Y, "square", 0.1)
    assert repr(found) == "Perturbed('square' at ε = 0.1: 3 images of 1 × 2, 2 successes)"
