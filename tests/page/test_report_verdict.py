"""What is said first of a run: a sentence, three answers, and what failed with its cause."""

from __future__ import annotations

import pytest
from synthetic import synthetic_run
from test_report import html_of, seen

from harness.gate import Comparison
from harness.results.records import Record, counted
from harness.results.run import Run
from reports import failures, tables, verdict
from reports.formats import check_words, duration, moment, share, spread
from reports.view import RunView


def run_of(*records: Record, finished: bool = True) -> Run:
    run = Run(spec={"name": "toy"}, spec_sha256="", data_sha256="", created="now",
              finished=finished)  # fmt: skip
    for record in records:
        run.put(record)
    return run


def clean(correct: int, backend: str = "torch") -> Record:
    return counted("mlp", backend, "clean", correct, 100).judged("passed", threshold=(0.5, 1.0))


def attacked(correct: int, epsilon: float, backend: str = "torch", attack: str = "pgd") -> Record:
    return counted("mlp", backend, attack, correct, 100, epsilon, norm="linf")


def said(run: Run, comparison: Comparison | None = None) -> str:
    view = RunView(run, None, comparison)
    sentences = verdict.robustness(view.curves, view.shown_epsilon)
    whole = " ".join([verdict.opening(run, view.frame, comparison), *sentences])
    return whole.replace("\u202f", " ").replace("\xa0", " ")


def test_met_expectations_and_robustness_are_two_things() -> None:
    run = run_of(clean(90), attacked(41, 0.1), attacked(20, 0.2), attacked(0, 0.3))
    assert said(run) == (
        "The one expectation is met. Not robust: at ε = 0.2 the strongest attack leaves 20 % of "
        "the images classified correctly, and none at ε = 0.3."
    )
    assert "<title>EXPECTATIONS MET, NOT ROBUST · toy" in html_of(run)
    assert 'class="verdict passed fragile"' in html_of(run)


def test_a_model_that_keeps_more_than_half_is_not_said_to_be_robust_either() -> None:
    run = run_of(clean(90), attacked(80, 0.1), attacked(45, 0.3))
    assert said(run).endswith(
        "met. At ε = 0.1 the strongest attack leaves 80 % of the images classified correctly, and "
        "45 % at ε = 0.3."
    )
    assert " Not robust: at" in said(run_of(clean(90), attacked(44, 0.3)))
    run_at_larger = run_of(clean(90), attacked(80, 0.1), attacked(44, 0.3))
    assert " Not robust at larger ε: at ε = 0.1 " in said(run_at_larger)
    assert "<title>EXPECTATIONS MET · toy" in html_of(run)


def test_backends_that_agree_are_one_range() -> None:
    run = run_of(*(clean(90, name) for name in ("torch", "keras")),
                 attacked(41, 0.1), attacked(43, 0.1, "keras"))  # fmt: skip
    assert "leaves 41–43 % of the images" in said(run)


def test_the_strongest_attack_is_all_of_them_together() -> None:
    run = run_of(clean(90), attacked(40, 0.1), attacked(35, 0.1, attack="square"))
    assert "leaves 35 %" in said(run), "without predictions the lowest accuracy"
    # PGD misclassifies the first image more, Square the last one: together two.
    run.arrays["labels"] = labels = synthetic_run().arrays["labels"][:10] * 0
    for name, wrong in (("clean", []), ("pgd@0.1", [0]), ("square@0.1", [9])):
        found = labels.copy()
        found[wrong] = 1
        run.arrays[f"torch/mlp/{name}/predictions"] = found
    run.classes = ("a", "b")
    assert "leaves 80 %" in said(run)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (run_of(), "No check was recorded."),
        (run_of(clean(90), finished=False), "The run did not finish, so checks may be missing."),
        (run_of(clean(90)), "The one expectation is met. Accuracy under attack was not measured."),
        (run_of(counted("mlp", "torch", "clean", 90, 100)), "Measured, not judged: no"),
        (run_of(clean(90).judged("failed", "low", (0.95, None))), "1 of 1 expectations not met."),
        (run_of(clean(90), Record(model="mlp", backend="torch", check="validity/constant",
                                  status="error", reason="x")), "cannot be trusted yet: 1 check"),
    ],
)  # fmt: skip
def test_what_is_said_first(run: Run, words: str) -> None:
    assert words in said(run)


def test_a_baseline_that_does_not_hold_is_said_beside_what_was_met() -> None:
    comparison = Comparison((), False, "failed: it has no rows")
    assert said(run_of(clean(90)), comparison).startswith(
        "The one expectation is met. It fails against the baseline."
    )


def test_three_answers_to_three_questions() -> None:
    bad = Record(model="mlp", backend="torch", check="validity/constant", status="failed")
    run = run_of(clean(90), bad)
    answers = verdict.answers_of(run, tables.measurements(run), Comparison((), True, "passed"))
    assert [(one.question, one.status, one.words) for one in answers] == [
        ("Expectations", "passed", "1 of 1 met"),
        ("Baseline", "passed", "Nothing got worse"),
        ("Validity", "failed", "1 of 1 failed"),
    ]
    run = run_of(counted("mlp", "torch", "clean", 90, 100))
    answers = verdict.answers_of(run, tables.measurements(run), None)
    assert [one.status for one in answers] == ["skipped"] * 3


def test_failures_of_one_cause_stand_together_and_backends_in_one_line() -> None:
    low, high = (0.6, None), (None, 0.05)
    run = run_of(
        attacked(51, 0.1).judged("failed", "x", low),
        attacked(52, 0.1, "keras").judged("failed", "y", low),
        clean(40).judged("failed", "z", low), attacked(9, 0.3).judged("failed", "w", high),
        Record(model="mlp", backend="torch", check="pgd", epsilon=0.2, status="error",
               reason="broke"),
    )  # fmt: skip
    causes = failures.causes_of(tables.measurements(run))
    assert [cause.reason for cause in causes] == [failures.BELOW, failures.ABOVE, "broke"]
    assert [(one.what, one.found.replace("\u202f", " "), one.wanted.replace("\u202f", " "),
             one.backends) for one in causes[0].checks] == [
        ("PGD ε = 0.1", "51.0–52.0 %", "≥ 60 %", "torch, keras"),
        ("clean", "40.0 %", "≥ 60 %", "torch"),
    ]  # fmt: skip
    assert causes[2].checks[0].anchor == "", "of what broke there is no more than the reason"
    assert (
        "PGD ε = 0.1: 51.0–52.0\u202f%, expected ≥ 60\u202f% (mlp: torch, keras)" in seen(run).text
    )


def test_maps_that_fail_one_check_are_one_cause_with_a_reason_each() -> None:
    run = run_of(*(
        Record(model="mlp", backend="torch", check=f"saliency-sanity/{method}/occlusion",
               status="failed", reason=f"{method} is bad")
        for method in ("gradient", "smoothgrad")
    ))  # fmt: skip
    (cause,) = failures.causes_of(tables.measurements(run))
    assert cause.reason == "Saliency maps fail the check of occlusion"
    assert [cause.added(one) for one in cause.checks] == ["gradient is bad", "smoothgrad is bad"]


@pytest.mark.parametrize(
    ("ends", "words"),
    [((0.0, 0.0), "none"), ((1.0, 1.0), "all"), ((0.001, 0.004), "less than 1 %"),
     ((0.41, 0.41), "41 %"), ((0.411, 0.433), "41–43 %"), ((0.0, 0.02), "0–2 %")],
)  # fmt: skip
def test_shares_as_a_person_says_them(ends: tuple[float, float], words: str) -> None:
    assert share(*ends).replace("\u202f", " ") == words


def test_a_spread_has_one_number_where_both_read_alike() -> None:
    assert spread(0.5, 0.5001) == "50.0\u202f%"
    assert spread(0.5, 0.512) == "50.0–51.2\u202f%"


@pytest.mark.parametrize(
    ("check", "words"),
    [("fgsm", "FGSM"), ("pgd-l2", "PGD L2"), ("certified/crown", "certified by CROWN"),
     ("validity/labels-shifted", "labels shifted"), ("clean", "clean"),
     ("saliency-sanity/gradient-x-input/finite", "maps of gradient × input: finite"),
     ("saliency/top", "saliency: top"), ("my-own", "my own")],
)  # fmt: skip
def test_checks_in_words(check: str, words: str) -> None:
    assert check_words(check) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.034, "0.034 s"), (0.44, "0.4 s"), (9.96, "10 s"), (59.4, "59 s"), (200.2, "3 min 20 s"),
     (5950, "1 h 39 min")],
)  # fmt: skip
def test_times_are_rounded(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_moments_are_told_to_the_minute_and_others_left_alone() -> None:
    assert moment("2026-11-27T01:35:12Z") == "27 November 2026, 01:35 UTC"
    assert moment("now") == "now"
