"""The gate's verdicts: when a check regressed, improved, vanished, is new or cannot be compared."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gate_runs import SIZE, changed, measured, right, row_of, run_of, status_record

from harness.errors import HarnessError, RunError
from harness.gate import VERDICTS, Baseline, compare
from harness.results.records import Record, counted
from harness.spec.gate import GateSettings

HALF = right(SIZE // 2)
OTHER = 2.0
"""Signature of another model."""


def compared(old, new, *, signature=OTHER, **options):
    """A run of these checks beside a baseline of one run, of another model if not said."""
    return compare(run_of(new, signature=signature), Baseline.of(run_of(old)), **options)


def verdict_on(old, new, **options):
    """The verdict on one check, whose row alone decides whether the gate passes."""
    comparison = compared({"clean": old}, {"clean": new}, **options)
    (row,) = comparison.rows
    assert comparison.passed is not row.fails
    return row.verdict


def status_verdict(old, new):
    """The verdict on the one key of two lists of records, beside a healthy one on both sides."""
    comparison = compare(run_of({"clean": HALF}, *new), Baseline.of(run_of({"clean": HALF}, *old)))
    row = next(row for row in comparison.rows if row.key != ("mlp", "torch", "clean", None))
    assert comparison.passed is not row.fails
    return row.verdict


# Accuracies


@pytest.mark.parametrize(
    ("lost", "gained", "verdict"),
    [
        (0, 0, "unchanged"),
        (8, 0, "unchanged"),  # significant at p = 2/256 only
        (9, 0, "regressed"),  # 2/512 < 0.5 %
        (0, 9, "improved"),
        (60, 50, "unchanged"),  # a point, which chance explains
        (90, 40, "regressed"),
        (40, 90, "improved"),
    ],
)
def test_a_change_counts_if_chance_does_not_explain_it(lost, gained, verdict):
    assert verdict_on(HALF, changed(HALF, lost, gained)) == verdict


@pytest.mark.parametrize(
    ("lost", "tolerance", "verdict"),
    [
        (20, 0.02, "unchanged"),  # exactly the tolerance
        (21, 0.02, "regressed"),
        (9, 0.0, "regressed"),
        (500, 1.0, "unchanged"),
        (30, 0.03, "unchanged"),  # as floats, 0.5 - 0.47 > 0.03
    ],
)
def test_a_significant_drop_must_be_larger_than_the_tolerance(lost, tolerance, verdict):
    assert verdict_on(HALF, changed(HALF, lost), tolerance=tolerance) == verdict


def test_more_checks_ask_for_more_evidence():
    """Holm's correction: 2/512 is significant alone, but not among two checks."""
    alone = {"clean": changed(HALF, 9)}
    among = alone | {"fgsm@0.1": HALF}
    both = {"clean": HALF, "fgsm@0.1": HALF}
    assert not compared({"clean": HALF}, alone).passed
    comparison = compared(both, among)
    assert comparison.passed
    assert row_of(comparison, "torch mlp clean").p_value == pytest.approx(4 / 512)


def test_the_spec_sets_tolerances_for_single_checks():
    old = {"clean": HALF, "fgsm@0.1": HALF, "fgsm@0.2": HALF}
    new = {name: changed(outcomes, 30) for name, outcomes in old.items()}
    settings = GateSettings(tolerances={"fgsm": 0.05, "fgsm@0.2": 0.02})
    run = run_of(new, signature=OTHER, gate=settings)
    comparison = compare(run, Baseline.of(run_of(old)))
    assert [row.label for row in comparison.rows if row.fails] == [
        "torch mlp clean", "torch mlp fgsm eps=0.2",
    ]  # fmt: skip


def test_a_row_tells_both_sides_and_the_evidence():
    comparison = compared({"fgsm@0.1": HALF}, {"fgsm@0.1": changed(HALF, 60, 10)})
    (row,) = comparison.rows
    assert row.label == "torch mlp fgsm eps=0.1"
    assert (row.old, row.new, row.difference) == (0.5, 0.45, pytest.approx(-0.05))
    low, high = row.interval
    assert low < -0.05 < high < 0
    assert row.p_value < 1e-6
    assert row.detail == "60 images lost and 10 gained of 1000"
    assert row.visible == pytest.approx(0.019)  # 29 of 39 lost: p = 0.0034; 28 of 38 have 0.0051
    assert comparison.message.startswith("failed: 1 regressed; the smallest drop that fails is ")


def test_the_message_counts_every_verdict():
    old = {"fgsm@0.1": HALF, "fgsm@0.2": HALF, "fgsm@0.3": HALF}
    new = {"fgsm@0.1": HALF, "fgsm@0.2": changed(HALF, 0, 60), "fgsm@0.4": HALF}
    message = compared(old, new).message
    assert message.startswith("failed: 1 vanished, 1 improved, 1 new, 1 unchanged; ")


@pytest.mark.parametrize("tolerance", [-0.001, 1.001, float("nan"), float("inf")])
def test_a_tolerance_outside_0_to_1_is_refused(tolerance):
    with pytest.raises(HarnessError, match="tolerance"):
        compared({"clean": HALF}, {"clean": HALF}, tolerance=tolerance)


# Improvements that cannot be


def test_a_model_that_is_the_same_cannot_have_improved():
    """What is found robust now was not before: so the attack became weaker."""
    old, new = {"clean": HALF, "pgd@0.1": right(100)}, {"clean": HALF, "pgd@0.1": right(130)}
    row = row_of(compared(old, new, signature=1.0), "torch mlp pgd eps=0.1")
    assert (row.verdict, row.fails, row.outcome) == ("improved", True, "improved implausibly")
    assert "the attack is weaker" in row.detail
    assert compared(old, new).passed  # a retrained model may be better by three points


def test_a_retrained_model_may_improve_by_some_points_and_not_by_any_number():
    old = {"clean": right(950), "pgd@0.1": right(100)}
    for gained, passed in ((100, True), (101, False), (800, False)):
        comparison = compared(old, {"clean": right(950), "pgd@0.1": right(100 + gained)})
        assert comparison.passed is passed
        assert ("improved implausibly" in comparison.message) is not passed
    assert "1 improved implausibly" in comparison.message
    assert row_of(comparison, "torch mlp pgd eps=0.1").implausible


def test_what_the_clean_accuracy_gained_too_is_plausible():
    old = {"clean": right(500), "pgd@0.01": right(450)}
    assert compared(old, {"clean": right(900), "pgd@0.01": right(850)}).passed
    assert not compared(old, {"clean": right(500), "pgd@0.01": right(850)}).passed


def test_the_spec_sets_how_much_is_plausible():
    old, new = {"pgd@0.1": right(100)}, {"pgd@0.1": right(400)}
    for improvement, passed in ((0.3, True), (0.29, False)):
        run = run_of(new, signature=OTHER, gate=GateSettings(improvement=improvement))
        assert compare(run, Baseline.of(run_of(old))).passed is passed


# How models are compared


def retrained(random, shift=0.0, images=2000):
    """A model like others: hard images are mostly wrong, and which exactly depends on the seed."""
    hard = np.linspace(-2, 2, images)
    seed = 0.02 * random.standard_normal()
    return hard + 0.3 * random.standard_normal(images) + seed + shift < 1.0


def baseline_of_seeds(count):
    random = np.random.default_rng(5)
    return Baseline.of(
        *(run_of({"clean": retrained(random)}, signature=10 + n) for n in range(count))
    )


def test_a_retrained_model_is_compared_with_the_spread_of_several_runs():
    random = np.random.default_rng(6)
    baseline = baseline_of_seeds(5)
    for _ in range(5):
        comparison = compare(run_of({"clean": retrained(random)}, signature=99), baseline)
        assert comparison.passed, comparison
        assert comparison.notes == (
            "torch mlp: a retrained model, compared with the spread of 5 runs",
        )
    worse = compare(run_of({"clean": retrained(random, shift=0.4)}, signature=99), baseline)
    (row,) = worse.rows
    assert row.verdict == "regressed"
    assert row.detail.startswith("5 runs predict 7")


def test_the_same_model_is_compared_image_by_image_whichever_run_it_is_of():
    baseline = baseline_of_seeds(5)
    third = baseline.runs[2].records[0].counted.right
    comparison = compare(run_of({"clean": third}, signature=12), baseline)
    assert comparison.notes == ("torch mlp: the baseline's model of run 3, image by image",)
    assert comparison.rows[0].p_value == 1.0
    worse = run_of({"clean": changed(third, 30)}, signature=12)
    assert compare(worse, baseline).message.startswith("failed: 1 regressed; ")


def test_rounding_of_another_machine_makes_no_other_model():
    run = run_of({"clean": HALF})
    run.arrays["torch/mlp/signature"] *= np.float32(1 + 1e-4)
    (note,) = compare(run, Baseline.of(run_of({"clean": HALF}))).notes
    assert "the baseline's model" in note


@pytest.mark.parametrize("model", [OTHER, None])
def test_a_single_run_of_a_retrained_model_cannot_tell_seeds_from_regressions(model):
    comparison = compared({"clean": HALF}, {"clean": HALF}, signature=model)
    (note,) = comparison.notes
    assert "cannot separate seed noise from regression" in note
    assert "harness baseline add RUN" in note
    assert ("may have been" in note) is (model is None)


def test_the_verdict_on_a_retrained_model_beside_one_run_says_what_it_is_worth():
    message = compared({"clean": HALF}, {"clean": HALF}).message
    assert message.startswith("passed: 1 unchanged; ")
    assert "against a single run a retrained model can fail by its seed alone" in message
    assert "`harness baseline add RUN --baseline" in message
    assert "seed" not in compared({"clean": HALF}, {"clean": HALF}, signature=1.0).message


def test_the_same_model_has_no_tolerance_and_its_changed_images_are_named():
    old, new = {"clean": HALF}, {"clean": changed(HALF, lost=9)}
    comparison = compared(old, new, signature=1.0, tolerance=0.5)
    (row,) = comparison.rows
    assert (row.verdict, row.fails) == ("regressed", True)
    assert row.detail.endswith("images 0, 1, 2, 3, 4, 5, 6, 7, 8 lost")
    # What chance explains passes, and is named all the same, up to ten of each.
    comparison = compared(old, {"clean": changed(HALF, lost=12, gained=13)}, signature=1.0)
    (row,) = comparison.rows
    assert row.verdict == "unchanged"
    assert "images 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more lost; images 500, " in row.detail
    assert row.detail.endswith("509 and 3 more gained")


@pytest.mark.parametrize("images", [1, 2, 8])
@pytest.mark.parametrize("model", [1.0, OTHER])
def test_a_test_set_on_which_nothing_could_fail_does_not_pass(images, model):
    """All right, then all wrong: with 8 images p is 2/256, and more than the level of 0.5 %."""
    all_right, none = {"clean": right(images, images)}, {"clean": right(0, images)}
    for new in (all_right, none):
        comparison = compared(all_right, new, signature=model)
        assert not comparison.passed
        assert "there are too few images" in comparison.message
    nine = compared({"clean": right(9, 9)}, {"clean": right(9, 9)}, signature=model)
    assert nine.passed
    assert nine.rows[0].visible == 1.0


def test_a_drop_that_a_row_names_fails_and_a_smaller_one_does_not():
    old = {"clean": HALF, "fgsm@0.1": HALF}
    (row, _) = compared(old, old).rows
    lost = round(row.visible * 1000)
    assert not compared(old, old | {"clean": changed(HALF, lost)}).passed
    assert compared(old, old | {"clean": changed(HALF, lost - 1)}).passed


# Statuses


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("passed", "passed", "unchanged"),
        ("passed", "failed", "regressed"),
        ("passed", "error", "regressed"),
        ("passed", "skipped", "vanished"),
        ("passed", "measured", "vanished"),
        ("measured", "measured", "unchanged"),
        # Of what counts no images, as a median epsilon, a baseline keeps the status alone.
        ("measured", "skipped", "vanished"),
        ("measured", "error", "regressed"),
        ("failed", "passed", "improved"),
        ("failed", "failed", "unchanged"),
        ("failed", "error", "regressed"),
        ("skipped", "skipped", "unchanged"),
        ("skipped", "passed", "new"),
        ("skipped", "failed", "regressed"),
        ("skipped", "error", "regressed"),
    ],
)
def test_checks_without_accuracy_are_compared_by_status(before, after, verdict):
    assert status_verdict([status_record(before)], [status_record(after)]) == verdict


def test_a_measured_accuracy_that_broke_regressed_and_that_is_skipped_vanished():
    old = counted("mlp", "torch", "fgsm", 380, 400, 0.1).judged("passed")
    fields = {"model": "mlp", "backend": "torch", "check": "fgsm", "epsilon": 0.1}
    assert status_verdict([old], [Record(**fields, status="error", reason="NaN")]) == "regressed"
    assert status_verdict([old], [Record(**fields, status="skipped")]) == "vanished"
    # Not even an accuracy left over from before it broke makes it a measurement.
    assert status_verdict([old], [old.judged("error", "NaN")]) == "regressed"
    assert status_verdict([old], [old.judged("skipped")]) == "vanished"
    nan = old.model_copy(update={"accuracy": float("nan")})
    assert status_verdict([old], [nan]) == "vanished"


@pytest.mark.parametrize("status", ["failed", "error"])
def test_being_new_does_not_excuse_a_broken_check(status):
    assert status_verdict([], [status_record(status, "NaN")]) == "regressed"
    assert status_verdict([], [status_record("passed")]) == "new"


@pytest.mark.parametrize("other", [{"model": "cnn"}, {"backend": "keras"}])
def test_each_part_of_the_key_counts(other):
    run, baseline = run_of({"clean": HALF}, **other), Baseline.of(run_of({"clean": HALF}))
    comparison = compare(run, baseline)
    assert sorted(row.verdict for row in comparison.rows) == ["new", "vanished"]
    assert not comparison.passed


def test_only_the_named_backends_are_compared():
    old = measured(run_of({"clean": HALF}), {"clean": HALF}, backend="keras")
    baseline = Baseline.of(old)
    run = run_of({"clean": HALF})
    assert compare(run, baseline).message.startswith("failed: 1 vanished, 1 unchanged; ")
    assert compare(run, baseline, backends=["torch"]).message.startswith("passed: 1 unchanged; ")
    assert compare(run, baseline, backends=["keras"]).message == "failed: 1 vanished"
    with pytest.raises(HarnessError, match=r"theano: .* keras, torch"):
        compare(run, baseline, backends=["theano"])


@pytest.mark.parametrize(
    ("correct", "status", "verdict"),
    [(300, "passed", "unchanged"), (390, "passed", "unchanged"), (300, "failed", "regressed"),
     (380, "skipped", "vanished")],
)  # fmt: skip
def test_occlusion_moves_in_either_direction_without_failing(correct, status, verdict):
    old = counted("mlp", "torch", "saliency/top", 380, 400).judged("passed")
    new = counted("mlp", "torch", "saliency/top", correct, 400).judged(status)
    assert status_verdict([old], [new]) == verdict


# What cannot be compared


def test_occlusion_by_another_method_is_incomparable_and_named():
    baseline = Baseline.of(run_of({"clean": HALF, "saliency/top": HALF}))
    spec = {"name": "digits", "saliency": {"occlusion": "smoothgrad"}}
    comparison = compare(run_of({"clean": HALF, "saliency/top": HALF}, spec=spec), baseline)
    row = row_of(comparison, "torch mlp saliency/top")
    assert (row.verdict, row.fails) == ("incomparable", True)
    assert row.detail == "saliency.occlusion is smoothgrad, was gradient"


def test_an_attack_with_other_options_is_incomparable_and_named():
    baseline = Baseline.of(run_of({"clean": HALF, "pgd@0.1": HALF}))
    spec = {"name": "digits", "attacks": {"pgd": {"epsilons": [0.1], "steps": 4}}}
    comparison = compare(run_of({"clean": HALF, "pgd@0.1": HALF}, spec=spec), baseline)
    row = row_of(comparison, "torch mlp pgd eps=0.1")
    assert (row.verdict, row.fails) == ("incomparable", True)
    assert row.detail == (
        "attacks.pgd.rel_stepsize is 0.625, was 0.0625, attacks.pgd.steps is 4, was 40"
    )
    assert row_of(comparison, "torch mlp clean").verdict == "unchanged"


def test_a_check_on_another_number_of_images_is_incomparable():
    comparison = compared({"fgsm@0.1": right(300)}, {"fgsm@0.1": right(300, 400)})
    assert comparison.rows[0].verdict == "incomparable"
    assert comparison.rows[0].detail == "400 images, but 1000 in the baseline"


def test_an_accuracy_whose_outcomes_are_not_there_or_contradict_it_is_incomparable():
    baseline = Baseline.of(run_of({"clean": HALF}))
    run = run_of({"clean": HALF})
    del run.arrays["torch/mlp/clean/predictions"]
    assert "does not hold the outcome" in compare(run, baseline).rows[0].detail
    run = run_of({"clean": HALF})
    run.arrays["torch/mlp/clean/predictions"][0] = 1
    (row,) = compare(run, baseline).rows
    assert row.verdict == "incomparable"
    assert "499 of 1000 predictions are correct, but 500" in row.detail


def test_a_check_that_not_every_accepted_run_has_is_incomparable():
    baseline = Baseline.of(
        run_of({"clean": HALF, "fgsm@0.1": HALF}, signature=3.0),
        run_of({"clean": HALF}, signature=4.0),
    )
    comparison = compare(run_of({"clean": HALF, "fgsm@0.1": HALF}), baseline)
    row = row_of(comparison, "torch mlp fgsm eps=0.1")
    assert (row.verdict, row.detail) == ("incomparable", "only in 1 of the 2 accepted runs")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data_sha256": "d" * 64}, "the data differ (baseline bbbbbbbbbbbb, run dddddddddddd)"),
        ({"data_sha256": ""}, "run unknown"),
        ({"spec": {"name": "mnist"}}, "of the spec 'digits', the run of 'mnist'"),
    ],
)
def test_other_data_or_another_spec_is_an_error(changes, words):
    with pytest.raises(RunError) as caught:
        compare(run_of({"clean": HALF}, **changes), Baseline.of(run_of({"clean": HALF})))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_seed_another_recipe_or_other_thresholds_are_what_a_gate_is_for():
    spec = {"name": "digits", "seed": 7, "models": {"mlp": {"training": {"epochs": 1}}}}
    baseline = Baseline.of(run_of({"clean": HALF}))
    assert compare(run_of({"clean": HALF}, spec=spec, spec_sha256="c" * 64), baseline).passed


# Whole runs


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (run_of({"clean": HALF}, finished=False), "did not finish"),
        (run_of({"clean": HALF}, finished=False, data_sha256=""), "did not finish"),
        (run_of(), "no records"),
        (run_of((), status_record("skipped")), "measured nothing"),
    ],
    ids=["unfinished", "broken-off", "empty", "skipped"],
)
def test_a_run_that_says_too_little_fails_whatever_the_baseline_says(run, words):
    comparison = compare(run, Baseline.of(run_of({"clean": HALF}, status_record("skipped"))))
    assert not comparison.passed
    assert words in comparison.message


def test_every_verdict_has_a_style():
    from harness.gate.table import STYLES

    assert set(STYLES) == set(VERDICTS)


def test_the_gate_imports_no_framework():
    code = (
        "import sys, harness.gate, harness.gate.store, harness.gate.table\n"
        "print(sorted({'torch', 'tensorflow', 'keras', 'backends'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
