"""Large batches are asked in several calls, and nobody sees a difference but in time."""

from __future__ import annotations

import numpy as np
import pytest

from harness.attacks import make_attack
from harness.attacks.sweep import sweep
from harness.maths import calls
from harness.maths.calls import CACHE, FEWEST, footprint_of, in_calls
from harness.maths.objectives import CrossEntropy
from harness.maths.query import predictions_of
from harness.protocol import GRADIENT

COUNT = 1000


class Wide:
    """A linear network that says that it takes up so many bytes an image, and notes its calls."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset({GRADIENT})

    def __init__(self, footprint):
        self.taken, self.asked = footprint, []
        self.weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)

    def asarray(self, values):
        return values

    def numpy(self, array):
        return np.asarray(array)

    def footprint(self, x):
        return self.taken

    def logits(self, x):
        self.asked.append(len(x))
        return x @ self.weight

    def logits_and_gradient(self, x, y, objective):
        logits = self.logits(x)
        true = np.eye(3, dtype=bool)[y] if y.ndim == 1 else y
        return logits, objective.logit_gradient(np, logits, true) @ self.weight.T


class Elsewhere(np.ndarray):
    """Images that NumPy cannot read where they lie."""

    def __dlpack_device__(self):
        return (2, 0)


X = np.random.default_rng(1).random((COUNT, 4), dtype=np.float32)
Y = np.arange(COUNT) % 3


def asked_of(model, x):
    """Both answers to a batch in calls, and those to all of it at once."""
    y = Y[: len(x)]
    found = in_calls(model, lambda part, true: model.logits_and_gradient(
        part, true, CrossEntropy()), x, y)  # fmt: skip
    sizes, model.asked = model.asked, []
    return found, model.logits_and_gradient(x, y, CrossEntropy()), sizes


@pytest.mark.parametrize(
    ("footprint", "count", "sizes"),
    [
        (CACHE // 250, 1000, [250] * 4),
        (CACHE // 300, 1000, [250] * 4),  # equal parts
        (CACHE // 250, 250, [250]),
        (CACHE // 250, 251, [126, 125]),
        (CACHE, 1000, [63] * 15 + [55]),  # no fewer than FEWEST, before they are made equal
        (CACHE, FEWEST, [FEWEST]),
        (0, 1000, [1000]),  # it does not know
        (8, 1000, [1000]),
    ],
)
def test_a_call_is_of_as_many_images_as_stay_in_the_cache(footprint, count, sizes):
    found, expected, asked = asked_of(Wide(footprint), X[:count])
    assert asked == sizes
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


def test_on_a_device_and_of_a_model_that_tells_no_footprint_all_are_asked_at_once():
    model = Wide(CACHE)
    in_calls(model, lambda part: (model.logits(part),), X.view(Elsewhere))
    assert model.asked == [COUNT]

    class Untold(Wide):
        @property
        def footprint(self):
            raise AttributeError

    class Failing(Wide):
        def footprint(self, x):
            raise RuntimeError("no")

    for model in (Untold(0), Failing(0)):
        assert footprint_of(model, X) == 0
        assert asked_of(model, X)[2] == [COUNT]


@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "deepfool"])
def test_attacks_count_the_same_in_calls_and_at_once(name, monkeypatch):
    found = []
    for room in (CACHE, 1 << 60):
        monkeypatch.setattr(calls, "CACHE", room)
        model = Wide(CACHE // 250)
        outcome = sweep(model, make_attack(name), X, Y, [0.0, 0.05, 0.2])
        found.append((outcome, max(model.asked)))
    (ours, most), (theirs, all_of_them) = found
    assert most == 250
    assert all_of_them == COUNT
    for one, other in zip(ours, theirs, strict=True):
        assert (one.predictions.labels == other.predictions.labels).all()
        assert (one.forwards, one.backwards) == (other.forwards, other.backwards)


def test_predictions_are_made_in_calls():
    model = Wide(CACHE // 250)
    labels = predictions_of(model, X).labels
    assert max(model.asked) == 250
    assert (labels == (X @ model.weight).argmax(axis=1)).all()
