"""The report's section that holds a run against its baseline."""

from __future__ import annotations

import re

import pytest
from synthetic import synthetic_run
from test_report import ALONE, Page, html_of

from harness.gate import Comparison, Row
from reports.formats import code
from reports.page import Source, page
from reports.sections import baseline

LOST = Row(("mlp", "torch", "fgsm", 0.1), "regressed", 0.72, 0.70, (-0.03, -0.01), 0.0004,
           "passed", "passed", detail="beyond 0.5 points", counted=True, visible=0.009)  # fmt: skip
GAINED = Row(("mlp", "torch", "clean", None), "improved", 0.90, 0.915, (0.0, 0.03), 0.002,
             "passed", "passed")  # fmt: skip
TOO_GOOD = Row(("mlp", "torch", "pgd", 0.1), "improved", 0.20, 0.60, (0.38, 0.42), 1e-9, "passed",
               "passed", implausible=True, detail="is the attack broken?")  # fmt: skip
GONE = Row(("mlp", "keras", "clean", None), "vanished", 0.9, None, old_status="passed",
           detail="not in the run")  # fmt: skip
SAME = Row(("mlp", "keras", "fgsm", 0.1), "unchanged", 0.5, 0.5, (-0.01, 0.01), 1.0,
           counted=True, visible=0.031)  # fmt: skip


def shown(*rows: Row, notes: tuple[str, ...] = ()) -> Page:
    passed = not any(row.fails for row in rows)
    comparison = Comparison(rows, passed, "passed: all" if passed else "failed: some", notes)
    return Page(page([Source(synthetic_run(backends=["torch"]), comparison=comparison)]))


def table_of(seen: Page) -> list[list[str]]:
    table = next(rows for rows in seen.tables if rows[0][:2] == ["Check", "Verdict"])
    return [[" ".join(cell.split()) for cell in row] for row in table]


def test_what_moved_is_told_with_how_much_and_how_sure() -> None:
    seen = shown(SAME, GAINED, LOST, notes=("torch mlp: image by image",))
    assert seen.sections == ALONE | {"baseline"}
    head, lost, gained = table_of(seen)
    assert head[2:5] == ["Baseline", "Run", "Change"]
    assert head[5] == "−3.0 to +3.0"
    assert lost == ["FGSM, ε = 0.1 torch · mlp", "regressed", "72.00 %", "70.00 %",
                    "−2.00 −3.00 to −1.00", "", "0.90", "0.0004", "beyond 0.5 points"]  # fmt: skip
    assert gained[:5] == [
        "clean torch · mlp",
        "improved",
        "90.00 %",
        "91.50 %",
        "+1.50 0.00 to +3.00",
    ]
    text = " ".join(seen.text.split())
    assert "1 check unchanged" in text
    assert "torch mlp: image by image" in text


def test_a_whisker_spans_its_interval_on_a_scale_that_all_share() -> None:
    found = baseline.section_of(Comparison((LOST, GAINED, GONE), False, ""))
    lost, gone, gained = found.moved
    assert found.reach == 0.03
    assert lost.whisker == baseline.Whisker(0.0, pytest.approx(16.7), pytest.approx(33.3))
    assert gone.whisker is None
    assert gained.whisker == baseline.Whisker(50.0, 75.0, 100.0)


def test_a_regression_fails_the_page_although_every_check_of_the_run_passed() -> None:
    assert "<title>EXPECTATIONS MET" in html_of(synthetic_run(backends=["torch"]))
    seen = shown(LOST)
    assert seen.text.split()[0] == "FAILED"
    top = seen.text[: seen.text.index("The strongest attack")]
    assert "It fails against the baseline." in top
    assert re.search(r"Against the baseline\s*: failed: some", top)
    assert "EXPECTATIONS MET" not in top


@pytest.mark.parametrize(
    ("row", "words"),
    [(GONE, "vanished"), (TOO_GOOD, "improved implausibly"), (LOST, "regressed")],
)
def test_what_fails_looks_like_a_failure(row: Row, words: str) -> None:
    seen = shown(row)
    assert table_of(seen)[1][1] == words
    html = page(
        [Source(synthetic_run(backends=["torch"]), comparison=Comparison((row,), False, "failed"))]
    )
    assert f'<span class="badge failed">{words}</span>' in html


def test_of_very_many_changes_the_rest_is_folded() -> None:
    rows = [Row(("mlp", "torch", f"a{at}", None), "vanished", 0.9) for at in range(30)]
    seen = shown(*rows)
    assert len(table_of(seen)) == 1 + baseline.MOST
    assert f"{30 - baseline.MOST} more changes" in seen.text


def test_an_improvement_passes() -> None:
    assert shown(GAINED).text.split()[:2] == ["EXPECTATIONS", "MET,"]


def test_where_nothing_moved_the_page_says_what_it_could_not_have_seen() -> None:
    seen = shown(SAME)
    text = " ".join(seen.text.split())
    assert "Nothing moved" not in text
    assert "No check moved further than this gate can tell from chance." in text
    assert table_of(seen)[1] == ["FGSM, ε = 0.1 keras · mlp", "unchanged", "50.00 %", "50.00 %",
                                 "0.00 −1.00 to +1.00", "", "3.10", "1", ""]  # fmt: skip


def test_a_baseline_judges_what_was_only_measured() -> None:
    run = synthetic_run(backends=["torch"])
    run.records = [record.model_copy(update={"status": "measured"})
                   for record in run.records if record.total]  # fmt: skip
    for comparison, word in (
        (None, "MEASURED, NOT JUDGED"),
        (Comparison((SAME,), True, "passed: 1 unchanged"), "BASELINE HELD, NOT ROBUST"),
        (Comparison((LOST,), False, "failed: 1 regressed"), "FAILED"),
    ):  # fmt: skip
        html = page([Source(run, comparison=comparison)])
        assert f"<title>{word} ·" in html
        seen = " ".join(Page(html).text.split())
        assert "No check passed" not in seen
        if comparison:
            assert comparison.message in seen.partition("The strongest attack")[0]
            assert ("Nothing got worse" in seen) == comparison.passed


def test_a_run_that_cannot_be_compared_says_why() -> None:
    comparison = Comparison((), False, "failed: the run did not finish; run it again")
    seen = Page(page([Source(synthetic_run(backends=["torch"]), comparison=comparison)]))
    assert "the run did not finish; run it again" in seen.text
    assert "Nothing moved" not in seen.text


def test_names_in_a_comparison_are_text() -> None:
    bad = "<script>alert(1)</script>"
    row = Row((bad, bad, bad, None), "regressed", detail=bad, new_status=bad, old_status=bad)
    comparison = Comparison((row,), False, bad, (bad,))
    assert "<script>alert" not in page(
        [Source(synthetic_run(backends=["torch"]), comparison=comparison)]
    )


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("type `a <b>` now", "type <code>a &lt;b&gt;</code> now"),
        ("`a` and `b`", "<code>a</code> and <code>b</code>"),
        ("a ` alone", "a ` alone"),
        ("`a` ` b", "<code>a</code> ` b"),
        ("plain <b>", "plain &lt;b&gt;"),
    ],
)
def test_what_stands_between_backticks_is_a_command(text: str, html: str) -> None:
    assert code(text) == html
