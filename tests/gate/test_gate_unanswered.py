"""Images that a black box did not answer: left out of what the gate compares."""

from __future__ import annotations

import numpy as np
import pytest
from gate_runs import MODEL, changed, right, row_of, run_of

from harness.errors import RunError
from harness.gate import Baseline, compare
from harness.results.records import counted

SIZE = 1000


def run_without(outcomes, *missing, signature=MODEL):
    """A run in which some images, by their positions, were not answered."""
    run = run_of({"fgsm@0.1": outcomes}, signature=signature)
    key = "torch/mlp/fgsm@0.1/predictions"
    run.arrays[key][list(missing)] = -1
    answered = run.arrays[key] != -1
    correct, total = int((run.arrays[key] == 0).sum()), int(answered.sum())
    record = counted("mlp", "torch", "fgsm", correct, total, 0.1)
    run.put(record.judged("passed", f"{len(missing)} of {SIZE} images were not answered: busy"))
    return run


def row_between(before, after):
    return row_of(compare(after, Baseline.of(before)), "torch mlp fgsm eps=0.1")


def test_a_baseline_keeps_which_images_were_not_answered(tmp_path):
    baseline = Baseline.of(run_without(right(600), 3, 700))
    (entry,) = baseline.runs[0].records
    assert (entry.correct, entry.total, entry.unanswered) == (599, 998, [3, 700])
    assert len(entry.counted.right) == SIZE
    baseline.save(tmp_path / "baseline.json")
    assert Baseline.load(tmp_path / "baseline.json") == baseline
    assert Baseline.of(run_without(right(600))).runs[0].records[0].unanswered is None
    assert "unanswered" not in Baseline.of(run_without(right(600))).model_dump_json(
        exclude_none=True
    )


@pytest.mark.parametrize("unanswered", [[700, 3], [3, 3], [3, 1001], [-1, 3], []])
def test_a_list_that_cannot_be_is_refused(unanswered):
    document = Baseline.of(run_without(right(600), 3, 700)).model_dump(by_alias=True)
    document["runs"][0]["records"][0]["unanswered"] = unanswered
    with pytest.raises(ValueError, match=r"unanswered|outcomes are not those"):
        Baseline.model_validate(document)


def test_one_that_was_not_answered_cannot_be_correct():
    document = Baseline.of(run_without(right(600), 700)).model_dump(by_alias=True)
    document["runs"][0]["records"][0]["unanswered"] = [3]
    with pytest.raises(ValueError, match="not answered is correct"):
        Baseline.model_validate(document)


def test_images_that_one_run_did_not_answer_are_neither_lost_nor_gained():
    row = row_between(run_without(right(600), 1, 2), run_without(right(600), 3, 999))
    assert row.verdict == "unchanged"
    assert row.p_value == 1.0
    # Left out: 1, 2, 3 of the correct ones, and 999.
    assert row.old == row.new == pytest.approx(597 / 996)
    assert row.detail == "4 images that were not answered in each run are left out"


def test_images_that_are_lost_are_named_by_their_place_in_the_data():
    before = run_without(right(600), 0)
    row = row_between(before, run_without(changed(right(600), lost=40), 0))
    assert row.verdict == "regressed"
    # Image 0 is left out, so that 39 of the lost ones count: 1 to 39.
    assert "39 images lost and 0 gained of 999" in row.detail
    assert "images 1, 2, 3, 4" in row.detail


def test_if_no_image_was_answered_in_both_nothing_can_be_compared():
    first, second = range(500), range(500, 1000)
    row = row_between(run_without(right(600), *first), run_without(right(600), *second))
    assert row.verdict == "incomparable"
    assert row.detail == "no image was answered in each run"


def test_a_record_that_counts_what_was_not_answered_is_refused():
    run = run_without(right(600), 3)
    run.put(counted("mlp", "torch", "fgsm", 599, 1000, 0.1).judged("passed"))
    with pytest.raises(RunError, match="599 of 999 predictions are correct, but 599 of 1000"):
        Baseline.of(run)


def test_a_signature_without_some_images_is_still_of_its_model():
    before, after = run_without(right(600), 3), run_without(right(600), 4)
    for run, place in ((before, 3), (after, 4)):
        run.arrays["torch/mlp/signature"][place] = np.nan
    found = compare(after, Baseline.of(before))
    assert found.notes[0] == "torch mlp: the baseline's model, image by image"
    after.arrays["torch/mlp/signature"][10] += 1
    assert "may" not in compare(after, Baseline.of(before)).notes[0]
    assert "a retrained model" in compare(after, Baseline.of(before)).notes[0]


def test_the_spread_of_retrained_models_leaves_them_out_too():
    olds = [run_without(right(600 + 3 * n), 700, 10 + n, signature=2.0 + n) for n in range(3)]
    row = row_of(
        compare(run_without(right(603), 20, signature=9.0), Baseline.of(*olds)),
        "torch mlp fgsm eps=0.1",
    )
    assert row.verdict == "unchanged"
    # 700, 10, 11, 12 and 20 are left out.
    assert row.new == pytest.approx((603 - 4) / 995)
