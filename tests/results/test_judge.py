"""Judging: each rule on both sides of its boundary, with the reason that people read."""

import numpy as np
import pytest

from harness.results.judge import judge
from harness.results.records import Record, counted
from harness.results.run import Run
from harness.spec.expect import ExpectSpec

EXPECT = ExpectSpec(
    clean=(0.9, 0.98),
    attacks={"fgsm": {0.0: (0.9, 1.0), 0.1: (0.2, 0.6)}},
    saliency_margin=0.1,
)


def record(check, correct, total=100, epsilon=None, backend="numpy", model="mlp"):
    return counted(model, backend, check, correct, total, epsilon)


def run_of(*records, arrays=None):
    run = Run(spec={}, spec_sha256="", data_sha256="", created="now", records=list(records))
    run.arrays.update(arrays or {})
    return run


def verdict(measured, *others, arrays=None, expect=EXPECT):
    judged = judge(measured, expect, run_of(*others, measured, arrays=arrays))
    assert "\n" not in judged.reason
    return judged


# Ranges of the spec


@pytest.mark.parametrize(
    ("correct", "status", "reason"),
    [
        (90, "passed", ""),  # both ends are included
        (98, "passed", ""),
        (94, "passed", ""),
        (89, "failed", "accuracy 0.8900 is below 0.9000"),
        (99, "failed", "accuracy 0.9900 is above 0.9800"),
    ],
)
def test_clean_accuracy_has_to_be_within_its_range(correct, status, reason):
    judged = verdict(record("clean", correct))
    assert (judged.status, judged.reason, judged.threshold) == (status, reason, (0.9, 0.98))


@pytest.mark.parametrize(
    ("correct", "status", "reason"),
    [
        (20, "passed", ""),
        (60, "passed", ""),
        (19, "failed", "accuracy 0.1900 is below 0.2000"),
        (61, "failed", "accuracy 0.6100 is above 0.6000: the model looks too robust; is the "
                       "attack broken?"),
    ],
)  # fmt: skip
def test_accuracy_under_an_attack_has_to_be_within_the_range_of_its_epsilon(
    correct, status, reason
):
    judged = verdict(record("fgsm", correct, epsilon=0.1))
    assert (judged.status, judged.reason, judged.threshold) == (status, reason, (0.2, 0.6))


def test_the_measurement_itself_is_not_changed():
    measured = record("clean", 10)
    ours = {"status", "reason", "threshold"}
    assert verdict(measured).model_dump(exclude=ours) == measured.model_dump(exclude=ours)
    assert measured.status == "measured"


@pytest.mark.parametrize(
    "measured",
    [
        record("fgsm", 0, epsilon=0.2),
        record("pgd", 0, epsilon=0.1),
        record("saliency/random", 0),
        record("something/else", 0),
    ],
    ids=lambda r: r.label,
)
def test_without_a_threshold_a_record_stays_measured(measured):
    others = [record("saliency/random", 50)] if measured.check == "something/else" else []
    assert verdict(measured, *others) == measured


@pytest.mark.parametrize("status", ["passed", "failed", "skipped", "error"])
def test_what_is_judged_or_could_not_be_measured_keeps_its_status(status):
    broken = Record(
        model="mlp", backend="numpy", check="clean", status=status, reason="out of memory"
    )
    assert verdict(broken) == broken
    assert verdict(record("clean", 1).judged(status)).status == status


def test_a_record_that_counts_no_images_stays_as_it_is():
    empty = Record(model="mlp", backend="numpy", check="clean")
    assert verdict(empty) == empty


# Epsilon zero

ZERO = record("fgsm", 95, epsilon=0.0)
LABELS = np.array([0, 1, 2, 1], np.int16)


def predictions(attacked, clean=LABELS, prefix="numpy/mlp"):
    return {f"{prefix}/clean/predictions": clean, f"{prefix}/fgsm@0/predictions": attacked}


def test_at_epsilon_zero_the_same_predictions_are_judged_by_the_range():
    assert verdict(ZERO, arrays=predictions(LABELS)).status == "passed"
    low = verdict(record("fgsm", 80, epsilon=0.0), arrays=predictions(LABELS))
    assert (low.status, low.reason) == ("failed", "accuracy 0.8000 is below 0.9000")


@pytest.mark.parametrize(("moved", "count"), [([0, 1, 2, 2], 1), ([1, 2, 1, 1], 3)])
def test_predictions_that_move_at_epsilon_zero_fail_whatever_the_accuracy(moved, count):
    judged = verdict(ZERO, arrays=predictions(np.array(moved, np.int16)))
    assert judged.status == "failed"
    assert judged.reason.startswith(f"{count} predictions at epsilon 0 differ from the clean ones")


def test_predictions_that_move_at_epsilon_zero_fail_without_a_threshold_too():
    bare = ExpectSpec(clean=(0, 1))
    assert verdict(ZERO, arrays=predictions(LABELS[::-1]), expect=bare).status == "failed"
    assert verdict(ZERO, arrays=predictions(LABELS), expect=bare).status == "measured"


def test_predictions_may_move_at_other_epsilons_and_those_of_other_models_do_not_count():
    moved = predictions(LABELS[::-1])
    assert verdict(record("fgsm", 50, epsilon=0.1), arrays=moved).status == "passed"
    for prefix in ("torch/mlp", "numpy/cnn"):
        others = predictions(LABELS[::-1], prefix=prefix)
        assert verdict(ZERO, arrays=others).status == "passed"


# Saliency, beside random pixels


@pytest.mark.parametrize(
    ("top", "status"), [(0, "passed"), (39, "passed"), (40, "passed"), (41, "failed")]
)
def test_the_most_salient_pixels_must_cost_the_margin_more_than_random_ones(top, status):
    judged = verdict(record("saliency/top", top), record("saliency/random", 250, 500))
    assert judged.status == status
    low, high = judged.threshold
    assert low is None
    assert high == pytest.approx(0.4)
    if status == "failed":
        assert judged.reason == (
            "accuracy 0.4100 is above 0.4000: occluding the most salient pixels costs too little "
            "more accuracy than occluding random ones"
        )


@pytest.mark.parametrize("tenths", range(1, 11))
def test_exactly_the_margin_is_enough_whatever_floats_make_of_it(tenths):
    # 0.3 - 0.1 is less than 0.2, and 0.4 - 0.1 is more than 0.3.
    top, random = record("saliency/top", tenths - 1, 10), record("saliency/random", tenths, 10)
    assert verdict(top, random).status == "passed"


@pytest.mark.parametrize(
    ("least", "status"), [(100, "passed"), (51, "passed"), (50, "passed"), (49, "failed")]
)
def test_the_least_salient_pixels_must_cost_no_more_than_random_ones(least, status):
    judged = verdict(record("saliency/least", least), record("saliency/random", 250, 500))
    assert (judged.status, judged.threshold) == (status, (0.5, None))
    if status == "failed":
        assert judged.reason.startswith("accuracy 0.4900 is below 0.5000, the accuracy with random")


@pytest.mark.parametrize("check", ["saliency/top", "saliency/least"])
def test_without_random_pixels_of_the_same_model_saliency_stays_measured(check):
    measured = record(check, 0)
    assert verdict(measured).status == "measured"
    for names in ({"backend": "torch"}, {"model": "cnn"}):
        assert verdict(measured, record("saliency/random", 90, **names)).status == "measured"
        other = record(check, 0, **names)
        assert verdict(other, record("saliency/random", 90)).status == "measured"
    broken = Record(model="mlp", backend="numpy", check="saliency/random", status="error")
    assert verdict(measured, broken).status == "measured"


# Images that were not answered


def test_images_that_were_not_answered_are_no_predictions_that_moved():
    clean, attacked = np.array([0, -1, 2, 1]), np.array([0, 1, -1, 2])
    arrays = {
        "numpy/mlp/clean/predictions": clean, "numpy/mlp/fgsm@0/predictions": attacked,
    }  # fmt: skip
    at_zero = record("fgsm", 95, epsilon=0.0)
    assert verdict(at_zero, arrays=arrays).reason.startswith("1 predictions at epsilon 0 differ")
    arrays["numpy/mlp/fgsm@0/predictions"] = np.array([0, 1, -1, 1])
    assert verdict(at_zero, arrays=arrays).status == "passed"


def test_a_judgement_keeps_how_many_images_were_not_answered():
    said = "2 of 102 images were not answered: busy"
    for correct, status, reason in (
        (94, "passed", said),
        (89, "failed", f"accuracy 0.8900 is below 0.9000; {said}"),
        (99, "failed", f"accuracy 0.9900 is above 0.9800; {said}"),
    ):
        judged = verdict(record("clean", correct).judged("measured", said))
        assert (judged.status, judged.reason) == (status, reason)
