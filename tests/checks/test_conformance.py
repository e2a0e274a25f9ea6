"""The conformance checks: every backend passes them, and each catches its defects."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand

from backends.numpy_backend import NumpyBackend, NumpyModel
from backends.numpy_layers import Pass
from harness.checks import conformance
from harness.checks.conformance import CHECKS
from harness.errors import CheckFailed, NotApplicable
from harness.networks.initial import initial_weights
from harness.protocol import GRADIENT, Network, fully_connected

NET = fully_connected((4, 4), (8, 6), 3, dropout=0.5)


@cache
def network():
    random = np.random.default_rng(3)
    weights = initial_weights(NET, seed=1)
    return {name: value + random.normal(0, 0.1, value.shape).astype(np.float32)
            for name, value in weights.items()}  # fmt: skip


def evidence_of(backend):
    random = np.random.default_rng(5)
    x = random.random((300, 4, 4), dtype=np.float32)
    y = random.integers(3, size=300)
    y[:3] = 0, 1, 2
    model, exact = (backend.build(Network(NET, network()), dtype=d) for d in ("float32", "float64"))
    oracle = NumpyBackend().build(Network(NET, network()), dtype="float64")
    return conformance.Evidence(model, x[:16], y[:16], exact, oracle, test_x=x, test_y=y)


@pytest.mark.parametrize("rule", CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_every_backend_passes_every_check(name, rule):
    CHECKS[rule](evidence_of(at_hand(name)))


@pytest.mark.parametrize("rule", CHECKS)
@pytest.mark.parametrize("name", NAMES)
def test_a_network_in_float64_is_as_good(name, rule):
    evidence = evidence_of(at_hand(name))
    CHECKS[rule](replace(evidence, model=evidence.exact))


def test_outputs_have_the_precision_of_the_network():
    class SingleLogits(Both):
        def bend(self, logits, x):
            return logits.astype(np.float32)

    model = SingleLogits(NET, network(), (0.0, 1.0), "float64")
    with pytest.raises(CheckFailed, match=r"^logits have dtype float32, not float64$"):
        CHECKS["dtypes"](replace(evidence_of(NumpyBackend()), model=model))


# Defects: each is NumPy's network with one thing wrong.


class Both(NumpyModel):
    """What is wrong with the logits is wrong with those beside the gradient too."""

    def bend(self, logits, x):
        return logits

    def logits(self, x):
        return self.bend(super().logits(x), x)

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return self.bend(logits, x), gradient


class Transposed(Both):
    def bend(self, logits, x):
        return logits.T


class TwoClasses(Both):
    def bend(self, logits, x):
        return logits[:, :2]


class FlatGradient(NumpyModel):
    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, gradient.reshape(len(x), -1)


class DoubleLogits(Both):
    def bend(self, logits, x):
        return logits.astype(np.float64)


class DoubleGradient(NumpyModel):
    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, gradient.astype(np.float64)


class ShortLabels(NumpyModel):
    def asarray(self, values):
        return values.astype(np.int32) if values.dtype.kind == "i" else super().asarray(values)


class BatchStatistics(Both):
    """Like batch norm in training mode."""

    def bend(self, logits, x):
        return logits - logits.mean(axis=0)


class AveragedGradient(NumpyModel):
    """The loss is averaged over the batch instead of summed."""

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, gradient / np.float32(len(x))


class Dropping(NumpyModel):
    """Dropout stays on."""

    random = np.random.default_rng(0)

    def through(self, x):
        return Pass(self.named, self.random).network(NET, x)


class NotANumber(Both):
    def bend(self, logits, x):
        return logits * np.float32("nan")


class Softmax(Both):
    def bend(self, logits, x):
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)


class WrongSign(NumpyModel):
    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, -gradient


class PredictedLabel(NumpyModel):
    """The gradient is that of the predicted class."""

    def logits_and_gradient(self, x, y, objective):
        return super().logits_and_gradient(x, self.logits(x).argmax(axis=1), objective)


class NoReluMask(NumpyModel):
    """The gradient flows through units that are off."""

    def logits_and_gradient(self, x, y, objective):
        logits = self.logits(x)
        flow = objective.logit_gradient(np, logits, np.arange(logits.shape[1]) == y[:, None])
        for matrix in reversed([value for value in self.named.values() if value.ndim == 2]):
            flow = flow @ matrix
        return logits, flow.reshape(x.shape)


class NaNGradient(NumpyModel):
    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, gradient * np.nan


class CentresInPlace(NumpyModel):
    """Shares memory with the caller, and writes to it."""

    def logits(self, x):
        x -= x.mean()
        return super().logits(x)


class ClearsItsCopy(NumpyModel):
    """Has a copy of the caller's images, and writes to that."""

    def asarray(self, values):
        return super().asarray(values).copy()

    def logits_and_gradient(self, x, y, objective):
        answer = super().logits_and_gradient(x, y, objective)
        x[...] = 0
        return answer


class NegatesTheCallers(NumpyModel):
    """Works on a copy, after it has changed the original."""

    def asarray(self, values):
        copy = super().asarray(values).copy()
        np.negative(values, out=values)
        return copy


class ReadsColumns(NumpyModel):
    """Flattens images column by column: the same as transposed weights."""

    def through(self, x):
        return super().through(np.swapaxes(x, 1, 2))


class OtherLogitsBesideTheGradient(NumpyModel):
    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return 2 * logits, gradient


DEFECTS = [
    ("shapes", Transposed, "logits have shape (3, 16) for 16 images"),
    ("shapes", TwoClasses, "label 2 has no logit among 2"),
    ("shapes", FlatGradient, "the gradient has shape (16, 16), not (16, 4, 4)"),
    ("shapes", OtherLogitsBesideTheGradient, "beside the gradient"),
    ("dtypes", DoubleLogits, "logits have dtype float64"),
    ("dtypes", DoubleGradient, "gradients have dtype float64"),
    ("dtypes", ShortLabels, "labels became int32"),
    ("batch-split", BatchStatistics, "logits depend on how the images are batched"),
    ("batch-split", AveragedGradient, "gradients depend on how the images are batched"),
    ("inference-mode", Dropping, "training mode"),
    ("inference-mode", NotANumber, "nan"),
    ("logits", Softmax, "probabilities"),
    ("gradient", WrongSign, "cross-entropy is off finite differences"),
    ("gradient", PredictedLabel, "off finite differences"),
    ("gradient", NoReluMask, "off finite differences"),
    ("gradient", NaNGradient, "off finite differences"),
    ("input-unchanged", CentresInPlace, "images were changed"),
    ("input-unchanged", ClearsItsCopy, "images were changed"),
    ("input-unchanged", NegatesTheCallers, "images were changed"),
    ("oracle", ReadsColumns, "logits of cross-entropy differ from NumPy's"),
    ("oracle", WrongSign, "gradients of cross-entropy differ from NumPy's"),
    ("oracle", NaNGradient, "gradients of cross-entropy differ from NumPy's"),
    ("parity", ReadsColumns, "same weights in NumPy"),
    ("parity", WrongSign, "at epsilon 0.05"),
]


@pytest.mark.parametrize(
    ("rule", "defect", "words"), DEFECTS, ids=[f"{rule}-{d.__name__}" for rule, d, _ in DEFECTS]
)
def test_a_defect_is_caught_and_named(rule, defect, words):
    healthy = evidence_of(NumpyBackend())
    model, exact = (defect(NET, network(), (0.0, 1.0), d) for d in ("float32", "float64"))
    with pytest.raises(CheckFailed) as caught:
        CHECKS[rule](replace(healthy, model=model, exact=exact))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_check_has_a_defect_that_it_catches():
    assert {rule for rule, _, _ in DEFECTS} == set(CHECKS)


class TiesByTheBatch(NumpyModel):
    """Rounding, which differs with the size of a batch, decides who gets a tie's gradient."""

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, np.where(x == 0, gradient * (1 + len(x) % 2), gradient)


def test_what_ties_on_a_flat_background_is_no_dependence_on_the_batch():
    evidence = evidence_of(NumpyBackend())
    model = TiesByTheBatch(NET, network(), (0.0, 1.0), "float32")
    CHECKS["batch-split"](
        replace(evidence, model=model, x=np.where(evidence.x < 0.5, 0, evidence.x))
    )


# Parity


class Threshold:
    """Sees class 1 where a one-pixel image is brighter than a threshold; its gradient is 1."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset({GRADIENT})

    def __init__(self, threshold):
        self.threshold = threshold

    def asarray(self, values):
        return values

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        return np.concatenate([np.zeros_like(x), x - self.threshold], axis=1)

    def logits_and_gradient(self, x, y, objective):
        return self.logits(x), np.ones_like(x)


@pytest.mark.parametrize(
    ("images", "allowed"),
    [(100, 1), (3500, 1), (3501, 2), (7000, 2), (7001, 3)],  # ⌈images × 2 / 7000⌉
)
def test_parity_allows_two_images_in_7000_and_no_more(images, allowed):
    def evidence(differ):
        x = np.ones((images, 1), np.float32)
        x[:differ] = 0.5
        y = np.ones(images, np.int64)
        few = {"x": x[-3:], "y": y[-3:]}
        return conformance.Evidence(
            Threshold(0.6), **few, oracle=Threshold(0.4), test_x=x, test_y=y
        )

    CHECKS["parity"](evidence(allowed))
    with pytest.raises(CheckFailed, match=f"{images - allowed - 1} of {images} images"):
        CHECKS["parity"](evidence(allowed + 1))


# What cannot be checked


def test_without_a_network_to_compare_with_three_checks_do_not_apply():
    alone = replace(evidence_of(NumpyBackend()), exact=None, oracle=None)
    reasons = {}
    for rule, check in CHECKS.items():
        try:
            check(alone)
        except NotApplicable as error:
            reasons[rule] = str(error)
    assert set(reasons) == {"gradient", "oracle", "parity"}
    assert "float64" in reasons["gradient"]
    assert "NumPy" in reasons["oracle"]
    assert not any("\n" in reason for reason in reasons.values())


def test_without_many_images_parity_is_counted_on_the_few():
    few = replace(evidence_of(NumpyBackend()), test_x=None, test_y=None)
    CHECKS["parity"](few)
    broken = WrongSign(NET, network(), (0.0, 1.0), "float32")
    with pytest.raises(CheckFailed, match="of 16 images"):
        CHECKS["parity"](replace(few, model=broken))
