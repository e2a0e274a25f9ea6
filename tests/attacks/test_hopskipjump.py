"""HopSkipJump: near the known distance of linear models, by labels alone, within its budget."""

import numpy as np
import pytest
from backends_at_hand import NAMES
from small_models import Counting, attacked, linear, right, small_images, small_net

from harness import wrap_function
from harness.attacks import make_attack
from harness.attacks.hopskipjump import HopSkipJump
from harness.attacks.sweep import sweep
from harness.errors import SpecError

KINDS = ["hopskipjump", "hopskipjump-l2"]
LENGTH = {"linf": np.inf, "l2": 2}


def far(found, x, norm):
    return np.linalg.norm((found - x).reshape(len(x), -1), axis=1, ord=LENGTH[norm])


def least(matrix, bias, x, label, norm):
    """From x to the nearest boundary of its class: by the dual norm."""
    lead = (matrix[label] - matrix) @ x + bias[label] - bias
    dual = np.linalg.norm(matrix[label] - matrix, axis=1, ord=1 if norm == "linf" else 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.delete(lead / dual, label).min()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_comes_close_to_the_boundary_of_a_linear_model_and_not_beyond(norm):
    random = np.random.default_rng(0)
    matrix, bias = random.normal(size=(3, 30)), random.normal(size=3)
    x = 0.3 + 0.4 * random.random((8, 30))
    y = (x @ matrix.T + bias).argmax(axis=1)
    known = np.array([least(matrix, bias, *pair, norm) for pair in zip(x, y, strict=True)])
    model, attack = linear(matrix, bias), HopSkipJump(norm=norm, queries=4000)
    _, found = attacked(attack, model, x, y, [1e-9, 9.0])
    assert right(model, found, y) == 0
    ratio = far(found, x, norm) / known
    assert ratio.min() >= 1
    assert ratio.max() < 1.1
    _, sooner = attacked(HopSkipJump(norm=norm, queries=400), model, x, y, [1e-9, 9.0])
    assert (far(sooner, x, norm) / known).mean() > ratio.mean()


def test_by_hand_on_one_pixel():
    # Class 1 above one half: from 0.3 that is 0.2 away, and nothing is nearer.
    model = linear([[-1], [1]], [0.5, -0.5])
    for name in KINDS:
        _, found = attacked(make_attack(name), model, [[0.3], [0.9]], [0, 1], [1e-9, 1.0])
        assert found.ravel() == pytest.approx([0.5, 0.5], abs=1e-3)
        assert right(model, found, [0, 1]) == 0


class Labels:
    """A model that says nothing but which class: a logit of one there, and no other."""

    def __init__(self, model, scale):
        self.model, self.scale = model, scale

    def __getattr__(self, name):
        return getattr(self.model, name)

    @property
    def capabilities(self):
        return frozenset()

    def logits(self, x):
        found = self.model.logits(x)
        return self.scale * np.eye(found.shape[1])[found.argmax(axis=1)]


@pytest.mark.parametrize("name", KINDS)
def test_labels_alone_are_asked_for(name):
    x, y = small_images(6, wrong=1)
    attack = make_attack(name, options={"queries": 300})
    (plain,) = attacked(attack, small_net(), x.astype(float), y, [0.3])
    for scale in (1.0, 1e-3, 1e6):
        (told,) = attacked(attack, Labels(small_net(), scale), x.astype(float), y, [0.3])
        np.testing.assert_array_equal(told, plain)


@pytest.mark.parametrize("queries", [1, 2, 7, 50, 300, 1000])
@pytest.mark.parametrize("name", KINDS)
def test_no_more_than_the_budget_is_asked_of_an_image(name, queries):
    model, (x, y) = Counting(small_net()), small_images(5, wrong=0)
    attack = make_attack(name, options={"queries": queries})
    _, found = attacked(attack, model, x, y, [1e-9, 9.0])
    assert sum(model.rows) <= queries * len(x)
    asked = np.concatenate(model.asked)
    assert (asked.min(), asked.max()) >= (0, 0)
    assert asked.max() <= 1
    for image in x[:1]:  # clean, and whatever else was asked of it
        assert any(np.array_equal(image, one) for one in asked)
    if queries >= 300:
        assert sum(model.rows) > 0.5 * queries * len(x)
        assert right(small_net(), found.astype(float), y) == 0
    elif queries == 1:
        np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("name", KINDS)
def test_misclassified_images_are_asked_once_and_left(name):
    model, (x, y) = Counting(small_net()), small_images(5, wrong=5)
    (found,) = attacked(make_attack(name), model, x, y, [0.5])
    assert model.rows == [5]
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("name", KINDS)
def test_one_search_serves_all_epsilons_and_what_is_too_long_is_shortened(name):
    x, y = small_images(6, wrong=0)
    attack = make_attack(name, options={"queries": 400})
    model = Counting(small_net())
    small, large, whole = attacked(attack, model, x.astype(float), y, [0.01, 3.0, 9.0])
    alone = Counting(small_net())
    attacked(attack, alone, x.astype(float), y, [0.01])
    assert sum(model.rows) == sum(alone.rows)
    length = far(whole, x, attack.norm)
    assert length == pytest.approx(far(large, x, attack.norm))
    assert far(small, x, attack.norm) == pytest.approx(np.full(6, 0.01))
    assert right(small_net(), whole, y) == 0


@pytest.mark.parametrize("size", [1, 4, 7])
@pytest.mark.parametrize("name", KINDS)
def test_batches_and_calls_of_any_size_change_nothing(name, size):
    x, y = small_images(7, wrong=1)
    attack = make_attack(name, options={"queries": 200})
    (expected,) = sweep(small_net(), attack, x, y, [0.2], keep=range(7))
    (found,) = sweep(small_net(), attack, x, y, [0.2], keep=range(7), batch_size=size)
    np.testing.assert_array_equal(found.kept, expected.kept)


def test_no_call_holds_more_images_than_the_model_takes():
    x, y = small_images(7, wrong=0)
    calls = []

    def ask(images):
        calls.append(len(images))
        if len(images) > 5:
            raise MemoryError
        return small_net().logits(images.astype(float))

    model = wrap_function(ask, outputs="logits")
    attack = make_attack("hopskipjump", options={"queries": 200})
    (found,) = sweep(model, attack, x, y, [9.0], keep=range(7))
    assert sum(one > 5 for one in calls) <= 2
    (expected,) = sweep(
        wrap_function(lambda images: small_net().logits(images.astype(float)), outputs="logits"),
        attack, x, y, [9.0], keep=range(7),
    )  # fmt: skip
    np.testing.assert_array_equal(found.kept, expected.kept)


def test_of_an_image_within_the_smallest_epsilon_no_more_is_asked():
    # From 0.3 the first image that is found beyond one half is within 0.7.
    model = Counting(linear([[-1], [1]], [0.5, -0.5]))
    (found,) = attacked(HopSkipJump(queries=1000), model, [[0.3]], [0], [0.7])
    assert sum(model.rows) < 200
    assert 0.2 < found - 0.3 <= 0.7


def test_where_nothing_is_found_noise_is_tried_and_the_accuracy_measured():
    model = linear([[0.0], [0.0]], [1.0, 0.0])
    (found,) = attacked(HopSkipJump(), model, [[0.25]], [0], [0.1])
    assert 0 < abs(found.item() - 0.25) <= 0.1 + 1e-6
    x, y = np.array([[0.25], [0.5]]), np.zeros(2, dtype=np.int64)
    (result,) = sweep(model, HopSkipJump(), x, y, [0.1])
    assert result.predictions.labels.tolist() == [0, 0]


def test_without_a_query_for_noise_an_image_stays_as_it_is():
    model = linear([[-1], [1]], [0.5, -0.5])
    (found,) = attacked(HopSkipJump(queries=1), model, [[0.25]], [0], [1.0])
    assert found.tolist() == [[0.25]]


@pytest.mark.parametrize("backend", NAMES)
@pytest.mark.parametrize("name", KINDS)
def test_it_does_the_same_in_every_backend(backend, name):
    x, y = small_images(6, wrong=1)
    attack = make_attack(name, options={"queries": 300})
    x64 = x.astype(float)
    _, expected = attacked(attack, small_net(), x64, y, [1e-9, 9.0])
    _, found = attacked(attack, small_net(backend), x64, y, [1e-9, 9.0])
    expected, found = (far(one, x, attack.norm) for one in (expected, found))
    assert found == pytest.approx(expected, abs=1e-6)


def test_options_are_checked():
    with pytest.raises(SpecError, match=r"^queries: "):
        make_attack("hopskipjump", options={"queries": 0})
    with pytest.raises(SpecError, match=r"^steps: hopskipjump has no such option"):
        make_attack("hopskipjump", options={"steps": 3})
    assert make_attack("hopskipjump-l2").options() == {
        "norm": "l2", "queries": 1000, "draws": 100, "seed": 0
    }  # fmt: skip
