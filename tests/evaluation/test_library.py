"""The library: wrap and evaluate, with accuracies worked out by hand, and each wrong call."""

from __future__ import annotations

import json

import numpy as np
import pytest
from backends_at_hand import at_hand

import harness
from harness import registry
from harness.attacks import make_attack
from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.checks.validity import CHEAP
from harness.errors import HarnessError
from harness.protocol import GRADIENT
from harness.results.run import COLUMNS, SCHEMA, Run

# The network answers with ten times its two pixels as logits. FGSM takes ε from the true one and
# gives it to the other, so an image is right while 2ε is below its lead: 0.2, 0.8, 0.6, and never.
X = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.45, 0.55]], np.float32)
Y = np.array([0, 0, 1, 0])
CORRECT = {0.0: 3, 0.05: 3, 0.2: 2, 0.35: 1, 0.5: 0}


class Tenfold:
    """A model by hand: its logits are its pixels times ten."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset({GRADIENT})

    def asarray(self, values):
        return values

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        return 10 * x

    def logits_and_gradient(self, x, y, objective):
        logits = 10 * x
        true = np.arange(x.shape[1]) == y[:, None]
        return logits, 10 * objective.logit_gradient(np, logits, true)


class BlackBox(Tenfold):
    capabilities = frozenset()


class Softmax(Tenfold):
    def logits(self, x):
        return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


class NotANumber(Tenfold):
    def logits(self, x):
        return x * np.nan


class Noisy(Tenfold):
    calls = 0

    def logits(self, x):
        self.calls += 1
        return 10 * x + 0.01 * (self.calls % 2)


class Picky(Tenfold):
    def logits(self, x):
        raise ValueError("expected images of shape\n(3, 4)")


class Flat(Tenfold):
    def logits(self, x):
        return x.reshape(-1)


def torch_linear(factor=10.0):
    at_hand("torch")
    import torch

    net = torch.nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.copy_(factor * torch.eye(2))
        net.bias.zero_()
    return net


def keras_linear():
    at_hand("keras")
    import keras

    net = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    net.layers[-1].set_weights([10 * np.eye(2, dtype=np.float32), np.zeros(2, np.float32)])
    return net


def accuracies(run):
    """The records that are no checks of validity."""
    return [record for record in run.records if not record.check.startswith("validity/")]


def checks(run):
    """The status of each check of validity, and why."""
    names = {record.check.removeprefix("validity/"): record for record in run.records}
    return {rule: (names[rule].status, names[rule].reason) for rule in CHEAP}


MODELS = {
    "torch": lambda: harness.wrap(torch_linear()),
    "keras": lambda: harness.wrap(keras_linear()),
    "by-hand": Tenfold,
}


@pytest.mark.parametrize("kind", MODELS)
def test_accuracies_are_those_worked_out_by_hand(kind):
    run = harness.evaluate(MODELS[kind](), X, Y, attacks=["fgsm"], epsilons=list(CORRECT))
    table = run.frame()
    assert tuple(table.columns) == COLUMNS
    assert set(table["model"]) == {"model"}
    assert table["backend"].nunique() == 1
    assert kind in ("by-hand", table["backend"][0])
    judged = table["check"].str.startswith("validity/")
    assert set(table["status"][~judged]) == {"measured"}
    assert set(table["status"][judged]) == {"passed", "skipped"}
    clean, attacked = table[table["check"] == "clean"], table[table["check"] == "fgsm"]
    assert (clean["correct"].tolist(), clean["total"].tolist()) == ([3], [4])
    assert clean["epsilon"].isna().all()
    # Wilson's interval of 3 of 4 at 95 %.
    assert clean[["ci_low", "ci_high"]].to_numpy() == pytest.approx(
        np.array([[0.30064, 0.95441]]), abs=1e-4
    )
    assert dict(zip(attacked["epsilon"], attacked["correct"], strict=True)) == CORRECT
    assert attacked["accuracy"].tolist() == [count / 4 for count in CORRECT.values()]


def test_predictions_are_kept_and_the_run_can_be_stored(tmp_path):
    run = harness.evaluate(Tenfold(), X, Y, epsilons=[0.2], name="two")
    (prefix,) = {key.rpartition("/clean/predictions")[0] for key in run.arrays} - {""}
    assert prefix.endswith("/two")
    assert run.arrays[f"{prefix}/clean/predictions"].tolist() == [0, 0, 1, 1]
    assert run.arrays[f"{prefix}/fgsm@0.2/predictions"].tolist() == [1, 0, 1, 1]
    assert run.arrays["labels"].tolist() == Y.tolist()
    assert run.classes == ("0", "1")  # those of the model, also where the labels have fewer
    assert run.finished
    run.save(tmp_path)
    assert Run.load(tmp_path).records == run.records
    assert json.loads((tmp_path / "run.json").read_text())["schema"] == SCHEMA


def test_the_box_bounds_an_attack():
    """Within [0.4, 0.6] no lead is above 0.2, so ε = 0.15 turns every answer there could be."""
    model = Tenfold()
    model.bounds = (0.4, 0.6)
    x = np.clip(X, 0.4, 0.6)
    run = harness.evaluate(model, x, Y, epsilons=[0.05, 0.15])
    assert [record.correct for record in accuracies(run)] == [3, 3, 0]
    (kept,) = (value for key, value in run.arrays.items() if key.endswith("examples/fgsm@0.15"))
    # Of each class the first: pixel 0 falls from 0.6 to 0.45, and 1 rises; and the other way.
    np.testing.assert_allclose(kept, [[0.45, 0.55], [0.55, 0.45]], atol=1e-6)


def test_the_defaults_are_fgsm_at_seven_epsilons():
    records = accuracies(harness.evaluate(Tenfold(), X, Y))
    assert [(record.check, record.epsilon) for record in records] == [
        ("clean", None), *(("fgsm", e) for e in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)),
    ]  # fmt: skip


def test_lists_read_only_arrays_and_other_integers_will_do():
    x, y = X.copy(), Y.astype(np.uint8)
    x.flags.writeable = y.flags.writeable = False
    for images, labels in ((x, y), (X.tolist(), Y.tolist()), (X.astype(np.float64), Y)):
        records = accuracies(harness.evaluate(Tenfold(), images, labels, epsilons=[0.35]))
        assert [record.correct for record in records] == [3, 1]


def test_the_images_are_left_as_they_were():
    x, y = X.copy(), Y.copy()
    harness.evaluate(Tenfold(), x, y)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


def test_rounding_may_leave_a_pixel_a_hair_outside():
    x = X.copy()
    x[0, 0], x[1, 1] = 1 + 1e-7, -2.98e-8
    assert harness.evaluate(Tenfold(), x, Y, epsilons=[0.0]).records[0].correct == 3


def test_a_black_box_is_measured_but_not_attacked_by_gradient():
    clean, attacked = accuracies(harness.evaluate(BlackBox(), X, Y, "fgsm", epsilons=[0.1]))
    assert (clean.status, clean.correct) == ("measured", 3)
    assert (attacked.status, attacked.correct, attacked.accuracy) == ("skipped", None, None)
    assert "fgsm needs gradient" in attacked.reason


def test_where_no_attack_is_named_a_black_box_meets_one_that_it_admits():
    run = harness.evaluate(BlackBox(), X, Y, epsilons=[0.2])
    assert [(r.check, r.correct) for r in accuracies(run)] == [("clean", 3), ("square", 2)]


def test_a_network_that_raises_under_attack_does_not_look_robust():
    class Raises(Tenfold):
        def logits_and_gradient(self, x, y, objective):
            raise RuntimeError("out of\nmemory")

    clean, *attacked = accuracies(harness.evaluate(Raises(), X, Y, epsilons=[0.1, 0.2]))
    assert clean.status == "measured"
    assert [(r.status, r.correct, r.reason) for r in attacked] == [
        ("error", None, "RuntimeError: out of memory")
    ] * 2


# Wrong calls


def nudged(x, value):
    x = x.copy()
    x[0, 0] = value
    return x


WRONG = {
    "whole numbers": ({"x": (X * 255).astype(np.int32)}, ["x:", "int32", "255"]),
    "too-bright": ({"x": nudged(X, 1.5)}, ["x:", "1.5", "[0.0, 1.0]"]),
    "too-dark": ({"x": nudged(X, -0.25)}, ["x:", "-0.25"]),
    "a-nan": ({"x": nudged(X, np.nan)}, ["x:", "nan"]),
    "an-infinity": ({"x": nudged(X, np.inf)}, ["x:", "inf"]),
    "one-image-alone": ({"x": X[0], "y": Y[:1]}, ["x:", "(2,)"]),
    "no-images": ({"x": X[:0], "y": Y[:0]}, ["x:", "(0, 2)"]),
    "one-hot": ({"y": np.eye(2, dtype=int)[Y]}, ["y:", "(4, 2)", "argmax"]),
    "float-labels": ({"y": Y.astype(float)}, ["y:", "float64"]),
    "bool-labels": ({"y": Y == 1}, ["y:", "bool"]),
    "too-few-labels": ({"y": Y[:3]}, ["4 images", "3 labels"]),
    "label-too-high": ({"y": np.array([0, 0, 2, 0])}, ["y:", "[0, 2]", "2 classes"]),
    "label-below-zero": ({"y": np.array([0, -1, 1, 0])}, ["y:", "[-1, 1]"]),
    "probabilities": ({"model": Softmax()}, ["probabilities", "softmax"]),
    "nan-logits": ({"model": NotANumber()}, ["NaN"]),
    "no-model": ({"model": 3}, ["int", "harness.wrap_function"]),
    "unknown-attack": ({"attacks": ["pgm"]}, ["pgm", "fgsm"]),
    "negative-epsilon": ({"epsilons": [0.1, -0.1]}, ["epsilons", "-0.1"]),
    "nan-epsilon": ({"epsilons": [float("nan")]}, ["epsilons", "nan"]),
    "infinite-epsilon": ({"epsilons": [float("inf")]}, ["epsilons", "inf"]),
    "no-epsilon": ({"epsilons": []}, ["epsilons", "[]"]),
    "epsilons-too-close": ({"epsilons": [0.1, 0.1000001]}, ["epsilons", "six digits"]),
    "an-epsilon-twice": ({"epsilons": [0.1, 0.2, 0.1]}, ["epsilons", "six digits"]),
    "another-shape": ({"model": Picky()}, ["shape (2,)", "(3, 4)", "cannot be evaluated"]),
    "logits-of-another-shape": ({"model": Flat()}, ["cannot be evaluated", "(8,)"]),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_each_wrong_call_is_one_line_that_names_what_is_wrong(wrong):
    changes, words = WRONG[wrong]
    arguments = {"model": Tenfold(), "x": X, "y": Y, "epsilons": [0.1]} | changes
    with pytest.raises(HarnessError) as error:
        harness.evaluate(**arguments)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("make", [torch_linear, keras_linear], ids=["torch", "keras"])
def test_a_network_that_is_not_wrapped_is_wrapped(make):
    found = [accuracies(harness.evaluate(net, X, Y)) for net in (make(), harness.wrap(make()))]
    assert found[0] == found[1]
    assert found[0][0].correct == 3


@pytest.mark.parametrize("net", [3, None, {"layer": X}, object()])
def test_what_is_no_network_cannot_be_wrapped(net):
    with pytest.raises(HarnessError) as error:
        harness.wrap(net)
    assert type(net).__name__ in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "bounds",
    [
        (1.0, 0.0), (0.5, 0.5), (float("nan"), 1.0), (0.0, float("inf")), (-float("inf"), 1.0),
        (0.0, 1.0, 2.0), 1.0, "ab", None,
    ],
)  # fmt: skip
def test_bounds_that_are_no_interval_are_refused(bounds):
    with pytest.raises(HarnessError, match="bounds: ") as error:
        harness.wrap(object(), bounds=bounds)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [torch_linear, keras_linear], ids=["torch", "keras"])
def test_images_of_another_shape_than_the_networks_are_one_line(make):
    with pytest.raises(HarnessError) as error:
        harness.evaluate(harness.wrap(make()), np.zeros((2, 3), np.float32), Y[:2])
    assert "images of shape (3,)" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [torch_linear, keras_linear], ids=["torch", "keras"])
def test_the_versions_of_the_framework_are_recorded(make):
    model = harness.wrap(make())
    framework = "torch" if make is torch_linear else "keras"
    run = harness.evaluate(model, X, Y, epsilons=[0.1])
    assert {record.backend for record in run.records} == {framework}
    expected = registry.backend(framework).versions()
    assert expected.items() <= run.versions.items()
    assert framework in expected
    assert {"python", "robustness-harness", "numpy"} <= run.versions.keys()


def test_a_model_by_hand_is_recorded_under_its_name_and_no_framework():
    run = harness.evaluate(Tenfold(), X, Y, epsilons=[0.1])
    assert {record.backend for record in run.records} == {"Tenfold"}
    assert not {"torch", "keras", "tensorflow"} & run.versions.keys()


def test_torch_dropout_as_a_function_is_found_out():
    """``eval`` does not turn it off, so the network answers differently each time."""
    at_hand("torch")
    import torch

    class Forgetful(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch_linear()

        def forward(self, x):
            return torch.nn.functional.dropout(self.linear(x), 0.5, training=True)

    run = harness.evaluate(harness.wrap(Forgetful()), np.repeat(X, 16, axis=0), np.repeat(Y, 16))
    status, reason = checks(run)["call-to-call"]
    assert status == "failed"
    assert "attack a random defence on its average (EOT)" in reason


def test_a_torch_network_that_works_in_place_is_measured_as_any_other():
    at_hand("torch")
    import torch

    class InPlace(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch_linear()

        def forward(self, x):
            return self.linear(x.mul_(2.0)) / 2

    x = X.copy()
    run = harness.evaluate(harness.wrap(InPlace()), x, Y, epsilons=list(CORRECT))
    assert [record.correct for record in accuracies(run)] == [3, *CORRECT.values()]
    np.testing.assert_array_equal(x, X)


def test_an_attack_that_moves_nothing_is_no_robustness():
    class Steps(Tenfold):
        def logits_and_gradient(self, x, y, objective):
            return self.logits(x), np.zeros_like(x)

    clean, *attacked = accuracies(harness.evaluate(Steps(), X, Y, epsilons=[0.0, 0.1]))
    assert clean.status == "measured"
    assert [(r.status, r.accuracy) for r in attacked] == [("error", None)] * 2
    assert attacked[0].reason == "fgsm changed no image; are the gradients zero?"


@pytest.mark.parametrize("make", [torch_linear, keras_linear], ids=["torch", "keras"])
def test_pgd_does_as_well_as_fgsm_on_a_linear_network(make):
    run = harness.evaluate(
        harness.wrap(make()), X, Y, attacks=["fgsm", "pgd"], epsilons=list(CORRECT)
    )
    assert [r.correct for r in accuracies(run)] == [3, *CORRECT.values(), *CORRECT.values()]


@pytest.mark.parametrize("kind", MODELS)
def test_attacks_come_by_name_or_with_options(kind):
    attacks = ["square", PGD(name="mine", steps=3, restarts=2), "strongest", FGSM(norm="l2")]
    attacks[2] = make_attack("strongest", options={"members": ["fgsm", "square"]})
    run = harness.evaluate(MODELS[kind](), X, Y, attacks=attacks, epsilons=[0.0, 0.2])
    found = {(r.check, r.epsilon): r.correct for r in accuracies(run)}
    assert found == {
        ("clean", None): 3, ("square", 0.0): 3, ("square", 0.2): 2, ("mine", 0.0): 3,
        ("mine", 0.2): 2, ("strongest", 0.0): 3, ("strongest", 0.2): 2,
        # In L2 it is a lead of 0.2 · √2 that is lost.
        ("fgsm", 0.0): 3, ("fgsm", 0.2): 2,
    }  # fmt: skip


def test_a_black_box_is_attacked_by_what_needs_no_gradient():
    run = harness.evaluate(BlackBox(), X, Y, attacks=["noise", "square", "strongest", "pgd"],
                           epsilons=[0.2])  # fmt: skip
    found = {r.check: (r.status, r.correct) for r in run.records}
    assert found["square"] == found["strongest"] == ("measured", 2)
    assert found["noise"][0] == "measured"
    assert found["pgd"] == ("skipped", None)


@pytest.mark.parametrize("make", [torch_linear, keras_linear], ids=["torch", "keras"])
def test_a_softmax_at_the_end_is_found_out(make):
    net = make()
    if make is torch_linear:
        import torch

        net = torch.nn.Sequential(net, torch.nn.Softmax(dim=1))
    else:
        import keras

        net = keras.Sequential([keras.Input((2,)), net, keras.layers.Softmax()])
    with pytest.raises(HarnessError, match="probabilities"):
        harness.evaluate(harness.wrap(net), X, Y)


# The user's network


def test_a_torch_network_is_left_as_it_was():
    at_hand("torch")
    import torch

    net = torch.nn.Sequential(
        torch.nn.Linear(2, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 2)
    )
    net.train()
    net[1].eval()
    net[0].weight.requires_grad_(False)
    net[3].weight.grad = torch.full((2, 4), 7.0)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    random = torch.get_rng_state()
    run = harness.evaluate(harness.wrap(net), X, Y)
    assert {record.status for record in accuracies(run)} == {"measured"}
    assert [module.training for module in net] == [True, False, True, True]
    assert net.training
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == [False] + [True] * 5
    assert bool((net[3].weight.grad == 7).all())
    assert [p.grad is None for p in net.parameters()] == [True] * 4 + [False, True]
    assert torch.equal(torch.get_rng_state(), random)


def test_a_keras_network_is_left_as_it_was():
    at_hand("keras")
    import keras

    net = keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(4), keras.layers.BatchNormalization(),
         keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    )  # fmt: skip
    net.layers[0].trainable = False
    before = [value.copy() for value in net.get_weights()]
    run = harness.evaluate(harness.wrap(net), X, Y)
    assert {record.status for record in accuracies(run)} == {"measured"}
    assert [layer.trainable for layer in net.layers] == [False, True, True, True]
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_torch_network_in_double_precision_is_measured_in_it():
    model = harness.wrap(torch_linear().double())
    run = harness.evaluate(model, X, Y, epsilons=list(CORRECT))
    assert [record.correct for record in accuracies(run)] == [3, *CORRECT.values()]


def test_pixels_in_other_bounds_in_torch():
    """Bytes as floats: the same four images times 255, and so are the radii."""
    model = harness.wrap(torch_linear(10 / 255), bounds=(0, 255))
    run = harness.evaluate(model, X * 255, Y, epsilons=[255 * e for e in CORRECT])
    assert [record.correct for record in accuracies(run)] == [3, *CORRECT.values()]


def test_a_torch_network_however_sure_of_itself_is_attacked():
    """The same network a hundredfold decides alike, so an attack by sign must do as well.

    Its logits are up to 800 apart, and e⁻¹⁰⁴ is zero in float32.
    """
    model = harness.wrap(torch_linear(1000.0))
    run = harness.evaluate(model, X, Y, epsilons=list(CORRECT))
    assert [record.correct for record in accuracies(run)] == [3, *CORRECT.values()]


def test_two_attacks_of_one_name_are_refused_and_the_name_is_told():
    with pytest.raises(HarnessError, match=r"^attacks: 2 of them are called pgd; [^\n]*$"):
        harness.evaluate(Tenfold(), X, Y, ["fgsm", "pgd", PGD(steps=2)], [0.1])
    with pytest.raises(HarnessError, match=r"^attacks: 2 of them are called fgsm; [^\n]*$"):
        harness.evaluate(Tenfold(), X, Y, ["fgsm", "fgsm"], [0.1])
    run = harness.evaluate(Tenfold(), X, Y, ["pgd", PGD(name="short", steps=2)], [0.05])
    assert {record.check for record in run.records} >= {"pgd", "short"}


def test_bytes_are_divided_by_255_and_the_run_says_so():
    x = np.round(X * 255)
    taken = harness.evaluate(Tenfold(), x.astype(np.uint8), Y, epsilons=[0.1])
    floats = harness.evaluate(Tenfold(), (x / 255).astype(np.float32), Y, epsilons=[0.1])
    assert taken.records == floats.records
    assert taken.data_sha256 == floats.data_sha256
    assert taken.notes == ["bytes were divided by 255, for the bounds [0, 1]"]
    assert floats.notes == []


class OneLayout(BlackBox):
    """Takes images whose axis of a number is as long as three channels."""

    def __init__(self, axis):
        self.axis = axis

    def logits(self, x):
        if x.shape[self.axis] != 3:
            raise ValueError("wrong channels")
        return x.mean(axis=tuple({1, 2, 3} - {self.axis % 4}))


@pytest.mark.parametrize(
    ("axis", "shape", "remedy"), [(1, (4, 5, 3), "x, -1, 1"), (-1, (3, 4, 5), "x, 1, -1")]
)
def test_channels_at_the_other_end_are_told(axis, shape, remedy):
    x, y = np.zeros((4, *shape), np.float32), [0, 1, 2, 0]
    with pytest.raises(HarnessError) as error:
        harness.evaluate(OneLayout(axis), x, y)
    assert str(error.value) == (
        f"the model cannot be evaluated on images of shape {shape}: wrong channels; it takes their "
        f"channels at the other end: pass np.moveaxis({remedy})"
    )
    with pytest.raises(HarnessError, match=r"wrong channels$"):
        harness.evaluate(OneLayout(axis), np.zeros((4, 2, 2, 2), np.float32), y)


def test_labels_from_one_are_told():
    x = np.eye(3, dtype=np.float32)
    with pytest.raises(HarnessError, match=r"span \[1, 3\], but .* from 0; pass y - 1$"):
        harness.evaluate(Tenfold(), x, [1, 2, 3])
    with pytest.raises(HarnessError, match=r"span \[0, 3\], but .* from 0$"):
        harness.evaluate(Tenfold(), x, [0, 2, 3])


@pytest.mark.parametrize("randomised", [False, True])
def test_accuracies_say_whether_the_model_is_random_on_purpose_and_what_attacks_took(randomised):
    model = harness.wrap_function(lambda x: 10 * x, (0.0, 1.0), randomised=randomised)
    frame = harness.evaluate(model, X, Y, ["square"], [0.0, 0.1]).frame()
    counted = frame[frame.accuracy.notna()]
    assert counted.randomised.tolist() == [randomised] * 3
    assert counted.bound.tolist() == ["exact", "upper", "upper"]
    assert counted.forwards.isna().tolist() == [True, False, False]
    assert counted.backwards.dropna().tolist() == [0, 0]
