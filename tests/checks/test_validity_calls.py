"""What ``evaluate`` checks of itself: an image's answer is its own, whoever asks, how and when."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from zoo.broken_attacks import Adapter, Shuffles
from zoo.broken_models import BROKEN_MODELS, Broken, Constant, Counts, TakesTurns, Transposed
from zoo.healthy import HEALTHY, BlackBox, fitted
from zoo.networks import BOUNDS, NET, built, images, trained

import harness
from harness.attacks import make_attack
from harness.checks.validity import CHEAP, CHECKS, Evidence, Reported, findings, repeated
from harness.errors import CheckFailed, MeasurementError
from harness.evaluation.evaluation import Evaluation, Measures
from harness.evaluation.models import LoadedModel
from harness.protocol import Network, Wrapping
from harness.results.provenance import new_run
from harness.results.recorder import Recorder


def checked(model, x=None, y=None, attacks=("fgsm",), epsilons=(0.0, 0.1)):
    """The status and the reason of each check that ``evaluate`` makes; epsilons are shares."""
    if x is None:
        x, y = images(model.bounds)
    radii = [epsilon * (model.bounds[1] - model.bounds[0]) for epsilon in epsilons]
    run = harness.evaluate(model, x, y, list(attacks), radii)
    found = {r.check: r for r in run.records if r.check.startswith("validity/")}
    assert list(found) == [f"validity/{rule}" for rule in CHEAP]
    return {rule: (found[f"validity/{rule}"].status, found[f"validity/{rule}"].reason)
            for rule in CHEAP}  # fmt: skip


def statuses(found):
    return {rule: status for rule, (status, _) in found.items()}


GRADIENT_OR_ATTACK = ("gradient-mode", "epsilon-zero", "attack-helps", "raises-accuracy")
PASSED = dict.fromkeys(CHEAP, "passed")


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_passes_what_applies(name):
    expected = PASSED
    if name == "numpy-black-box":
        expected = {**PASSED, **dict.fromkeys(GRADIENT_OR_ATTACK, "skipped")}
    assert statuses(checked(HEALTHY[name]())) == expected


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("dropout-on", "call-to-call"),
        ("noisy-input", "call-to-call"),
        ("counts", "call-to-call"),
        ("takes-turns", "call-to-call"),
        ("batch-statistics", "batch-dependence"),
        ("torch-batch-norm-training", "batch-dependence"),
        ("noise-by-place", "batch-dependence"),
        ("noise-by-place-in-the-image", "batch-dependence"),
        ("breaks-alone", "batch-dependence"),
        ("other-with-gradient", "gradient-mode"),
        ("no-gradient", "gradient-mode"),
        ("none-for-gradient", "gradient-mode"),
        ("constant", "no-better-than-chance"),
        ("transposed", "no-better-than-chance"),
    ],
)
def test_what_is_wrong_is_recorded_and_the_run_goes_on(name, rule):
    make, _ = BROKEN_MODELS[name]
    found = checked(make())
    assert found[rule][0] == "failed"
    assert found[rule][1].startswith(f"{rule}: ")
    assert {r for r, (status, _) in found.items() if status == "failed"} == {rule}


class Crowded(Broken):
    """Takes images for others in batches larger than any that the checks make."""

    def through(self, x):
        logits, back = super().through(x)
        return np.roll(logits, 1, axis=1) if len(x) >= 400 else logits, back


def tiled(times):
    """The test images, so many times."""
    x, y = images()
    return np.tile(x, (times, 1, 1)), np.tile(y, times)


@pytest.mark.parametrize("times", [3, 8])
def test_logits_that_depend_on_the_size_of_the_batch_are_found(times):
    found = checked(Crowded(), *tiled(times))
    assert {rule for rule, (status, _) in found.items() if status == "failed"} == {
        "batch-dependence"
    }
    assert "as large as clean accuracy is measured in" in found["batch-dependence"][1]


def test_they_are_found_in_a_suite_too():
    recorder = Recorder(new_run({}), "numpy", "mlp")
    loaded = LoadedModel(Crowded(), "numpy")
    evaluation = Evaluation(loaded, *tiled(3), recorder, Measures())
    record = evaluation.checked("validity", "batch-dependence")
    assert record.status == "failed"
    assert "as large as clean accuracy is measured in" in record.reason


def test_where_clean_accuracy_cannot_be_measured_that_is_what_is_told():
    class Small(Broken):
        def through(self, x):
            if len(x) >= 400:
                raise MemoryError("too large")
            return super().through(x)

    x, y = tiled(3)
    run = harness.evaluate(Small(), x, y, "fgsm", 0.1)
    found = {record.check: record for record in run.records}
    assert found["clean"].status == "error"
    assert "MemoryError: too large" in found["clean"].reason
    assert found["validity/batch-dependence"].status == "passed"


def test_rounding_in_large_batches_is_no_dependence():
    """Two classes that are as good as equal change places in large batches."""

    class Tied(Broken):
        def through(self, x):
            logits, back = super().through(x)
            tied = np.repeat(logits[:, :5], 2, axis=1)
            tied[:, (0 if len(x) >= 400 else 1) :: 2] += np.float32(1e-5)
            return tied, back

    x, y = tiled(3)
    few, many = Tied().logits(x[:100]), Tied().logits(x)[:100]
    assert (few.argmax(axis=1) != many.argmax(axis=1)).all()
    assert statuses(checked(Tied(), x, y))["batch-dependence"] == "passed"


@pytest.mark.parametrize("order", ["by class", "shuffled"])
def test_batch_norm_of_torch_without_running_statistics_is_found_in_any_order(order):
    make, _ = BROKEN_MODELS["torch-batch-norm-training"]
    x, y = images()
    rows = np.argsort(y) if order == "by class" else np.random.default_rng(1).permutation(len(y))
    assert statuses(checked(make(), x[rows], y[rows]))["batch-dependence"] == "failed"


def test_a_torch_network_that_knows_whether_gradients_are_on_is_found():
    at_hand("torch")
    import torch

    class Knows(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = at_hand("torch").build(Network(NET, trained()), Wrapping(BOUNDS)).net

        def forward(self, x):
            logits = self.net(x)
            return logits.roll(1, dims=1) if torch.is_grad_enabled() else logits

    found = checked(harness.wrap(Knows()))
    assert found["gradient-mode"][0] == "failed"
    assert "where a gradient is requested" in found["gradient-mode"][1]


def _torch_net(forward):
    at_hand("torch")
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = at_hand("torch").build(Network(NET, trained()), Wrapping(BOUNDS)).net

        def forward(self, x):
            return forward(torch, self.net, x)

    return harness.wrap(Net())


@pytest.mark.parametrize(
    "forward",
    [
        lambda torch, net, x: net(x.detach()),
        lambda torch, net, x: net(torch.tensor(x.detach().numpy())),
        lambda torch, net, x: net(torch.from_numpy(x.numpy())),
    ],
    ids=["detached", "through NumPy, detached", "through NumPy"],
)
def test_a_torch_network_without_a_gradient_becomes_a_finding(forward):
    found = findings(Evidence(_torch_net(forward), *images()))
    assert set(found) == {"gradient-mode"}
    assert "gives no gradient" in found["gradient-mode"]
    assert "\n" not in found["gradient-mode"]


def test_a_keras_network_without_a_gradient_becomes_a_finding():
    at_hand("keras")
    import keras

    net = at_hand("keras").build(Network(NET, trained("numpy")), Wrapping(BOUNDS)).net
    given = keras.Input((8, 8))
    cut = keras.Model(given, net(keras.layers.Lambda(keras.ops.stop_gradient)(given)))
    found = findings(Evidence(harness.wrap(cut), *images()))
    assert set(found) == {"gradient-mode"}
    assert "gives no gradient" in found["gradient-mode"]


def test_labels_in_place_of_logits_become_a_finding():
    class Labels(Broken):
        def logits(self, x):
            return super().logits(x).argmax(axis=1)

    found = findings(Evidence(Labels(), *images()))
    assert set(found) == {"breaks"}
    assert "(180,)" in found["breaks"]


def test_a_model_that_is_right_on_every_image_has_none_to_put_right():
    x, y = images()
    model = built()
    right = model.logits(x).argmax(axis=1) == y
    evidence = Evidence(model, x[right], y[right])
    assert evidence.right.all()
    assert findings(evidence) == {}


def test_what_a_check_did_not_expect_is_a_finding_too(monkeypatch):
    def rule(evidence):
        raise ZeroDivisionError("oh")

    monkeypatch.setitem(CHECKS, "made-up", rule)
    found = findings(Evidence(built(), *images()))
    assert set(found) == {"made-up"}
    assert "ZeroDivisionError: oh" in found["made-up"]


# Precision


def _in_half(name):
    """A torch network that computes in half precision, whatever it is given."""
    at_hand("torch")
    import torch
    from torch import nn

    class Half(nn.Module):
        def __init__(self, net, head):
            super().__init__()
            self.first = nn.Parameter(torch.zeros(1))
            self.inner, self.head = net.to(getattr(torch, name)), head

        def forward(self, x):
            return self.head(self.inner(x.to(getattr(torch, name))).float())

    def deep():
        layers = [nn.Flatten(), nn.Linear(64, 48), nn.ReLU()]
        for _ in range(4):
            layers += [nn.Linear(48, 48), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(48, 10))

    net = fitted(deep, epochs=6).net
    return net, lambda head: harness.wrap(Half(net, head))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("head", ["none", "in float32"])
def test_rounding_in_half_precision_in_torch_is_no_batch_dependence(name, head):
    at_hand("torch")
    import torch

    _, wrapped = _in_half(name)
    torch.manual_seed(0)
    scale = torch.nn.Linear(10, 10)
    with torch.no_grad():
        scale.weight.copy_(1.1 * torch.eye(10) + 0.001)
    model = wrapped(scale if head == "in float32" else torch.nn.Identity())
    found = statuses(checked(model))
    assert found == PASSED


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_a_batch_that_torch_normalises_is_found_in_half_precision_too(name):
    at_hand("torch")
    import torch

    _, wrapped = _in_half(name)
    norm = torch.nn.BatchNorm1d(10, track_running_stats=False)
    assert statuses(checked(wrapped(norm)))["batch-dependence"] == "failed"


def _rounded(logits, bits):
    """Float32 logits of so many significant binary digits."""
    fraction, exponent = np.frexp(logits)
    return np.ldexp(np.round(fraction * 2**bits) / 2**bits, exponent).astype(logits.dtype)


@pytest.mark.parametrize(("bits", "step"), [(8, 2e-2), (11, 4e-3), (24, repeated.ALIKE)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_logits_may_be_apart_by_what_their_format_rounds(bits, step, kind):
    logits = np.random.default_rng(0).normal(scale=4, size=(50, 10)).astype(np.float32)
    logits = _rounded(logits, bits).astype(kind)
    largest = np.abs(logits).max()
    for share, expected in ((0.9, False), (1.1, True)):
        found = logits.copy()
        found[0, 0] += kind(share * step * largest)
        assert repeated.differ(found, logits) is expected


def test_logits_in_half_precision_as_such_are_rounded_as_such():
    logits = np.random.default_rng(0).normal(scale=4, size=(50, 10)).astype(np.float16)
    found = np.nextafter(logits, np.float16(np.inf))
    assert not repeated.differ(found, logits)


def test_logits_beyond_half_precision_are_those_of_bfloat16():
    logits = _rounded(np.linspace(1e4, 1e6, 100, dtype=np.float32).reshape(10, 10), 8)
    assert not repeated.differ(logits * np.float32(1 + 2**-7), logits)


def test_a_torch_transformer_in_bfloat16_computes_the_same_beside_a_gradient():
    at_hand("torch")
    import torch
    from torch import nn

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
            self.rows, self.head = nn.Linear(8, 32), nn.Linear(32, 10)
            self.place = nn.Parameter(0.1 * torch.randn(1, 8, 32))
            self.encoder = nn.TransformerEncoder(layer, 4)

        def forward(self, x):
            x = x.to(self.place.dtype)
            return self.head(self.encoder(self.rows(x) + self.place).mean(1))

    net = fitted(Transformer, epochs=4).net.bfloat16().eval()
    assert statuses(checked(harness.wrap(net)))["gradient-mode"] == "passed"


# What each says


@pytest.mark.parametrize("kind", [Counts, TakesTurns])
def test_a_model_with_a_memory_is_not_sent_to_eot(kind):
    with pytest.raises(CheckFailed) as caught:
        CHECKS["call-to-call"](Evidence(kind(), *images()))
    assert "how often the model was called before" in str(caught.value)
    assert "EOT" not in str(caught.value)


def test_a_random_choice_of_two_models_has_no_memory():
    class Chooses(Broken):
        def __init__(self):
            super().__init__()
            self.random = np.random.default_rng(0)

        def through(self, x):
            logits, back = super().through(x)
            return np.roll(logits, 1, axis=1) if self.random.random() < 0.5 else logits, back

    with pytest.raises(CheckFailed, match="EOT"):
        CHECKS["call-to-call"](Evidence(Chooses(), *images()))


def test_a_model_that_changes_for_good_while_it_is_attacked_is_found():
    class Wears(Broken):
        def logits_and_gradient(self, x, y, objective):
            self.named["layers.1.weight"] *= np.float32(0.999)
            return super().logits_and_gradient(x, y, objective)

    found = checked(Wears(), attacks=["pgd"])
    assert found["call-to-call"][0] == "failed"
    assert "how often the model was called before" in found["call-to-call"][1]


def test_an_attack_that_moves_at_epsilon_zero_is_found_though_no_sweep_holds_it():
    found = checked(built(), attacks=["fgsm", Shuffles()], epsilons=[0.1])
    assert found["epsilon-zero"][0] == "failed"
    assert statuses(checked(built(), attacks=["fgsm", Adapter()], epsilons=[0.1])) == PASSED


def test_the_view_that_mends_is_named():
    with pytest.raises(CheckFailed, match="rows and columns exchanged"):
        CHECKS["no-better-than-chance"](Evidence(Transposed(), *images()))
    with pytest.raises(CheckFailed, match="trained weights were loaded"):
        CHECKS["no-better-than-chance"](Evidence(Constant(), *images()))


def test_a_few_images_are_too_few_to_tell_from_chance():
    x, y = images()
    status, reason = checked(built(), x[:3], y[:3])["no-better-than-chance"]
    assert (status, reason) == ("skipped", "3 images are too few to tell it from chance")


def test_one_image_is_measured():
    x, y = images()
    found = checked(built(), x[:1], y[:1])
    assert found["batch-dependence"] == ("skipped", "one image has no neighbours")
    assert "failed" not in statuses(found).values()


def test_a_large_class_makes_no_guess_a_model_and_no_model_a_guess():
    x, y = images()
    rows = np.concatenate([np.flatnonzero(y == 0), np.flatnonzero(y == 1)[:2]])
    x, y = np.repeat(x[rows], 5, axis=0), np.repeat(y[rows], 5)
    assert statuses(checked(built(), x, y))["no-better-than-chance"] == "passed"

    class AlwaysNought(Broken):
        def bend(self, logits):
            return logits + 1e3 * np.eye(10, dtype=np.float32)[0]

    assert statuses(checked(AlwaysNought(), x, y))["no-better-than-chance"] == "failed"


def test_black_boxes_are_checked_without_a_gradient():
    found = checked(BlackBox(built()), attacks=["square"])
    assert statuses(found) == {**PASSED, "gradient-mode": "skipped"}
    assert found["gradient-mode"][1] == "the model gives no gradients"


def test_the_checks_are_cheap():
    """A bounded number of images, whatever the size of the test set."""

    class Counting(Broken):
        asked = 0

        def through(self, x):
            self.asked += len(x)
            return super().through(x)

    asked = []
    x, y = images()
    for times in (2, 8):
        model = Counting()
        many = np.tile(x, (times, 1, 1))
        labels = built().logits(many).argmax(axis=1)
        evidence = Evidence(
            model, many, np.tile(y, times),
            reported=(Reported(make_attack("fgsm"), (0.1,)),),
            measured=lambda counted=labels: counted,
            counted=lambda attack, epsilon, counted=labels: counted,
        )  # fmt: skip
        for check in CHEAP.values():
            check(evidence)
        asked.append(model.asked)
    assert asked[0] == asked[1] <= 10 * 300


# Colours


def _coloured():
    """Digits whose shape shows in red alone, with other colours around it."""
    x, y = images()
    random = np.random.default_rng(0)
    noise = random.random((*x.shape, 2), dtype=np.float32)
    return np.concatenate([x[..., None], 0.6 * noise], axis=-1), y


class Red(Broken):
    """Looks at the last channel: it was trained on BGR."""

    channel = 2

    def through(self, x):
        return super().through(np.ascontiguousarray(x[..., self.channel]))

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        full = np.zeros_like(x)
        full[..., self.channel] = gradient.reshape(full.shape[:-1])
        return logits, full


class MostlyRed(Red):
    """Sees enough in BGR to be better than chance on the wrong channel."""

    def through(self, x):
        mixed = 0.55 * x[..., 2] + 0.45 * x[..., 0]
        return Broken.through(self, np.ascontiguousarray(mixed))


@pytest.mark.parametrize("kind", [Red, MostlyRed])
def test_colours_in_another_order_are_no_exchanged_labels(kind):
    found = findings(Evidence(kind(), *_coloured()))
    assert "labels-shifted" not in found
    assert (
        any("channels in reverse order" in reason for reason in found.values()) or kind is MostlyRed
    )


@pytest.mark.parametrize(("attack", "status"), [("square", "skipped"), ("fgsm", "failed")])
def test_a_network_without_gradient_is_judged_by_it_where_an_attack_asks_for_one(attack, status):
    class Detached(Broken):
        def logits_and_gradient(self, x, y, objective):
            raise MeasurementError("no gradient reaches the input; attack it with square")

    run = harness.evaluate(Detached(), *images(), attack, [0.1])
    (found,) = [r for r in run.records if r.check == "validity/gradient-mode"]
    assert found.status == status
    assert "no gradient reaches the input" in found.reason
