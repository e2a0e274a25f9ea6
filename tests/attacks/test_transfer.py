"""Transferred images: made against another model, and judged on the one under attack."""

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from small_models import Counting, attacked, linear, right, small_images, small_net

import harness
from harness.attacks import make_attack
from harness.attacks.options import options_of
from harness.attacks.pgd import PGD
from harness.attacks.square import Square
from harness.attacks.substitute import substitute_asking
from harness.attacks.sweep import sweep
from harness.attacks.transfer import Transfer
from harness.errors import MeasurementError, SpecError
from harness.maths.query import correct_count, predictions_of

# The second logit is minus the first, so a loss for class 0 grows along (-1, +1).
DIAGONAL = [[1, -2], [-1, 2]]


class Masked:
    """A model that gives no gradient."""

    def __init__(self, model):
        self.model = model

    def __getattr__(self, name):
        return getattr(self.model, name)

    @property
    def capabilities(self):
        return frozenset()


def test_the_steps_are_those_against_the_source():
    source, model = linear(DIAGONAL), linear([[5, 1], [-5, -1]], [-9, 9])
    x, y = np.array([[0.5, 0.5], [0.5, 0.5]]), np.array([1, 0])
    (found,) = attacked(Transfer(source=source), model, x, y, [0.125])
    # The model is wrong of the second, which stays; the first goes where the source says.
    np.testing.assert_allclose(found, [[0.625, 0.375], [0.5, 0.5]])
    (found,) = attacked(Transfer(source=source, norm="l2"), model, x, y, [0.125])
    along = np.array([1, -2]) / np.sqrt(5)
    np.testing.assert_allclose(found[0], 0.5 + 0.125 * along, atol=1e-9)


def test_what_fools_the_model_is_kept_at_larger_epsilons():
    x, y = small_images(30, wrong=3)
    model, source = small_net(dtype="float32"), small_net(dtype="float32")
    found = sweep(model, Transfer(source=source), x, y, [0.0, 0.05, 0.1, 0.2, 0.3])
    counts = [correct_count(one.predictions, y) for one in found]
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (27, min(counts))
    assert counts[-1] < 15


def test_the_model_is_asked_for_answers_alone_once_an_epsilon():
    x, y = small_images(10, wrong=0)
    model = Counting(Masked(small_net(dtype="float32")))
    attacked(Transfer(source=small_net(dtype="float32")), model, x, y, [0.0, 0.001, 0.002])
    assert model.gradients == 0
    assert model.rows == [10, 10, 10]


def test_images_against_itself_are_as_strong_as_its_own_gradients_make_them():
    x, y = small_images(40, wrong=0)
    model = small_net(dtype="float32")
    own = PGD(steps=20, start="clean", losses=("cross-entropy",))
    for attack in (Transfer(source=model), Transfer(source=model, attack=own)):
        (found,) = sweep(Masked(model), attack, x, y, [0.1])
        (expected,) = sweep(model, own, x, y, [0.1])
        assert correct_count(found.predictions, y) <= correct_count(expected.predictions, y) + 1


@pytest.mark.parametrize("backend", NAMES)
def test_source_and_model_may_be_of_two_frameworks(backend):
    x, y = small_images(12, wrong=2)
    attack = Transfer(source=small_net("numpy", "float32"))
    (expected,) = attacked(attack, small_net(dtype="float32"), x, y, [0.1])
    (found,) = attacked(attack, small_net(backend, "float32"), x, y, [0.1])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    (other,) = attacked(Transfer(source=small_net(backend, "float32")), small_net(), x, y, [0.1])
    np.testing.assert_allclose(other, expected, atol=1e-6)


def test_a_torch_network_of_the_users_is_wrapped():
    at_hand("torch")
    import torch

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 5))
    x, y = small_images(12, wrong=0)
    (plain,) = attacked(Transfer(source=harness.wrap(net)), small_net(), x, y, [0.1])
    (found,) = attacked(Transfer(source=net), small_net(), x, y, [0.1])
    np.testing.assert_array_equal(found, plain)
    assert (found != x).any()


# Substitutes


def test_a_substitute_answers_as_the_model_and_its_images_fool_it():
    x, _ = small_images(120, wrong=0)
    model = small_net(dtype="float32")
    y = predictions_of(model, x).labels.astype(int)
    substitute = substitute_asking(model.logits, x, (0.0, 1.0), 2)
    assert (substitute.logits(x).argmax(axis=1) == y).mean() > 0.95
    (found,) = sweep(Masked(model), Transfer(), x, y, [0.3])
    assert correct_count(found.predictions, y) < 100
    assert found.backwards == 0
    # What is known of the images; what the substitute asks for, of 1 + 1 + 2 images each; and
    # where its images led.
    assert found.forwards == pytest.approx(1 + 4 + 1, abs=0.01)


def test_a_substitute_is_the_same_each_time_and_one_serves_all_epsilons():
    x, y = small_images(30, wrong=0)
    model = Counting(small_net(dtype="float32"))
    first = attacked(Transfer(rounds=1), model, x, y, [0.1, 0.2])
    assert len(model.rows) == 1 + 2 + 2
    again = attacked(Transfer(rounds=1), small_net(dtype="float32"), x, y, [0.1, 0.2])
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_substitute_asks_of_no_more_images_at_a_time_than_there_are():
    x, y = small_images(9, wrong=0)
    model = Counting(small_net(dtype="float32"))
    attacked(Transfer(rounds=3), model, x, y, [0.1])
    assert max(model.rows) == 9
    assert sum(model.rows) == 9 + 9 * (1 + 1 + 2 + 4) + 9


def test_nothing_is_trained_where_nothing_is_to_be_attacked():
    x, y = small_images(9, wrong=9)
    model = Counting(small_net(dtype="float32"))
    found = attacked(Transfer(), model, x, y, [0.0, 0.1])
    assert model.rows == [9]
    np.testing.assert_array_equal(found[1], x)


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 255.0)])
def test_pixels_may_have_any_range(bounds):
    low, high = bounds
    matrix = np.random.default_rng(0).normal(size=(3, 6))
    model = linear(matrix, bounds=bounds)
    x = low + (high - low) * np.random.default_rng(1).random((40, 6))
    y = model.logits(x).argmax(axis=1)
    epsilon = 0.2 * (high - low)
    for attack in (Transfer(), Transfer(source=linear(matrix * (high - low)))):
        (found,) = attacked(attack, model, x, y, [epsilon])
        assert np.abs(found - x).max() <= epsilon * (1 + 1e-6)
        assert low <= found.min() <= found.max() <= high
        assert right(model, found, y) < 30


# In a spec


def test_a_spec_names_a_function_or_a_torch_file_beside_it(tmp_path, monkeypatch):
    at_hand("torch")
    import torch

    from harness.evaluation.resolve import attack_of
    from harness.spec.reading import load_spec

    (tmp_path / "a_source_of_theirs.py").write_text(
        "import torch\nimport harness\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
        "def wrapped():\n    return harness.wrap(net())\n"
    )
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    torch.jit.script(net).save(tmp_path / "net.pt")
    text = (
        'name = "x"\nbackends = ["numpy"]\n[data]\nname = "digits"\n[models.m]\n'
        'load = "a_source_of_theirs:net"\n'
    )
    x = np.random.default_rng(0).random((5, 8, 8), dtype=np.float32)
    model, y = linear_digits(), np.zeros(5, int)
    found = []
    for source in ("a_source_of_theirs:net", "a_source_of_theirs:wrapped", "net.pt"):
        (tmp_path / "spec.toml").write_text(
            f'{text}[attacks.transfer]\nepsilons = [0.1]\nsource = "{source}"\n'
        )
        attack = attack_of(load_spec(str(tmp_path / "spec.toml")), "transfer")
        assert options_of(attack)["source"] == source
        assert str(tmp_path) not in str(options_of(attack))
        found += attacked(attack, model, x, y, [0.1])
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[2] != x).any()


def linear_digits():
    return linear_images((8, 8), 10)


def linear_images(shape, classes):
    from harness.maths.initial import initial_weights
    from harness.protocol import Network, fully_connected
    from harness.registry import builder

    net = fully_connected(shape, (), classes)
    return builder("numpy").build(Network(net, initial_weights(net, 0)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps: 0 is not a whole number ≥ 1"),
        ({"rounds": -1}, "rounds: -1 is not a whole number ≥ 0"),
        ({"rounds": True}, "rounds: True is not a whole number ≥ 0"),
        ({"norm": "l1"}, "norm: 'l1' is not linf or l2"),
        ({"method": "pdg"}, "method: "),
        ({"epochs": 3}, "epochs: transfer has no such option"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(SpecError) as error:
        make_attack("transfer", options=options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere:net", "source: nowhere:net: there is no module nowhere"),
        ("missing.pt", "source: missing.pt: there is no such file"),
        (3, "source: builtins.int: not a network of a known framework"),
        (Masked(small_net()), "source: it lacks gradient, which is needed of it"),
        (linear(DIAGONAL, bounds=(-1, 3)), "source: it takes pixels in "),
    ],
)
def test_a_source_that_is_none_is_said_in_a_line(source, message):
    x, y = small_images(3, wrong=0)
    with pytest.raises(MeasurementError) as error:
        attacked(Transfer(source=source), small_net(), x, y, [0.1])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_source_without_gradients_serves_an_attack_that_needs_none():
    x, y = small_images(10, wrong=0)
    attack = Transfer(source=Masked(small_net(dtype="float32")), attack=Square(steps=30))
    (found,) = sweep(small_net(dtype="float32"), attack, x, y, [0.3])
    assert correct_count(found.predictions, y) < 10


def test_the_norm_is_that_of_the_method():
    assert make_attack("transfer", options={"method": "pgd-l2"}).norm == "l2"
    assert make_attack("transfer-l2").norm == "l2"
    assert make_attack("transfer").norm == "linf"
    told = options_of(make_attack("transfer", options={"method": "pgd"}))
    assert told["method"]["attack"] == "PGD"
