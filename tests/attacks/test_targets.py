"""One class that all images are led to, or one for each: by hand, in any batches, and counted."""

import json

import numpy as np
import pytest
from backends_at_hand import NAMES
from small_models import attacked, linear, small_images, small_net
from tiny_spec import tiny_spec

import harness
from harness.attacks import make_attack
from harness.attacks.apgd import APGD
from harness.attacks.minimal import by_search
from harness.attacks.options import UNTOLD, options_of
from harness.attacks.pgd import MIM, PGD
from harness.attacks.strongest import Strongest
from harness.attacks.sweep import sweep
from harness.errors import MeasurementError, SpecError
from harness.gate.settings import differences
from harness.protocol import goals_of, is_targeted
from harness.spec.reading import parse_spec

# Every pixel is a class of its own.
EYE = 10 * np.eye(4)
PIXELS = np.array([[0.5, 0.3, 0.4, 0.2]])


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("kind", [PGD, MIM, APGD])
@pytest.mark.parametrize("goal", [1, 2, 3])
def test_images_are_taken_for_the_class_that_is_said(kind, backend, goal):
    model = linear(EYE, backend=backend)
    for target in (goal, [goal], np.array([goal])):
        attack = kind(steps=20, target=target, start="clean")
        (found,) = attacked(attack, model, PIXELS, [0], [0.25])
        assert model.numpy(model.logits(model.asarray(found))).argmax() == goal


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_each_image_has_its_own_class_in_any_batches_and_any_order(norm):
    model, x = linear(EYE), np.tile(PIXELS, (6, 1))
    y, goals = np.zeros(6, int), [1, 2, 3, 3, 2, 1]
    attack = PGD(target=goals, steps=20, norm=norm)
    epsilon = 0.25 if norm == "linf" else 0.5
    (whole,) = attacked(attack, model, x, y, [epsilon])
    assert model.logits(whole).argmax(axis=1).tolist() == goals
    for size in (1, 4, 6):
        (found,) = sweep(model, attack, x, y, [epsilon], batch_size=size)
        assert found.predictions.labels.tolist() == goals
    some = np.array([5, 2, 0])
    (found,) = attacked(attack, model, x[some], y[some], [epsilon], index=some)
    np.testing.assert_allclose(found, whole[some], atol=1e-12)


def test_a_member_of_an_ensemble_keeps_each_images_class():
    """Only what is still right is handed on: the last two images."""
    model, x, y = linear(EYE), np.tile(PIXELS, (4, 1)), np.array([2, 2, 0, 0])
    members = (PGD(name="a", target=[1, 1, 3, 1], steps=20, start="clean"),)
    (found,) = attacked(Strongest(members=members), model, x, y, [0.25])
    assert model.logits(found).argmax(axis=1).tolist() == [0, 0, 3, 1]


# Images that are of that class already


@pytest.mark.parametrize("target", [0, [0, 0, 0]])
def test_images_that_are_of_that_class_already_stay_as_they_are(target):
    """The first is right; the second is of the class, but taken for 1; the third is of another."""
    model = linear(EYE)
    x = np.array([[0.5, 0.3, 0.4, 0.2], [0.3, 0.5, 0.4, 0.2], [0.3, 0.5, 0.4, 0.2]])
    attack = PGD(target=target, steps=20, start="clean")
    found = attacked(attack, model, x, [0, 0, 1], [0.0, 0.25])[1]
    np.testing.assert_array_equal(found[:2], x[:2])
    assert model.logits(found).argmax(axis=1).tolist() == [0, 1, 0]


def test_their_smallest_epsilon_is_none():
    model, x = linear(EYE), np.tile(PIXELS, (2, 1))
    attack = PGD(target=[0, 2], steps=20, start="clean", losses=("margin",))
    found = by_search(model, attack, x, np.array([0, 0]), 0.5)
    assert np.isinf(found.epsilons[0])
    assert found.epsilons[1] == pytest.approx(0.05, abs=2e-3)


def measured(attack, y, epsilons=(0.0, 0.25)):
    """Three images that are taken for class 0, and for any other within 0.25."""
    run = harness.evaluate(linear(EYE), np.tile(PIXELS, (3, 1)), np.array(y), [attack], epsilons)
    return [record for record in run.records if record.check == attack.name]


def test_the_success_is_counted_over_the_others():
    attack = PGD(target=3, steps=20)
    none, all_ = measured(attack, [3, 0, 0])
    assert (none.value, none.correct) == (0.0, 2)
    assert (all_.value, all_.correct) == (1.0, 0)  # the first is taken for 0, as before
    attack = PGD(target=[3, 0, 2], steps=20)
    none, some = measured(attack, [3, 0, 1])
    assert (none.value, none.correct) == (0.0, 1)
    assert (some.value, some.correct) == (1.0, 1)  # the second stays as it is


def test_an_attack_on_no_other_class_is_skipped_and_says_so():
    (record,) = measured(PGD(target=1), [1, 1, 1], [0.1])
    assert record.status == "skipped"
    assert record.reason == "pgd aims at the class that every image has already"


# What is wrong


def test_a_class_that_the_model_lacks_is_an_error_in_one_line():
    for target in (4, [0, 4, 1]):
        (record,) = measured(PGD(target=target), [1, 1, 0], [0.1])
        assert record.status == "error"
        assert record.reason == "target: there is no class 4; the model has 4 classes from 0"
    (record,) = measured(PGD(target=[0, 1]), [1, 0, 1], [0.1])
    assert record.status == "error"
    assert record.reason == (
        "target: there are 2 classes for at least 3 images; give one for each image"
    )
    with pytest.raises(MeasurementError, match=r"^target: there is no class 4;"):
        attacked(PGD(target=4), linear(EYE), PIXELS, [0], [0.1])
    with pytest.raises(MeasurementError, match=r"^target: there are 2 classes for at least 9 "):
        attacked(PGD(target=[1, 2]), linear(EYE), PIXELS, [0], [0.1], index=np.array([8]))


@pytest.mark.parametrize(
    ("target", "finding"),
    [
        ("nearest", r"a list of classes, one for each image \(got 'nearest'\)$"),
        (-1, r"\(got -1\)$"),
        (True, r"\(got True\)$"),
        (2.0, r"\(got 2.0\)$"),
        ([], r"^target: the list is empty; give a class for each image$"),
        ([1, 2.5], r"^target: entry 1 is no class; they are whole numbers from 0 \(got 2.5\)$"),
        ([1, -2], r"^target: entry 1 is no class"),
        (np.array([[1, 2]]), r"^target: entry 0 is no class; .* \(got \[1, 2\]\)$"),
        (np.array([1.0]), r"^target: entry 0 is no class"),
    ],
)
def test_what_is_no_class_is_named(target, finding):
    with pytest.raises(SpecError, match=finding):
        make_attack("pgd", options={"target": target})


# In specs and runs


def test_a_spec_says_classes_as_numbers():
    text = tiny_spec(attacks="[attacks.pgd]\nepsilons = [0.1]\ntarget = [3, 1]\n")
    spec = parse_spec(text, "tiny.toml")
    attack = make_attack("pgd", options=spec.attacks["pgd"].options)
    assert attack.target == (3, 1)
    assert make_attack("apgd-t", options={"target": 3}).target == 3


def test_it_aims_at_one_class_of_each_image():
    logits, labels = np.eye(4)[:2], np.array([0, 1])
    for target in (3, [3, 1], np.int64(3), [12, 12], 12):
        assert is_targeted(PGD(target=target))
    assert goals_of(PGD(target=3), logits, labels).tolist() == [3, 3]
    assert goals_of(PGD(target=[2, 1, 0]), logits, labels).tolist() == [2, 1]


def test_long_lists_are_options_that_can_be_stored_and_compared():
    def spec(target):
        options = options_of(PGD(target=target))
        assert UNTOLD not in options
        return {"attacks": {"pgd": {"options": json.loads(json.dumps(options))}}}

    many = np.arange(20_000) % 10
    other = many.copy()
    other[-1] = 0
    assert options_of(PGD(target=[3, 1]))["target"] == [3, 1]
    assert options_of(PGD(target=np.array(3)))["target"] == 3
    assert differences(spec(many), spec(list(many)), "pgd") == ""
    assert "attacks.pgd.target is " in differences(spec(many), spec(other), "pgd")
    assert differences(spec(3), spec("none"), "pgd") == "attacks.pgd.target is none, was 3"


def test_images_of_the_class_stay_and_some_others_reach_it():
    model, (x, y) = small_net(), small_images(40, wrong=0)
    reached = 0
    for goal in range(5):
        (found,) = attacked(PGD(target=goal, steps=10), model, x, y, [0.9])
        labels = model.logits(found).argmax(axis=1)
        reached += np.sum(labels[y != goal] == goal)
        np.testing.assert_array_equal(found[y == goal], x[y == goal])
    assert reached > 40
