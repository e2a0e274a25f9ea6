"""The verdict on a run: in a sentence that a person could say, and as three separate answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from harness.gate import Comparison
from harness.results.run import Run
from reports.formats import radius, share
from reports.worst import Curve

VALIDITY = "validity/"
SENTENCES = 4
"""Models of which a sentence is said; those of more are in the table below."""


@dataclass(frozen=True)
class Answer:
    """One of the three questions, answered.

    Attributes:
        question: What it asks.
        status: ``passed``, ``failed``, or ``skipped`` where nobody asked it.
        words: The answer.
        more: What it is of, in small print.
        anchor: The section that it is about.
    """

    question: str
    status: str
    words: str
    more: str = ""
    anchor: str = ""


def judged(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The judged records that are expectations, and those that are about validity."""
    rows = frame[frame["status"].isin(["passed", "failed", "error"])]
    validity = rows["check"].astype(str).str.startswith(VALIDITY)
    return rows[~validity], rows[validity]


def answers_of(run: Run, frame: pd.DataFrame, comparison: Comparison | None) -> list[Answer]:
    """Expectations, baseline, validity."""
    expected, validity = judged(frame)
    return [_expectations(run, expected), _baseline(comparison), _validity(validity)]


def _expectations(run: Run, rows: pd.DataFrame) -> Answer:
    accuracies = int((rows["accuracy"].notna() | rows["threshold"].notna()).sum())
    told = _kinds(rows, accuracies)
    if run.verdict == "measured" or rows.empty:
        return Answer("Expectations", "skipped", "None were given", told, "accuracy")
    met, missed = _counts(rows)
    if missed:
        return Answer("Expectations", "failed", f"{missed:,} of {met + missed:,} not met", told,
                      "checks")  # fmt: skip
    if not run.finished:
        return Answer("Expectations", "failed", "The run did not finish", told, "checks")
    return Answer("Expectations", "passed", f"{met:,} of {met:,} met", told, "checks")


def _kinds(rows: pd.DataFrame, accuracies: int) -> str:
    names = rows["check"].astype(str)
    maps = int(names.str.startswith("saliency-sanity/").sum())
    others = len(rows) - accuracies - maps
    kinds = ((accuracies, "accuracies"), (others, "of conformance"), (maps, "of saliency maps"))
    return ", ".join(f"{count:,} {kind}" for count, kind in kinds if count)


def _baseline(comparison: Comparison | None) -> Answer:
    if comparison is None:
        return Answer("Baseline", "skipped", "Not compared", "harness gate RUN --baseline PATH")
    failing = sum(row.fails for row in comparison.rows)
    if comparison.passed:
        return Answer("Baseline", "passed", "Nothing got worse",
                      f"{len(comparison.rows):,} checks compared", "baseline")  # fmt: skip
    words = f"{failing:,} of {len(comparison.rows):,} fail" if failing else "Does not hold"
    return Answer("Baseline", "failed", words, "got worse, vanished, or too good", "baseline")


def _validity(rows: pd.DataFrame) -> Answer:
    if rows.empty:
        return Answer("Validity", "skipped", "Not checked", "whether the numbers can be trusted")
    passed, failed = _counts(rows)
    if failed:
        return Answer("Validity", "failed", f"{failed:,} of {passed + failed:,} failed",
                      "the numbers cannot be trusted yet", "checks")  # fmt: skip
    return Answer("Validity", "passed", f"{passed:,} of {passed:,} passed",
                  "whether the numbers can be trusted", "checks")  # fmt: skip


def _counts(rows: pd.DataFrame) -> tuple[int, int]:
    passed = int((rows["status"] == "passed").sum())
    return passed, len(rows) - passed


def opening(run: Run, frame: pd.DataFrame, comparison: Comparison | None) -> str:
    """What is said first: whether expectations were met, the baseline held, and numbers count."""
    expected, validity = judged(frame)
    met, missed = _counts(expected)
    said = []
    if not run.finished:
        said.append("The run did not finish, so checks may be missing.")
    if not len(frame):
        said.append("No check was recorded.")
    elif missed:
        said.append(f"{missed:,} of {met + missed:,} expectations not met.")
    elif run.verdict == "measured":
        said.append("Measured, not judged: no expectations were given.")
    elif met:
        said.append(f"All {met:,} expectations met." if met > 1 else "The one expectation is met.")
    elif validity.empty:
        said.append("Judged checks passed." if run.verdict == "passed" else "No check passed.")
    if comparison is not None and not comparison.passed:
        said.append("It fails against the baseline.")
    if failed := _counts(validity)[1]:
        many = "1 check" if failed == 1 else f"{failed:,} checks"
        said.append(f"The accuracies cannot be trusted yet: {many} of validity failed.")
    return " ".join(said)


def robustness(curves: Sequence[Curve], epsilon: float | None) -> list[str]:
    """What the strongest attack leaves of each model, a sentence each."""
    if not any(curve.attacked for curve in curves):
        return ["Accuracy under attack was not measured."] if curves else []
    several = len(curves) > 1
    return [_of_model(curve, epsilon, several) for curve in curves[:SENTENCES] if curve.attacked]


def _of_model(curve: Curve, epsilon: float | None, several: bool) -> str:
    last = curve.attacked[-1]
    first = curve.at(epsilon) or curve.attacked[0]
    left = f"the strongest attack leaves {share(first.lowest, first.highest)} of the images"
    said = f"at {_at(first.epsilon)} {left} classified correctly"
    if last.epsilon > first.epsilon:
        said += f", and {share(last.lowest, last.highest)} at {_at(last.epsilon)}"
    judged = ""
    if curve.fragile:
        judged = "not robust" if curve.lost(first) else "not robust at larger ε"
    if several:
        said = f"{curve.group.label}{f' is {judged}' if judged else ''}: {said}."
    else:
        said = f"{judged}: {said}." if judged else f"{said}."
        said = said[0].upper() + said[1:]
    sure = [row for row in curve.certified if row.highest > 0]
    if sure:
        names = f"At least {share(sure[-1].lowest, sure[-1].highest)} are certified at "
        said += f" {names}{_at(sure[-1].epsilon)}."
    return said


def _at(epsilon: float) -> str:
    return f"ε\u00a0=\u00a0{radius(epsilon)}"
