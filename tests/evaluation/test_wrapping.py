"""What is put in front of a network: normalisation, the kind of its outputs, batch sizes."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand

import harness
from harness.errors import HarnessError, MeasurementError
from harness.maths.around import innermost, prepared, preprocessing_of, rewrapped
from harness.maths.objectives import CrossEntropy
from harness.maths.outputs import kind_of
from harness.maths.query import batch_size_for, logits_of
from harness.protocol import GRADIENT, Model, is_model
from harness.protocol.model import MEMBERS

MEAN, STD = (0.5, 0.25, 0.125), (0.5, 0.25, 0.5)
FIRST = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5) / 120
Y = np.array([0, 1])


class Sums:
    """A network by hand: a logit is the sum of a channel, weighted by its position."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset({GRADIENT})

    def __init__(self, axis):
        self.axis = axis
        self.sizes = []

    def asarray(self, values):
        return np.asarray(values, np.int64 if values.dtype.kind in "iu" else np.float32)

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        self.sizes.append(len(x))
        return np.moveaxis(x, self.axis + 1, 1).reshape(len(x), 3, -1).sum(axis=2)

    def logits_and_gradient(self, x, y, objective):
        logits = self.logits(x)
        flow = objective.logit_gradient(np, logits, np.arange(3) == y[:, None])
        shape = [len(x), *([1] * (x.ndim - 1))]
        shape[self.axis + 1] = 3
        return logits, np.broadcast_to(flow.reshape(shape), x.shape).copy()


def last(x):
    return np.moveaxis(x, 1, -1)


@pytest.mark.parametrize(("axis", "turn"), [(0, lambda x: x), (2, last)], ids=["first", "last"])
def test_each_channel_is_normalised_by_its_own_numbers_in_either_layout(axis, turn):
    model = harness.wrap(Sums(axis), preprocessing={"mean": MEAN, "std": STD})
    x = turn(FIRST)
    by_hand = [((FIRST[:, c] - MEAN[c]) / STD[c]).sum(axis=(1, 2)) for c in range(3)]
    np.testing.assert_allclose(logits_of(model, x), np.transpose(by_hand), rtol=1e-5)
    _, gradient = model.logits_and_gradient(x, Y, CrossEntropy())
    logits = np.transpose(by_hand)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    flow = odds / odds.sum(axis=1, keepdims=True) - np.eye(3)[Y]
    wanted = turn(np.broadcast_to((flow / STD)[:, :, None, None], FIRST.shape))
    np.testing.assert_allclose(gradient, wanted, atol=1e-5)
    assert preprocessing_of(model) == (list(MEAN), list(STD))
    wanted = turn((FIRST - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1)))
    np.testing.assert_allclose(prepared(model, x), wanted, rtol=1e-5)


def test_one_number_is_that_of_all_pixels():
    model = harness.wrap(Sums(0), preprocessing={"mean": 0.5, "std": 0.25})
    wanted = ((FIRST - 0.5) / 0.25).sum(axis=(2, 3))
    np.testing.assert_allclose(logits_of(model, FIRST), wanted, rtol=1e-5)


def test_epsilon_stays_in_the_units_of_the_pixels():
    # Along the sign of the gradient a pixel moves by epsilon, whatever it is divided by.
    model = harness.wrap(Sums(0), preprocessing={"mean": MEAN, "std": STD})
    run = harness.evaluate(model, FIRST, Y, "fgsm", [0.25])
    moved = run.arrays["Sums/model/examples/fgsm@0.25"] - FIRST[[0, 1]]
    assert np.abs(moved).max() == pytest.approx(0.25)


def test_where_the_shape_leaves_a_doubt_the_axis_is_asked_for():
    x = np.zeros((1, 3, 5, 3), np.float32)
    with pytest.raises(MeasurementError, match="say which axis holds them: channel_axis"):
        logits_of(harness.wrap(Sums(0), preprocessing={"mean": MEAN, "std": STD}), x)
    said = harness.wrap(Sums(0), preprocessing={"mean": MEAN, "std": STD}, channel_axis=0)
    assert logits_of(said, x).shape == (1, 3)
    wrong = harness.wrap(Sums(0), preprocessing={"mean": MEAN, "std": STD}, channel_axis=1)
    with pytest.raises(MeasurementError, match="holds 5 channels, not 3"):
        logits_of(wrong, x)
    with pytest.raises(MeasurementError, match="no axis is so long"):
        logits_of(harness.wrap(Sums(0), preprocessing={"mean": MEAN, "std": STD}), x[:, :2, :, :2])


@pytest.mark.parametrize(
    ("said", "finding"),
    [
        ({"preprocessing": {"mean": MEAN}}, "preprocessing: *mean*std"),
        ({"preprocessing": {"mean": MEAN, "std": STD[:2]}}, "3 means, but 2 deviations"),
        ({"preprocessing": {"mean": 0.5, "std": 0.0}}, "std must be above zero"),
        ({"preprocessing": {"mean": "a", "std": 1.0}}, "mean is not a"),
        ({"preprocessing": {"mean": float("nan"), "std": 1.0}}, "mean is not a finite"),
        ({"preprocessing": [MEAN, STD]}, "preprocessing: "),
        ({"batch_size": 0}, "batch_size: 0"), ({"batch_size": True}, "batch_size: True"),
        ({"channel_axis": "last"}, "channel_axis: 'last'"),
        ({"outputs": "scores"}, "outputs: 'scores'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(said, finding):
    with pytest.raises(HarnessError) as error:
        harness.wrap(Sums(0), **said)
    text = str(error.value)
    assert "\n" not in text
    assert all(part in text for part in finding.split("*"))


def test_no_more_images_than_said_are_asked_at_a_time():
    net = Sums(0)
    model = harness.wrap(net, batch_size=3)
    x = np.repeat(FIRST, 5, axis=0)
    assert batch_size_for(model, x) == 3
    logits_of(model, x)
    assert net.sizes == [3, 3, 3, 1]


def test_what_is_in_front_of_a_model_can_be_put_in_front_of_another():
    model = harness.wrap(
        Sums(0), outputs="logits", preprocessing={"mean": MEAN, "std": STD}, batch_size=2,
        channel_axis=0,
    )  # fmt: skip
    again = rewrapped(model, Sums(0))
    np.testing.assert_array_equal(logits_of(again, FIRST), logits_of(model, FIRST))
    assert innermost(again) is not innermost(model)
    assert (kind_of(again), again.batch_size, again.channel_axis) == ("logits", 2, 0)


def test_a_later_declaration_takes_the_place_of_an_earlier_one_behind_a_limit():
    model = harness.wrap(harness.wrap(Sums(0), outputs="probabilities", batch_size=2))
    assert kind_of(model) == "probabilities"
    once = logits_of(harness.wrap(Sums(0), outputs="probabilities"), FIRST)
    np.testing.assert_allclose(logits_of(model, FIRST), once)
    plain = harness.wrap(model, outputs="logits")
    np.testing.assert_allclose(logits_of(plain, FIRST), logits_of(Sums(0), FIRST))


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("net.pkl", "a pickle can run any code"), ("net.h5", "save the model as .keras"),
        ("net.safetensors", "not a whole .safetensors file"),
        ("net.txt", "not a file that is loaded"),
        ("net.onnx", "there is no such file"),
    ],
)  # fmt: skip
def test_files_that_are_not_loaded_say_what_to_do(name, finding, tmp_path):
    if name.endswith(".onnx"):
        at_hand("onnx")
    path = tmp_path / name
    if name != "net.onnx":
        path.write_bytes(b"")
    with pytest.raises(HarnessError, match=finding) as error:
        harness.wrap(path)
    assert str(path) in str(error.value)


def test_a_function_is_sent_to_its_own_door():
    with pytest.raises(HarnessError, match=r"harness\.wrap_function"):
        harness.wrap(lambda x: x)
    with pytest.raises(HarnessError, match="it holds weights, not a network"):
        harness.wrap({"layer.weight": FIRST})


@pytest.mark.parametrize(
    ("said", "finding"),
    [({"retries": -1}, "retries: -1"), ({"wait": "long"}, "wait: 'long'")],
)
def test_how_a_function_is_called_is_checked(said, finding):
    with pytest.raises(HarnessError, match=finding):
        harness.wrap_function(lambda x: x, **said)


def test_the_public_door_shows_what_there_is():
    assert {"wrap", "wrap_function", "evaluate"} <= set(dir(harness))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"device": "cpu"}, "device: cpu is said of a model that is wrapped already"),
        ({"output": "logits"}, "output: logits is said of"),
        ({"bounds": (0, 255)}, r"bounds: \[0\.0, 255\.0\] is said of"),
    ],
)
def test_what_a_wrapped_model_cannot_be_told_is_not_passed_over(said, words):
    model = harness.wrap_function(lambda x: x.reshape(len(x), -1))
    with pytest.raises(HarnessError, match=words):
        harness.wrap(model, **said)
    wide = harness.wrap_function(lambda x: x.reshape(len(x), -1), bounds=(0, 255))
    assert harness.wrap(wide).bounds == harness.wrap(wide, (0, 255)).bounds == (0, 255)


class Shy:
    """A model that hands on what another has, but for its gradients, and what it lacks."""

    def __init__(self, inner, lacks=""):
        self._inner, self._lacks = inner, lacks

    def __getattr__(self, name):
        if name.startswith("_") or name == self._lacks:
            raise AttributeError(name)
        return frozenset() if name == "capabilities" else getattr(self._inner, name)


def test_a_model_is_one_by_all_that_it_has_be_it_handed_on():
    # From Python 3.12 on isinstance does not see what __getattr__ hands on.
    shy = Shy(Sums(0))
    assert harness.wrap(shy) is shy
    run = harness.evaluate(shy, (FIRST, Y), attacks=["noise"], epsilons=[0.1])
    assert [record.status for record in run.records if record.check == "noise"] == ["measured"]
    members = {name for name in vars(Model) if not name.startswith("_")}
    assert set(MEMBERS) == members | set(Model.__annotations__)
    assert not any(is_model(Shy(Sums(0), name)) for name in MEMBERS)
    assert not is_model(Sums)
