"""Defences that are measured adaptively: stand-ins going backward, and models marked as random."""

from contextlib import nullcontext

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from small_models import attacked, linear, small_images, small_net

import harness
from harness.attacks.deepfool import DeepFool
from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.attacks.sweep import sweep
from harness.checks import conformance, validity
from harness.errors import HarnessError, MeasurementError, NotApplicable
from harness.evaluation.own import loaded_own
from harness.evaluation.wrapping import wrap, wrap_function
from harness.maths.adaptive import RANDOM_ON_PURPOSE, STOOD_IN, is_randomised, votes_of
from harness.maths.objectives import LogOdds, Margin
from harness.maths.query import correct_count, predictions_of

LEVELS = 8


def quantised(x):
    return np.round(x * LEVELS) / LEVELS


def flat(x, gradient):
    """The true derivative of rounding."""
    return 0 * gradient


def images():
    x, _ = small_images(40, wrong=0)
    return x, predictions_of(wrap(small_net(dtype="float32"), transform=quantised), x).labels


def left(model, attack=None, epsilon=0.2):
    x, y = images()
    (found,) = sweep(model, attack or PGD(steps=10), x, y, [epsilon])
    return correct_count(found.predictions, y)


# Stand-ins


@pytest.mark.parametrize("backend", NAMES)
def test_a_quantised_network_is_broken_through_a_stand_in_and_not_by_its_own_gradient(backend):
    net = small_net(backend, "float32")
    own = wrap(net, transform=quantised, backward=flat)
    stood_in = wrap(net, transform=quantised)
    attack = PGD(steps=10, start="clean")
    with pytest.raises(MeasurementError, match="changed no image"):
        left(own, attack)
    assert left(stood_in, attack) < 30
    # As many as in NumPy.
    expected = left(wrap(small_net(dtype="float32"), transform=quantised))
    assert abs(left(stood_in) - expected) <= 1


def test_a_torch_network_that_rounds_itself_gives_no_gradient_and_gets_one_from_another():
    at_hand("torch")
    import torch

    class Rounds(torch.nn.Module):
        def __init__(self, net, rounds):
            super().__init__()
            self.net, self.rounds = net, rounds

        def forward(self, x):
            return self.net(torch.round(x * LEVELS) / LEVELS if self.rounds else x)

    net = small_net("torch", "float32").net
    rounds = Rounds(net, rounds=True)
    x, y = images()
    plain, adapted = wrap(rounds), wrap(rounds, gradients_from=Rounds(net, rounds=False))
    attack = PGD(steps=10, start="clean", losses=("margin",))
    with pytest.raises(MeasurementError, match="changed no image"):
        sweep(plain, attack, x, y, [0.2])
    assert left(adapted) < 30
    same = wrap(small_net("torch", "float32"), transform=quantised)
    assert abs(left(adapted) - left(same)) <= 1


@pytest.mark.parametrize("attack", [FGSM(), DeepFool(), PGD(norm="l2", steps=5)])
def test_every_attack_with_gradients_goes_through_the_stand_in(attack):
    epsilon = 0.2 if attack.norm == "linf" else 0.8
    model = wrap(small_net(dtype="float32"), transform=quantised)
    assert left(model, attack, epsilon) < 35


def test_the_gradient_is_that_of_the_network_carried_through_backward_by_hand():
    net = small_net()
    x, y = small_images(5)
    x = x.astype(float)
    seen = []

    def backward(images_, gradient):
        seen.append((images_, gradient))
        return 3 * gradient + images_

    model = wrap(net, transform=lambda a: a / 2, backward=backward)
    logits, gradient = model.logits_and_gradient(x, y, LogOdds())
    at_half, slope = net.logits_and_gradient(x / 2, y, LogOdds())
    np.testing.assert_allclose(logits, at_half)
    np.testing.assert_allclose(model.logits(x), at_half)
    np.testing.assert_allclose(gradient, 3 * slope + x)
    np.testing.assert_array_equal(seen[0][0], x)
    np.testing.assert_allclose(seen[0][1], slope)


def test_a_transform_may_change_the_shape_if_its_stand_in_changes_it_back():
    x, y = small_images(5)
    small = x[:, ::2, ::2]

    def enlarge(images_):
        return images_.repeat(2, axis=1).repeat(2, axis=2)

    def backward(images_, gradient):
        return gradient.reshape(len(gradient), 2, 2, 2, 2).sum(axis=(2, 4))

    net = small_net(dtype="float32")
    model = wrap(net, transform=enlarge, backward=backward)
    _, gradient = model.logits_and_gradient(small, y, LogOdds())
    assert gradient.shape == small.shape
    step = 1e-3
    for place in ((0, 0), (1, 1)):
        moved = small.astype(float)
        moved[:, place[0], place[1]] += step
        double = small_net()
        there, here = (
            LogOdds().value(np, double.logits(enlarge(one)), np.eye(5, dtype=bool)[y])
            for one in (moved, small.astype(float))
        )
        np.testing.assert_allclose(
            gradient[(slice(None), *place)], (there - here) / step, rtol=0.05, atol=1e-3
        )
    with pytest.raises(MeasurementError, match=r"^transform: images of the shape \(2, 2\) become"):
        wrap(net, transform=enlarge).logits_and_gradient(small, y, LogOdds())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x[:1], r"^transform: it returns the shape \(1, 4, 4\) for 5 images$"),
        (lambda x: 1 / 0, r"^transform: ZeroDivisionError: division by zero$"),
        (lambda x: None, r"^transform: it returns object, not images as numbers$"),
    ],
)
def test_a_transform_that_is_none_says_so_in_a_line(function, message):
    x, _ = small_images(5)
    with pytest.raises(MeasurementError, match=message):
        wrap(small_net(dtype="float32"), transform=function).logits(x)


def test_a_backward_of_another_shape_says_so():
    x, y = small_images(5)
    model = wrap(small_net(dtype="float32"), transform=quantised, backward=lambda x, g: g[0])
    with pytest.raises(MeasurementError, match=r"^backward: it returns the shape \(4, 4\) for im"):
        model.logits_and_gradient(x, y, LogOdds())


def test_a_transform_that_works_in_place_changes_no_image():
    def halves(x):
        x /= 2
        return x

    x, _ = small_images(5)
    before = x.copy()
    wrap(small_net(dtype="float32"), transform=halves).logits(x)
    np.testing.assert_array_equal(x, before)


def test_what_the_model_says_of_itself_passes_through():
    model = wrap(
        small_net(dtype="float32"), transform=quantised, channel_axis=0, batch_size=7,
        randomised=True, votes=3,
    )  # fmt: skip
    assert (model.channel_axis, model.batch_size) == (0, 7)
    assert model.capabilities == {"gradient"}
    assert (is_randomised(model), votes_of(model)) == (True, 3)
    assert model.footprint(small_images(2)[0]) > 0
    plain = wrap(small_net(dtype="float32"))
    assert (is_randomised(plain), votes_of(plain)) == (False, 1)


def test_a_transform_comes_before_preprocessing():
    x, _ = small_images(5)
    by = {"mean": 0.5, "std": 0.25}
    seen = []

    def look(images_):
        seen.append(images_)
        return images_

    model = wrap(small_net(), transform=look, preprocessing=by)
    np.testing.assert_allclose(
        model.logits(x.astype(float)), small_net().logits((x.astype(float) - 0.5) / 0.25)
    )
    np.testing.assert_array_equal(seen[0], x)


def test_a_black_box_gets_gradients_from_another_network():
    net = small_net(dtype="float32")
    box = wrap_function(net.logits, outputs="logits", gradients_from=net)
    x, y = small_images(20, wrong=0)
    assert "gradient" in box.capabilities
    expected = attacked(PGD(steps=4), net, x, y, [0.1])
    np.testing.assert_allclose(attacked(PGD(steps=4), box, x, y, [0.1]), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            linear(np.ones((7, 16)), dtype="float32"),
            r"^gradients_from: it has 7 classes, the model 5$",
        ),
        (linear(np.ones((5, 9)), dtype="float32"), r"^gradients_from: [^\n]*$"),
    ],
)
def test_a_stand_in_of_other_classes_or_images_says_so(other, message):
    x, y = small_images(5)
    net = small_net(dtype="float32")
    box = wrap_function(
        lambda a: net.logits(a.reshape(-1, 4, 4)), outputs="logits", gradients_from=other
    )
    for objective in (LogOdds(), Margin()):
        with pytest.raises(MeasurementError, match=message):
            box.logits_and_gradient(x.reshape(5, 16), y, objective)


def test_one_of_probabilities_too():
    net = small_net(dtype="float32")

    def ask(x):
        logits = net.logits(x)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    box = wrap_function(ask, outputs="probabilities", gradients_from=net)
    x, y = small_images(20, wrong=0)
    (found,) = sweep(box, PGD(steps=4), x, y, [0.1])
    assert correct_count(found.predictions, y) < 20
    run = harness.evaluate(box, x, y, attacks=["pgd"], epsilons=[0.1])
    assert {r.status for r in run.records if r.check == "pgd"} == {"measured"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": 3}, "transform: 3 is no function; pass what takes NumPy images"),
        ({"backward": flat}, "backward: it stands in for a transform; pass transform, too"),
        ({"randomised": 1}, "randomised: 1 is neither True nor False"),
        ({"votes": 3}, "votes: they are taken of a random model; pass randomised=True, too"),
        ({"randomised": True, "votes": 0}, "votes: 0 is not a whole number ≥ 1"),
        (
            {"gradients_from": wrap_function(lambda x: x)},
            "gradients_from: it gives no gradients itself",
        ),
    ],
)
def test_what_cannot_be_is_said_in_a_line(options, message):
    net = small_net()
    with pytest.raises(HarnessError) as error:
        wrap(net, **options)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_gradients_of_other_pixels_than_a_torch_networks_are_refused_in_a_line():
    at_hand("torch")
    with pytest.raises(HarnessError) as error:
        wrap(small_net("torch").net, gradients_from=small_net(), bounds=(0, 255))
    assert str(error.value) == (
        "gradients_from: it takes pixels in [0.0, 1.0], the model in [0.0, 255.0]; wrap both "
        "with the same bounds"
    )


def test_checks_of_gradients_are_told_and_others_pass():
    x, y = images()
    model = wrap(small_net(dtype="float32"), transform=quantised)
    evidence = conformance.Evidence(model, x, y, exact=small_net(), oracle=small_net())
    with pytest.raises(NotApplicable, match=STOOD_IN.replace("(", r"\(").replace(")", r"\)")):
        conformance.check_gradient(evidence)
    for skipped in ("oracle", "parity"):
        with pytest.raises(NotApplicable, match="transformed"):
            conformance.CHECKS[skipped](evidence)
    for rule in ("shapes", "dtypes", "inference-mode", "input-unchanged"):
        conformance.CHECKS[rule](evidence)
    validity.CHECKS["gradient-mode"](validity.Evidence(model, x, y))


def test_layers_behind_a_transform_are_not_the_model():
    from harness.evaluation.imported import network_of

    assert network_of(wrap(small_net(), transform=quantised)) is None
    assert loaded_own(wrap(small_net(), transform=quantised)).network is None


# Models that are random on purpose


def noisy(seed=0, noise=0.02, **options):
    """Of small noise; a user's own random numbers."""
    random = np.random.default_rng(seed)
    return wrap(
        small_net(dtype="float32"), transform=lambda x: x + random.normal(0, noise, x.shape),
        **options,
    )  # fmt: skip


def evaluated(model, **options):
    x, _ = small_images(60, wrong=0)
    y = small_net(dtype="float32").logits(x).argmax(axis=1)
    return harness.evaluate(model, x, y, attacks=["fgsm", PGD(steps=3, eot=3)], **options)


def statuses(run):
    return {r.check: (r.status, r.reason) for r in run.records if r.epsilon in (None, 0)}


def test_a_random_model_that_is_not_marked_is_refused_as_ever():
    found = statuses(evaluated(noisy(), epsilons=[0.0, 0.1]))
    status, reason = found["validity/call-to-call"]
    assert status == "failed"
    assert "randomised = true" in reason


def test_one_that_is_marked_is_measured():
    run = evaluated(noisy(randomised=True, votes=5), epsilons=[0.0, 0.1])
    found = statuses(run)
    for rule in ("call-to-call", "batch-dependence", "gradient-mode", "epsilon-zero"):
        assert found[f"validity/{rule}"] == ("skipped", RANDOM_ON_PURPOSE)
    assert not [record.check for record in run.records if record.status in ("failed", "error")]
    accuracies = {(r.check, r.epsilon): r.accuracy for r in run.records}
    assert accuracies["clean", None] > 0.9
    assert accuracies["pgd", 0.1] < accuracies["clean", None]


def test_what_votes_correct_by_chance_is_not_held_against_an_attack():
    run = evaluated(noisy(noise=2.0, randomised=True, votes=3), epsilons=[1e-6])
    found = statuses(run)
    assert found["validity/attack-helps"] == ("skipped", RANDOM_ON_PURPOSE)
    counted = {record.check: record.correct for record in run.records if record.total}
    assert 10 < counted["clean"] < 55


def test_all_checks_of_one_that_is_marked_are_made_or_skipped_with_the_reason():
    x, _ = small_images(60, wrong=0)
    y = small_net(dtype="float32").logits(x).argmax(axis=1)
    model = noisy(randomised=True, votes=5)
    evidence = conformance.Evidence(model, x, y, exact=small_net(), oracle=small_net())
    skipped = {"batch-split", "inference-mode", "gradient", "oracle", "parity"}
    for rule in conformance.OWN:
        expected = nullcontext()
        if rule in skipped:
            expected = pytest.raises(NotApplicable, match=f"^{RANDOM_ON_PURPOSE}$")
        with expected:
            conformance.CHECKS[rule](evidence)
    found = validity.findings(validity.Evidence(model, x, y))
    assert not {"call-to-call", "epsilon-zero", "batch-dependence", "breaks"} & set(found)
    other = validity.Evidence(noisy(), x, y)
    assert "call-to-call" in validity.findings(other)


def test_a_spec_marks_a_model(tmp_path, monkeypatch):
    from harness.evaluation.own import own_model
    from harness.spec.reading import load_spec

    (tmp_path / "theirs_at_random.py").write_text(
        "import numpy as np\nfrom harness import wrap_function\n"
        "def load():\n    return wrap_function(lambda x: np.zeros((len(x), 10)))\n"
    )
    spec = tmp_path / "spec.toml"
    text = (
        'name = "mine"\nbackends = ["numpy"]\n[data]\nname = "digits"\n[attacks.fgsm]\n'
        'epsilons = [0.1]\n[models.x]\nload = "theirs_at_random:load"\n'
    )
    spec.write_text(text + "randomised = true\nvotes = 4\n")
    model = own_model(load_spec(spec), "x")
    assert (is_randomised(model), votes_of(model)) == (True, 4)
    dumped = load_spec(spec).model_dump(mode="json")["models"]["x"]
    assert (dumped["randomised"], dumped["votes"]) == (True, 4)
    spec.write_text(text)
    assert not is_randomised(own_model(load_spec(spec), "x"))
    assert not {"randomised", "votes"} & set(load_spec(spec).model_dump(mode="json")["models"]["x"])
    spec.write_text(text + "votes = 4\n")
    with pytest.raises(HarnessError, match="votes: they are taken of a random model"):
        load_spec(spec)
