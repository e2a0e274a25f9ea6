"""The reported attacks are judged too: each of them, by its own name and count."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from zoo.broken_attacks import Adapter, Descends, NotANumber, PredictedLabels
from zoo.broken_data import OfWrongShape, Raises, YieldsNothing
from zoo.broken_models import Clamped
from zoo.networks import built, images

import harness
from harness.attacks import make_attack
from harness.attacks.pgd import PGD
from harness.checks.validity import CHEAP, CHECKS, Evidence, Reported, findings, notes
from harness.checks.validity.panel import FAR, WEAKER, shortfall
from harness.checks.validity.reported import counted_changes
from harness.errors import CheckFailed, SpecError
from harness.maths.query import NO_LABEL, predictions_of

LAZY = PGD(name="lazy", steps=40, rel_stepsize=0.005, start="clean")


class Foreign(Adapter):
    """Somebody's attack that does not say how many steps it takes."""

    name = "foreign"

    def __getattribute__(self, name):
        if name == "steps" and not object.__getattribute__(self, "busy"):
            raise AttributeError(name)
        return object.__getattribute__(self, name)

    busy = False

    def perturb(self, model, x, y, epsilons, *, index):
        self.busy = True
        try:
            yield from super().perturb(model, x, y, epsilons, index=index)
        finally:
            self.busy = False


class Feeble(Foreign):
    name = "feeble"

    def finish(self, moving, clean, epsilon):
        return clean + (moving - clean) * np.float32(0.02)


class TakesPredictedLabels(Foreign, PredictedLabels):
    name = "predicted"


class GoesDown(Foreign, Descends):
    name = "down"


class TooFar(Adapter):
    def finish(self, moving, clean, epsilon):
        return np.clip(clean + 2 * (moving - clean), 0, 1)


class NoneForABatch(Adapter):
    def perturb(self, model, x, y, epsilons, *, index):
        yield from [None for _ in epsilons]


class OfAnotherNorm(Adapter):
    norm = "l1"


def evidence_of(*attacks, model=None, epsilons=(0.1,)):
    reported = tuple(Reported(attack, epsilons) for attack in attacks)
    return Evidence(model or built(), *images(), reported=reported)


def records(model, attacks, epsilons=(0.1,)):
    """The cheap checks of a run, by name."""
    run = harness.evaluate(model, *images(), attacks, epsilons)
    return {r.check.removeprefix("validity/"): r for r in run.records}


# Which way they go


@pytest.mark.parametrize("kind", [GoesDown, Descends])
def test_a_reported_attack_that_raises_accuracy_is_found(kind):
    poor = built(epochs=1)
    found = findings(evidence_of(kind(), model=poor))
    assert f" under {kind.name} at epsilon 0.1" in found["raises-accuracy"]
    record = records(poor, [kind()])["raises-accuracy"]
    assert record.status == "failed"
    run = records(poor, [kind()])
    counts = run["clean"].correct, run[kind.name].correct
    assert counts[1] > counts[0]
    assert f"{counts[0]} are classified correctly, but {counts[1]} under" in record.reason


def test_a_reported_attack_that_is_given_the_predicted_labels_is_found():
    poor = built(epochs=1)
    attack = TakesPredictedLabels()
    found = findings(evidence_of(attack, model=poor, epsilons=(0.05,)))
    assert "predicted at epsilon 0.05 corrects " in found["attack-helps"]
    run = records(poor, [attack], (0.05,))
    assert run["predicted"].correct < run["clean"].correct
    assert run["attack-helps"].status == "failed"


def test_what_was_counted_is_looked_at_and_nothing_attacked_again():
    calls = []

    class Counted(Foreign):
        def perturb(self, model, x, y, epsilons, *, index):
            calls.append((len(x), *epsilons))
            yield from super().perturb(model, x, y, epsilons, index=index)

    made = records(built(), [Counted()])
    assert {made[rule].status for rule in CHEAP} == {"passed"}
    assert calls == [(len(images()[0]), 0.1), (32, 0.0)]


@pytest.mark.parametrize("name", ["noise", "fgsm", "pgd", "mim", "square"])
@pytest.mark.parametrize("epochs", [1, 15])
def test_a_right_attack_neither_helps_nor_raises(name, epochs):
    made = records(built(epochs=epochs), [name], (0.02, 0.1, 0.5))
    assert made["raises-accuracy"].status == made["attack-helps"].status == "passed"


# How far they come


def test_a_foreign_attack_that_comes_nowhere_is_found():
    found = findings(evidence_of(Feeble()))
    assert set(found) == {"stronger-attack"}
    assert "at epsilon 0.1 feeble leaves " in found["stronger-attack"]
    assert "rely on feeble alone" in found["stronger-attack"]


def test_a_foreign_attack_that_is_right_is_not_blamed():
    assert findings(evidence_of(Foreign())) == {}


def test_few_steps_are_judged_but_may_fall_shorter():
    short = PGD(name="short", steps=10, rel_stepsize=0.02)
    assert "short leaves" in findings(evidence_of(short))["stronger-attack"]
    for name in ("i-fgsm", "mim"):
        assert findings(evidence_of(make_attack(name))) == {}


def test_who_is_judged_and_how():
    assert {shortfall(make_attack(n)) for n in ("pgd", "apgd", "apgd-t-l2", "strongest")} == {
        WEAKER
    }
    assert {shortfall(make_attack(n)) for n in ("mim", "i-fgsm")} == {FAR}
    weak = ("noise", "fgsm", "fgsm-rs", "fgm-l2", "deepfool", "square", "square-l2")
    assert {shortfall(make_attack(n)) for n in weak} == {None}
    assert shortfall(Foreign()) == FAR
    one = Adapter()
    one.steps = 1
    assert shortfall(one) is None


@pytest.mark.parametrize("turned", [False, True])
def test_the_best_reported_attack_covers_the_others_in_any_order(turned):
    attacks = [make_attack("pgd"), LAZY]
    evidence = evidence_of(*(attacks[::-1] if turned else attacks))
    assert findings(evidence) == {}
    told = notes(evidence)["stronger-attack"]
    assert told.startswith("at epsilon 0.1 lazy leaves ")
    assert ", pgd " in told
    assert told.endswith(": report the latter")


def test_what_is_weak_by_design_is_told_where_nothing_better_is_reported():
    evidence = evidence_of(make_attack("noise"))
    assert findings(evidence) == {}
    told = notes(evidence)["stronger-attack"]
    assert told.startswith("at epsilon 0.1 noise leaves ")
    assert told.endswith(": report these beside it")


def test_no_attack_is_named_that_was_not_run():
    masked = findings(evidence_of(PGD(name="own", steps=10), model=Clamped(), epsilons=(0.2,)))
    assert "at epsilon 0.2 own leaves " in masked["stronger-attack"]
    assert "rely on own alone" in masked["stronger-attack"]
    only = findings(evidence_of(make_attack("fgsm"), model=Clamped(), epsilons=(0.2,)))
    assert "at epsilon 0.2 fgsm leaves " in only["stronger-attack"]


def test_what_fails_at_an_epsilon_that_nobody_reports_is_a_note():
    masked = evidence_of(make_attack("pgd"), model=Clamped(), epsilons=(0.02,))
    found = findings(masked)
    assert {"stronger-attack", "black-box-stronger"}.isdisjoint(found)
    told = notes(masked)
    assert "at epsilon 0.02" not in told["stronger-attack"]
    assert "stronger-attack" in findings(Evidence(Clamped(), *images()))  # nothing is reported


# What they return


@pytest.mark.parametrize(
    ("kind", "rule", "words"),
    [
        (OfWrongShape, "breaks", "returns the shape (32, 64)"),
        (Raises, "breaks", "TypeError: unsupported operand"),
        (YieldsNothing, "breaks", "yields 0 batches for one epsilon"),
        (NoneForABatch, "breaks", "the attack returned None where one array of images is needed"),
        (NotANumber, "non-finite", "returns NaN or infinity"),
        (TooFar, "outside-ball", "at epsilon 0.1 returns an image that is 0.2"),
        (OfAnotherNorm, "breaks", "adapter has the norm 'l1', not linf or l2. Fix"),
    ],
)
def test_a_reported_attack_that_breaks_a_promise_is_a_finding(kind, rule, words):
    found = findings(evidence_of(kind(), epsilons=(0.0, 0.1)))
    assert set(found) <= {rule, "epsilon-zero"}
    assert words in found[rule]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda x: x.tolist(), "list"),
        (lambda x: (x, x), "tuple"),
        (lambda x: x.numpy(), "numpy.ndarray"),
        (lambda x: None, "None"),
    ],
)
def test_what_is_no_batch_of_torchs_kind_is_said_in_a_sentence(given, said):
    at_hand("torch")

    class Returns(Adapter):
        def perturb(self, model, x, y, epsilons, *, index):
            yield from (given(x) for _ in epsilons)

    model, (x, y) = built("torch"), images()
    run = harness.evaluate(model, x, y, [Returns()], 0.1)
    (reason,) = (r.reason for r in run.records if r.check == "adapter")
    assert reason == (
        f"the attack returned {said} where one array of images is needed, of the kind it was "
        f"given: torch.Tensor of the shape {x.shape}"
    )


def test_an_attack_that_returns_no_batches_at_all_is_said_in_a_sentence():
    class Returns(Adapter):
        def perturb(self, model, x, y, epsilons, *, index):
            return None

    run = harness.evaluate(built(), *images(), [Returns()], 0.1)
    (reason,) = (r.reason for r in run.records if r.check == "adapter")
    assert reason == "adapter returned None, not a batch of images per epsilon"


def test_names_that_print_alike_are_one_name():
    with pytest.raises(SpecError, match="2 of them are called é"):
        harness.evaluate(built(), *images(), [PGD(name="\u00e9"), PGD(name="e\u0301")], 0.1)


def test_a_message_of_torch_ends_with_one_full_stop_and_ours_names_no_exception():
    said = str(CheckFailed("RuntimeError: use .numpy() instead.", "Mend it.", of="made-up"))
    assert said == "made-up: RuntimeError: use .numpy() instead. Mend it."
    at_hand("torch")
    from torch import nn

    class Detached(nn.Module):
        def forward(self, x):
            return net(x).detach()

    net = built("torch").net
    model = harness.wrap(Detached())
    found = findings(Evidence(model, *images()))["gradient-mode"]
    assert "MeasurementError" not in found
    assert found.count("gives no gradient") == 1
    assert ".. " not in found


def test_checks_that_break_alike_are_one_finding(monkeypatch):
    def odd(evidence):
        raise KeyError("odd")

    for rule in ("constant", "tiny-noise", "breaks"):
        monkeypatch.setitem(CHECKS, rule, odd)
    found = findings(evidence_of())
    assert set(found) == {"breaks"}
    assert "KeyError" in found["breaks"]


# Images that were not answered


def test_images_that_were_not_answered_are_no_changes_and_have_no_other_label():
    model, (x, y) = built(), images()
    y = np.asarray(y)
    clean = predictions_of(model, x).labels.copy()
    right, missing = clean == y, np.arange(len(y)) < 50
    clean[missing] = NO_LABEL
    after = np.where(np.arange(len(y)) >= len(y) - 50, NO_LABEL, y)
    evidence = Evidence(
        model, x, y, reported=(Reported(PGD(), (0.1,)),),
        measured=lambda: clean, counted=lambda attack, epsilon: after,
    )  # fmt: skip
    (change,) = counted_changes(evidence)
    assert len(change.before) == len(change.after) == len(y) - 100
    assert change.before.sum() == right[50:-50].sum()
    assert change.after.all()
    assert evidence.mislabelled.tolist() == []
