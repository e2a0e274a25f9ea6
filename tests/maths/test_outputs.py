"""Heads that give no logits are found whatever their precision, and healthy ones are not."""

from __future__ import annotations

import numpy as np
import pytest

import harness
from harness.checks import conformance
from harness.checks.conformance import check_logits_not_probabilities
from harness.checks.validity import CHECKS, Evidence
from harness.errors import CheckFailed, HarnessError, MeasurementError, NotApplicable
from harness.maths.outputs import KINDS, Probabilities, declared, kind_of, no_logits, undeclared
from harness.protocol import GRADIENT, is_model

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(12, 5)).astype(np.float32) * 2
X = RANDOM.random((300, 3, 4)).astype(np.float32)


def to_bfloat16(values):
    """Rounded to 8 bits, to even."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def softmax(z):
    odds = np.exp(z - z.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def softmax_in(rounded):
    """A softmax of which each step is rounded, as where a network computes in that precision."""

    def head(z):
        odds = rounded(np.exp(rounded(z - z.max(axis=1, keepdims=True))))
        return rounded(odds / rounded(odds.sum(axis=1, keepdims=True))).astype(np.float32)

    return head


in_float16 = softmax_in(lambda values: np.asarray(values, np.float16))
in_bfloat16 = softmax_in(to_bfloat16)


class Headed:
    """Logits that are linear in the pixels, and a head behind them."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset({GRADIENT})

    def __init__(self, head=lambda z: z):
        self.head = head

    def asarray(self, values):
        return np.asarray(values)

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        z = np.asarray(x, np.float32).reshape(len(x), -1) @ WEIGHTS
        return self.head(z - z.mean(axis=1, keepdims=True))

    def logits_and_gradient(self, x, y, objective):
        logits = self.logits(x)
        flow = objective.logit_gradient(np, logits, np.arange(5) == y[:, None])
        return logits, (flow @ WEIGHTS.T).reshape(x.shape).astype(x.dtype)


Y = Headed().logits(X).argmax(axis=1)

NO_LOGITS = {
    "softmax": softmax,
    "softmax of float64": lambda z: softmax(z.astype(np.float64)),
    "softmax in float16": in_float16,
    "softmax in bfloat16": in_bfloat16,
    "softmax clipped": lambda z: np.clip(softmax(z), 1e-3, 0.999),
    "softmax clipped below": lambda z: np.maximum(softmax(z), 0.05),
    "softmax of a flat network": lambda z: softmax(1e-3 * z),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "sigmoid in float16": lambda z: (1 / (1 + np.exp(-z))).astype(np.float16),
    "votes for one class": lambda z: np.eye(5, dtype=np.float32)[z.argmax(axis=1)],
    "percentages": lambda z: softmax(z) * 100,
    "percentages from float16": lambda z: in_float16(z) * 100,
    "percentages in float16": lambda z: (in_float16(z) * np.float16(100)).astype(np.float16),
    "percentages from bfloat16": lambda z: in_bfloat16(z) * 100,
    "percentages in bfloat16": lambda z: to_bfloat16(in_bfloat16(z) * 100),
    "bytes": lambda z: np.round(softmax(z) * 255),
    "votes": lambda z: np.round(softmax(z) * 1000),
    "whole percentages": lambda z: np.round(softmax(z) * 100),
    "whole percentages, nearly": lambda z: (lambda p: p + (np.round(p) - p))(softmax(z) * 100),
    "whole percentages of a flat network": lambda z: np.round(softmax(0.3 * z) * 100),
    "ten votes": lambda z: np.round(softmax(z) * 10),
    "thirty votes": lambda z: np.round(softmax(z) * 30),
}
LOGITS = {
    "logits": lambda z: z,
    "that sum to zero": lambda z: z - z.mean(axis=1, keepdims=True),
    "behind a ReLU": lambda z: np.maximum(z, 0),
    "small": lambda z: 1e-6 * z,
    "large": lambda z: 1e6 * z,
    "in half precision": lambda z: z.astype(np.float16),
    "log-softmax": lambda z: np.log(softmax(z)),
    "all positive": lambda z: np.log1p(np.exp(z)),
    "far above zero": lambda z: z + np.abs(z) + 500,
    "all zero": lambda z: 0 * z,
    "all the same": lambda z: 0 * z + 7,
    "quantised behind a ReLU": lambda z: np.round(np.maximum(z, 0)),
    "quantised finely behind a ReLU": lambda z: np.round(16 * np.maximum(z, 0)),
    "quantised above the least": lambda z: np.round(z - z.min(axis=1, keepdims=True)),
    "quantised far above zero": lambda z: np.round(z + np.abs(z) + 500),
}


@pytest.mark.parametrize("head", NO_LOGITS)
def test_what_is_no_logit_is_refused_with_what_betrays_it(head):
    with pytest.raises(HarnessError, match=r"probabilities, not logits: .*(\[|sum to)") as error:
        harness.evaluate(Headed(NO_LOGITS[head]), X, Y, epsilons=[0.1])
    assert "outputs='probabilities'" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("spread", [3, 10])
@pytest.mark.parametrize("total", [100, 255])
def test_whole_probabilities_of_any_number_of_classes_are_no_logits(classes, spread, total):
    z = np.random.default_rng(classes).normal(size=(200, classes)) * spread
    assert "sum to" in no_logits(np.round(softmax(z) * total).astype(np.float32))


@pytest.mark.parametrize("classes", [2, 3, 10, 100, 1000])
@pytest.mark.parametrize("spread", [1, 3, 10])
def test_independent_logits_of_any_number_of_classes_are_logits(classes, spread):
    """Of a thousand classes the sums differ by a few per cent only."""
    z = np.random.default_rng(classes).normal(size=(200, classes)) * spread
    for logits in (np.maximum(z, 0), np.log1p(np.exp(z)), z - z.min(axis=1, keepdims=True)):
        assert no_logits(logits.astype(np.float32)) == ""
        assert no_logits(np.round(logits)) == ""


def test_a_thousand_softplus_logits_are_logits_and_shares_of_half_precision_are_none():
    """Sums that vary by a hundredth are far from constant in float32, but not in bfloat16."""
    drawn = np.random.default_rng(0).normal(size=(200, 1000))
    z = (0.3 * np.random.default_rng(1).normal(size=1000) + 0.15 * drawn).astype(np.float32)
    logits = np.log1p(np.exp(z))
    sums = logits.sum(axis=1)
    assert np.abs(sums - sums.mean()).max() < sums.mean() / 64
    assert no_logits(logits) == ""
    for half in (in_float16, in_bfloat16):
        assert "sum to" in no_logits(half(z) * 1000)
    assert "sum to" in no_logits(softmax(z) * 1000)
    assert "sum to" in no_logits(np.round(softmax(z) * 1e5) / 1e2)


@pytest.mark.parametrize("head", LOGITS)
def test_logits_of_any_kind_are_measured(head):
    clean, *_ = harness.evaluate(Headed(LOGITS[head]), X, Y, epsilons=[0.1]).records
    assert clean.total == 300


@pytest.mark.parametrize("head", [*NO_LOGITS, *LOGITS])
def test_the_suites_judge_by_the_same_rule(head):
    model = Headed((NO_LOGITS | LOGITS)[head])
    case = conformance.Evidence(model, X[:16], Y[:16], test_x=X, test_y=Y)
    evidence = Evidence(model, X, Y)
    if head in LOGITS:
        check_logits_not_probabilities(case)
        CHECKS["probabilities"](evidence)
        return
    with pytest.raises(CheckFailed, match="probabilities"):
        check_logits_not_probabilities(case)
    with pytest.raises(CheckFailed, match=r"^probabilities: "):
        CHECKS["probabilities"](evidence)


@pytest.mark.parametrize("count", [1, 2, 4, 7, 8, 64])
@pytest.mark.parametrize("head", ["softmax in float16", "sigmoid", "percentages from float16"])
def test_few_images_are_enough(head, count):
    with pytest.raises(HarnessError, match="probabilities, not logits"):
        harness.evaluate(Headed(NO_LOGITS[head]), X[:count], Y[:count], epsilons=[0.1])


def test_sums_that_are_alike_on_a_few_images_by_chance_are_no_sign():
    """Ten times two pixels that sum to one: on any other image they do not."""

    class Tenfold(Headed):
        def logits(self, x):
            return 10 * x

        def logits_and_gradient(self, x, y, objective):
            flow = objective.logit_gradient(np, 10 * x, np.arange(2) == y[:, None])
            return 10 * x, 10 * flow

    x = np.array([[0.6, 0.4], [0.9, 0.1], [0.2, 0.8], [0.45, 0.55]], np.float32)
    clean, *_ = harness.evaluate(Tenfold(), x, [0, 0, 1, 0], epsilons=[0.1]).records
    assert clean.correct == 3


def test_small_logits_of_a_few_images_are_healthy():
    """All lie in [0, 1], as those of an untrained network may, but nothing holds them there."""
    model = Headed(lambda z: 0.01 * z + 0.5)
    assert no_logits(model.logits(X[:9]))
    assert harness.evaluate(model, X[:9], Y[:9], epsilons=[0.1]).records[0].correct == 9
    with pytest.raises(HarnessError, match="probabilities, not logits"):
        harness.evaluate(model, X, Y, epsilons=[0.1])


def test_more_than_the_first_images_are_looked_at():
    """Logits behind a ReLU are all in [0, 1] on dark images; the bright ones come last."""
    x = X.copy()
    x[:200] /= 100
    model = Headed(LOGITS["behind a ReLU"])
    assert no_logits(model.logits(x[:200]))
    y = model.logits(x).argmax(axis=1)
    assert harness.evaluate(model, x, y, epsilons=[0.1]).records[0].correct == 300


def test_a_network_whose_outputs_are_clearly_logits_is_asked_little():
    asked = []

    class Counting(Headed):
        def logits(self, x):
            asked.append(len(x))
            return super().logits(x)

    case = conformance.Evidence(Counting(), X[:16], Y[:16], test_x=X, test_y=Y)
    check_logits_not_probabilities(case)
    assert sum(asked) <= 64


# Declarations


@pytest.mark.parametrize("head", NO_LOGITS)
def test_who_declares_logits_is_believed_and_that_is_recorded(head):
    model = Headed(NO_LOGITS[head])
    run = harness.evaluate(model, X, Y, epsilons=[0.0], outputs="logits")
    assert run.records[0].status == "measured"
    assert run.spec["outputs"] == "logits"
    assert {record.backend for record in run.records} == {"Headed"}
    evidence = Evidence(declared(model, "logits"), X, Y)
    with pytest.raises(NotApplicable, match="declared to be logits"):
        CHECKS["probabilities"](evidence)
    with pytest.raises(NotApplicable, match="declared to be logits"):
        check_logits_not_probabilities(conformance.Evidence(evidence.model, X, Y))


def test_without_a_declaration_the_record_says_so():
    assert harness.evaluate(Headed(), X, Y, epsilons=[0.0]).spec["outputs"] == "auto"


def test_probabilities_are_attacked_without_gradients_as_their_logits_are():
    """log p differs from the logits by one number a row, which no attack can tell."""
    attacks = ["noise", "square", "strongest"]
    plain = harness.evaluate(Headed(), X, Y, attacks=["noise", "square"], epsilons=[0.05, 0.1])
    run = harness.evaluate(
        Headed(softmax), X, Y, attacks=attacks, epsilons=[0.05, 0.1], outputs="probabilities"
    )
    assert run.spec["outputs"] == "probabilities"
    found = {record.key: record.correct for record in run.records}
    for record in plain.records:
        assert found[record.key] == record.correct
    # The strongest's members that need no gradient: Square alone.
    for epsilon in (0.05, 0.1):
        square, strongest = (
            found["model", "Headed", name, epsilon] for name in ("square", "strongest")
        )
        assert 0 < strongest == square < 300


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "deepfool", "apgd"])
def test_attacks_with_gradients_say_why_they_do_not_run(attack):
    run = harness.evaluate(
        Headed(softmax), X, Y, attacks=attack, epsilons=[0.1], outputs="probabilities"
    )
    clean, attacked, *_ = run.records
    assert (clean.status, clean.correct) == ("measured", 300)
    assert (attacked.status, attacked.correct) == ("skipped", None)
    assert attacked.reason.startswith(
        f"{attack} needs gradient, which the model lacks (it gives probabilities); "
    )


@pytest.mark.parametrize("head", NO_LOGITS)
def test_logarithms_are_finite_and_keep_the_order(head):
    model = Headed(NO_LOGITS[head])
    seen = declared(model, "probabilities")
    logs, odds = seen.logits(seen.asarray(X)), model.logits(X).astype(np.float64)
    assert np.isfinite(logs).all()
    order = np.argsort(odds, axis=1, kind="stable")
    np.testing.assert_array_equal(np.argsort(logs, axis=1, kind="stable"), order)
    np.testing.assert_allclose(np.exp(logs), odds, atol=1e-12)


@pytest.mark.parametrize(
    "row",
    [
        [0.0, 1.0], [0.0, 1e-45], [1e-45, 1e-44],
        [0.3, np.nextafter(np.float32(0.3), np.float32(1))],
        [np.nextafter(np.float32(1), np.float32(0)), 1.0], [0.0, 1e-300], [1e-300, 2e-300],
    ],
)  # fmt: skip
def test_neither_zero_nor_the_nearest_numbers_are_confused(row):
    dtype = np.float64 if 0 < max(row) < 1e-50 else np.float32
    model = declared(Headed(lambda z: np.array([row] * len(z), dtype)), "probabilities")
    logs = model.logits(X[:1])[0]
    assert np.isfinite(logs).all()
    assert logs[0] < logs[1]


def test_what_is_declared_probable_must_not_be_negative():
    with pytest.raises(HarnessError, match="declared to be probabilities, but one is -"):
        harness.evaluate(Headed(), X, Y, epsilons=[0.1], outputs="probabilities")
    with pytest.raises(MeasurementError, match="no gradient"):
        declared(Headed(), "probabilities").logits_and_gradient(X, Y, None)


def test_a_declaration_takes_the_place_of_an_earlier_one():
    plain = Headed(softmax)
    once = declared(plain, "probabilities")
    assert isinstance(once, Probabilities)
    assert is_model(once)
    assert declared(once, "auto") is once
    assert declared(once, "probabilities") is once
    again = declared(once, "logits")
    assert (kind_of(again), undeclared(again)) == ("logits", plain)
    np.testing.assert_array_equal(again.logits(X), plain.logits(X))
    assert declared(plain, "auto") is plain


def test_a_model_may_carry_its_own_declaration():
    model = Headed(softmax)
    model.outputs = "probabilities"
    run = harness.evaluate(model, X, Y, attacks=["fgsm"], epsilons=[0.1])
    assert run.spec["outputs"] == "probabilities"
    assert [record.status for record in run.records][:2] == ["measured", "skipped"]
    model.outputs = ["whatever", "a framework", "calls so"]
    assert kind_of(model) == "auto"


@pytest.mark.parametrize("outputs", ["logit", "", None, ["logits"]])
def test_other_declarations_are_refused_by_name(outputs):
    with pytest.raises(HarnessError, match=r"^outputs: ") as error:
        harness.evaluate(Headed(), X, Y, outputs=outputs)
    for kind in KINDS:
        assert kind in str(error.value)
