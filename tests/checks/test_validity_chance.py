"""Is a model at chance? Few images cannot tell, and many do."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from scipy.stats import binom
from zoo.broken_models import Transposed
from zoo.networks import images

import harness
from harness.checks.validity import CHECKS, Evidence
from harness.errors import CheckFailed, NotApplicable
from harness.maths.statistics import ALPHA, falls_short
from harness.protocol import Network, Wrapping, fully_connected

RULE = "no-better-than-chance"


def predictions(right, count, classes):
    """Labels, and predictions of which the first so many are right, and errors are of all kinds."""
    y = np.arange(count) % classes
    moved = 1 + np.arange(count) % (classes - 1)
    return np.where(np.arange(count) < right, y, (y + moved) % classes), y


def reads(labels, y, classes):
    """The record of a model that reads its labels off the images, which show them."""
    random = np.random.default_rng(0)
    x = 0.8 * np.eye(classes)[labels] + 0.1 * random.random((len(y), classes))
    weights = {"layers.0.weight": 5 * np.eye(classes), "layers.0.bias": np.zeros(classes)}
    weights = {name: values.astype(np.float32) for name, values in weights.items()}
    net = fully_connected((classes,), (), classes)
    model = at_hand("numpy").build(Network(net, weights), Wrapping((0.0, 1.0)))
    run = harness.evaluate(model, x.astype(np.float32), y, "fgsm", 0.01)
    return next(r for r in run.records if r.check == f"validity/{RULE}")


@pytest.mark.parametrize("count", [10, 20, 50, 100, 300])
@pytest.mark.parametrize("classes", [2, 3, 5, 10, 30, 100])
def test_a_useful_model_is_hardly_ever_taken_for_a_guess(classes, count):
    """Exactly: the chance of all counts of correct predictions for which the check would fail."""
    fires = [falls_short(*predictions(right, count, classes)) for right in range(count + 1)]
    for accuracy in (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        if accuracy >= 1 / classes + 0.1:
            chances = binom.pmf(np.arange(count + 1), count, accuracy)
            assert chances[fires].sum() < ALPHA


@pytest.mark.parametrize(
    ("classes", "right", "count"), [(10, 5, 10), (10, 2, 10), (2, 30, 50), (100, 3, 10)]
)
def test_few_images_are_no_evidence_of_a_guess(classes, right, count):
    record = reads(*predictions(right, count, classes), classes)
    assert record.status in ("passed", "skipped")
    if record.status == "skipped":
        assert record.reason == f"{count} images are too few to tell it from chance"


@pytest.mark.parametrize(("classes", "count"), [(10, 100), (10, 300), (100, 50)])
def test_a_guess_is_found(classes, count):
    random = np.random.default_rng(0)
    y = np.arange(count) % classes
    caught = [falls_short(random.integers(0, classes, count), y) for _ in range(200)]
    assert np.mean(caught) > 0.9
    record = reads(random.integers(0, classes, count), y, classes)
    assert record.status == "failed"
    assert "as by guessing" in record.reason


@pytest.mark.parametrize(("classes", "count"), [(2, 20), (10, 30)])
def test_what_is_worse_than_chance_is_found_on_few_images(classes, count):
    assert reads(*predictions(0, count, classes), classes).status == "failed"


def test_a_view_that_mends_is_found_where_the_images_are_too_few_to_tell():
    x, y = images()
    model = Transposed()
    right = model.logits(x).argmax(axis=1) == y
    # As many that are right as wrong: not told from chance, but by the view.
    rows = np.concatenate([np.flatnonzero(right)[:5], np.flatnonzero(~right)[:20]])
    evidence = Evidence(model, x[rows], y[rows])
    with pytest.raises(NotApplicable, match="too few to tell"):
        _ = evidence.better_than_chance
    with pytest.raises(CheckFailed, match="rows and columns exchanged"):
        CHECKS[RULE](evidence)


@pytest.mark.parametrize(("others", "found"), [(9, False), (10, True)])
def test_one_answer_for_everything_is_found_from_ten_images_of_other_classes(others, found):
    y = np.repeat([0, 1], [90, others])
    assert falls_short(np.zeros(len(y), dtype=np.int64), y) is found
