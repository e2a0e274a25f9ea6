"""Baselines on disk: what they hold, who writes them, and one line for each that is damaged."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
from gate_runs import changed, right, run_of, status_record
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError, RunError
from harness.gate import Baseline, gate
from harness.gate import store as baselines
from harness.gate.baseline import SCHEMA, Entry
from harness.gate.outcomes import pack, unpack
from harness.results.records import Record
from harness.results.run import Run

CLEAN = {"clean": right(390, 400)}


@pytest.fixture
def stored(tmp_path):
    """Save a run; give its folder."""

    def save(run):
        folder = tmp_path / "results"
        run.save(folder)
        return folder

    return save


def refused(call, *arguments):
    """The one line of a refusal."""
    with pytest.raises(RunError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Outcomes


@settings(deadline=None, database=None)
@given(st.lists(st.booleans(), min_size=1, max_size=300))
def test_outcomes_come_back_as_they_were(outcomes):
    outcomes = np.array(outcomes)
    np.testing.assert_array_equal(unpack(pack(outcomes), len(outcomes)), outcomes)


@pytest.mark.parametrize(
    ("text", "count", "words"),
    [
        ("~", 8, "damaged"),
        (pack(right(8, 8))[:-4], 8, "not those of 8 images"),
        (pack(right(8, 8)), 9, "not those of 9 images"),
        (pack(right(0, 10**7)), 8, "not those of 8 images"),  # and never inflated as a whole
    ],
)
def test_outcomes_that_are_damaged_are_refused(text, count, words):
    with pytest.raises(ValueError, match=words):
        unpack(text, count)


def test_outcomes_that_would_fill_the_memory_are_not_inflated():
    text = pack(np.zeros(10**8, bool))
    tracemalloc.start()
    with pytest.raises(ValueError, match="not those of 8 images"):
        unpack(text, 8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_outcomes_are_compact():
    random = np.random.default_rng(0)
    assert len(pack(random.random(7000) < 0.5)) < 1200
    assert len(pack(random.random(7000) < 0.99)) < 400


# Numbers


def test_each_accepted_run_gets_the_next_number_and_the_newest_counts(stored, tmp_path):
    folder = tmp_path / "suites" / "digits"
    assert baselines.accept(run_of(CLEAN), folder) == folder / "0001.json"
    first = (folder / "0001.json").read_bytes()
    worse = run_of({"clean": right(300, 400)}, signature=2.0)
    assert not gate(stored(worse), folder).passed
    assert baselines.accept(worse, folder) == folder / "0002.json"
    assert gate(stored(worse), folder).passed
    assert not gate(stored(worse), folder / "0001.json").passed
    assert (folder / "0001.json").read_bytes() == first
    assert sorted(path.name for path in folder.iterdir()) == [
        "0001.json", "0001.txt", "0002.json", "0002.txt",
    ]  # fmt: skip
    (folder / "10000.json").write_bytes(first)
    (folder / "notes.json").write_text("{}")
    assert baselines.locate(folder) == folder / "10000.json"


def test_a_file_that_is_named_is_replaced_by_accepting_alone(stored, tmp_path):
    path = tmp_path / "mine.json"
    baselines.accept(run_of(CLEAN), path)
    before = path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino
    for correct in (390, 399, 200):
        gate(stored(run_of({"clean": right(correct, 400)})), path)
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == before
    baselines.accept(run_of({"clean": right(200, 400)}), path)
    assert Baseline.load(path).runs[0].records[0].correct == 200


def test_a_missing_baseline_is_one_line_with_the_command_and_nothing_is_written(stored, tmp_path):
    folder = stored(run_of(CLEAN))
    for path in (tmp_path / "no where", tmp_path / "none.json"):
        line = refused(gate, folder, path)
        assert str(path) in line
        assert "harness baseline accept RUN --baseline " in line
        assert not path.exists()
    assert "'" in refused(gate, folder, tmp_path / "no where")  # a path with a space is quoted


# Several runs


def test_runs_of_other_seeds_are_added_and_the_table_shows_them(tmp_path):
    path = baselines.accept(run_of(CLEAN, status_record("passed")), tmp_path / "digits")
    second = run_of({"clean": right(380, 400)}, status_record("passed"), signature=2.0)
    assert baselines.add(second, tmp_path / "digits") == path
    assert len(Baseline.load(path).runs) == 2
    text = path.with_suffix(".txt").read_text(encoding="utf-8")
    assert text == baselines.summary(Baseline.load(path))
    lines = text.splitlines()
    assert lines[0] == f"baseline of digits, data {'b' * 12}"
    assert lines[2] == (
        "run 1: seed 0, 2024-05-01T12:00:00+00:00, commit c0ffee, numpy 2.1.0, torch 2.6.0"
    )
    assert [line.split() for line in lines[5:]] == [
        ["check", "images", "run", "1", "run", "2"],
        ["torch", "mlp", "clean", "400", "97.50", "95.00"],
        ["torch", "mlp", "conformance/batch-split", "passed", "passed"],
    ]


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (run_of(CLEAN), "torch/mlp is the model of run 1"),
        (run_of(CLEAN, signature=2.0, data_sha256="c"), "the data differ"),
        (run_of(CLEAN, signature=2.0, spec={"name": "mnist"}), "'mnist'"),
        (
            run_of(CLEAN | {"fgsm@0.1": right(9)}, signature=2.0),
            "fgsm eps=0.1 is not in the baseline",
        ),
        (run_of({"fgsm@0.1": right(9)}, signature=2.0), "clean is not in the run"),
        (run_of(CLEAN, signature=2.0, finished=False), "did not finish"),
    ],
    ids=["same", "data", "spec", "more", "less", "unfinished"],
)
def test_a_run_that_tells_nothing_of_the_spread_is_not_added(tmp_path, run, words):
    path = baselines.accept(run_of(CLEAN), tmp_path / "digits")
    before = path.read_bytes()
    assert words in refused(baselines.add, run, tmp_path / "digits")
    assert path.read_bytes() == before


def test_runs_with_other_settings_are_not_added(tmp_path):
    baselines.accept(run_of({"pgd@0.1": right(9)}), tmp_path / "digits")
    spec = {"name": "digits", "attacks": {"pgd": {"epsilons": [0.1], "steps": 4}}}
    other = run_of({"pgd@0.1": right(9)}, signature=2.0, spec=spec)
    assert "other settings" in refused(baselines.add, other, tmp_path / "digits")


def test_nothing_is_added_to_a_baseline_that_is_not_there(tmp_path):
    assert "there is no baseline" in refused(baselines.add, run_of(CLEAN), tmp_path / "none")


# The file


def test_the_file_has_a_record_a_line_in_an_order_of_its_own(tmp_path):
    checks = {"fgsm@0.2": right(1, 9), "clean": right(8, 9), "fgsm@0.1": right(4, 9)}
    path = baselines.accept(run_of(checks, status_record("passed")), tmp_path / "digits")
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    assert list(document) == ["schema", "spec", "data_sha256", "runs"]
    (run,) = document["runs"]
    assert list(run) == [
        "created", "commit", "dirty", "versions", "machine", "spec", "signatures", "records",
    ]  # fmt: skip
    lines = [line.strip().rstrip(",") for line in text.splitlines() if '"check"' in line]
    assert [json.loads(line) for line in lines] == run["records"]
    assert [(r["check"], r.get("epsilon")) for r in run["records"]] == [
        ("clean", None), ("conformance/batch-split", None), ("fgsm", 0.1), ("fgsm", 0.2),
    ]  # fmt: skip
    assert run["records"][0] == {
        "model": "mlp", "backend": "torch", "check": "clean", "status": "passed",
        "correct": 8, "total": 9, "accuracy": 8 / 9, "outcomes": pack(right(8, 9)),
    }  # fmt: skip
    again = baselines.accept(run_of(dict(reversed(checks.items())), status_record("passed")),
                             tmp_path / "again")  # fmt: skip
    assert again.read_text(encoding="utf-8") == text


def test_an_entry_has_only_fields_of_a_record_and_its_outcomes():
    assert set(Entry.model_fields) - {"outcomes", "unanswered"} < set(Record.model_fields)


def damaged(**changes):
    """A baseline file's text with other values at the top."""
    document = Baseline.of(run_of(CLEAN)).model_dump(mode="json", by_alias=True)
    return json.dumps({**document, **changes})


def with_record(**changes):
    (run,) = json.loads(damaged())["runs"]
    (record,) = run["records"]
    return damaged(runs=[run | {"records": [record | changes]}])


def with_run(**changes):
    (run,) = json.loads(damaged())["runs"]
    return damaged(runs=[run | changes])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not readable as JSON"),
        (damaged()[:-20], "not readable as JSON"),
        (damaged()[: len(damaged()) // 2], "not readable as JSON"),
        ("[]", "no schema number"),
        (damaged(schema=SCHEMA + 1), "upgrade robustness-harness"),
        (damaged(schema=SCHEMA - 1), f"older than {SCHEMA}; measure again, remove it and accept"),
        (damaged(spec={"name": "digits"}), "spec"),
        (damaged(runs=[]), "runs"),
        (damaged(comment="why not"), "comment: unknown key"),
        (with_run(records=None), "records"),
        (with_run(records=2 * json.loads(damaged())["runs"][0]["records"]), "recorded 2 times"),
        (with_run(signatures={"torch/mlp": "~"}), "signatures.torch/mlp is damaged"),
        (with_record(correct=401), "401 of 400"),
        (with_record(correct=None), "None of 400"),
        (with_record(correct=-1), "correct"),
        (with_record(total=0), "total"),
        (with_record(correct=389), "not 389/400"),
        (with_record(correct=389, accuracy=389 / 400), "390 correct predictions, not 389"),
        (with_record(outcomes="~"), "outcomes are damaged"),
        (with_record(outcomes=pack(right(390, 500))), "not those of 400 images"),
        (with_record(epsilon="0.1"), "epsilon"),
        (with_record(status="fine"), "status"),
    ],
)
def test_a_damaged_baseline_is_one_line_and_stays_as_it_is(stored, tmp_path, text, words):
    path = tmp_path / "0001.json"
    path.write_text(text, encoding="utf-8")
    run = run_of(CLEAN, signature=2.0)
    for call in (
        lambda: gate(stored(run), path), lambda: baselines.add(run, path),
        lambda: baselines.accept(run, path),
    ):  # fmt: skip
        line = refused(call)
        assert str(path) in line
        assert words in line
        assert path.read_text(encoding="utf-8") == text


def test_a_run_given_for_the_baseline_is_not_overwritten(stored):
    folder = stored(run_of(CLEAN))
    before = (folder / "run.json").read_bytes()
    for path in (folder / "run.json", folder / "arrays.npz"):
        assert "not a baseline" in refused(baselines.accept, run_of(CLEAN), path)
    assert (folder / "run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (run_of(CLEAN, finished=False), "did not finish"),
        (run_of(CLEAN, status_record("error", "NaN")), "batch-split: error (NaN)"),
        (run_of(CLEAN, status_record("failed"), status="failed"), "failed, and 1 more"),
        (run_of(), "no records"),
        (run_of((), status_record("skipped")), "measured nothing"),
    ],
    ids=["unfinished", "error", "failed", "empty", "skipped"],
)
def test_a_broken_run_becomes_no_baseline(tmp_path, run, words):
    assert words in refused(baselines.accept, run, tmp_path / "digits")
    assert not (tmp_path / "digits").exists()


def test_a_run_that_contradicts_itself_becomes_no_baseline(tmp_path):
    run = run_of(CLEAN)
    run.arrays["torch/mlp/clean/predictions"] = (~changed(right(390, 400), lost=1)).astype(np.int16)
    line = refused(baselines.accept, run, tmp_path / "digits")
    assert "389 of 400 predictions are correct, but 390 of 400 are recorded" in line
    run = run_of(CLEAN)
    run.records.append(run.records[0])
    assert "recorded 2 times" in refused(baselines.accept, run, tmp_path / "digits")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HarnessError) as caught:
        baselines.accept(run_of(CLEAN), tmp_path / "file" / "b.json")
    assert str(caught.value) == f"{tmp_path / 'file'} is a file; name a folder"


def test_a_missing_run_is_an_error(tmp_path):
    baselines.accept(run_of(CLEAN), tmp_path / "digits")
    assert "run.json: missing" in refused(gate, tmp_path / "absent", tmp_path / "digits")


def test_other_data_is_refused_with_the_command_that_accepts(stored, tmp_path):
    baselines.accept(run_of(CLEAN), tmp_path / "digits")
    folder = stored(run_of(CLEAN, data_sha256="d" * 64))
    line = refused(gate, folder, tmp_path / "digits")
    assert "the data differ" in line
    assert f"harness baseline accept {folder} --baseline {tmp_path / 'digits'}" in line


# Properties


@settings(deadline=None, database=None, max_examples=50)
@given(st.dictionaries(st.sampled_from(["clean", "fgsm@0.1", "a b@2", "λ"]),
                       st.lists(st.booleans(), min_size=1, max_size=40)),
       st.lists(st.sampled_from(["passed", "skipped", "measured"]), max_size=4))  # fmt: skip
def test_a_healthy_run_passes_against_its_own_baseline(tmp_path_factory, checks, statuses):
    extra = [status_record(status, check=f"x/{n}") for n, status in enumerate(statuses)]
    checks = {name: np.array(outcomes) for name, outcomes in checks.items()}
    run: Run = run_of({"anchor": right(60, 90)} | checks, *extra)
    folder = tmp_path_factory.mktemp("gate")
    run.save(folder / "results")
    baselines.accept(run, folder / "b")
    comparison = gate(folder / "results", folder / "b")
    assert comparison.passed
    assert {row.verdict for row in comparison.rows} == {"unchanged"}
    assert len(comparison.rows) == len(run.records)
