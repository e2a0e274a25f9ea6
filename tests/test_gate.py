"""The gate: verdicts, boundaries, damaged files, and that nothing turns green by itself."""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.errors import HarnessError, RunError
from harness.gate import SCHEMA, VERDICTS, Baseline, Comparison, Entry, compare, gate
from harness.gate_table import print_comparison
from harness.records import Record, Run, counted


def image_record(correct=380, total=400, check="fgsm", epsilon=0.1, status="passed", **names):
    names = {"target": "mlp", "backend": "torch"} | names
    record = counted(check=check, correct=correct, total=total, epsilon=epsilon, **names)
    return record.judged(status)


def status_record(status, reason="", check="conformance/batch_invariance"):
    return Record(target="mlp", backend="torch", check=check, status=status, reason=reason)


def run_of(*records, **changes):
    fields = {
        "spec": {"name": "digits"}, "spec_sha256": "a" * 64, "data_sha256": "b" * 64,
        "created": "2024-05-01T12:00:00+00:00", "commit": "c0ffee", "finished": True,
        "versions": {"torch": "2.6.0", "numpy": "2.1.0"}, "records": list(records),
    }  # fmt: skip
    return Run(**(fields | changes))


def baseline_of(*records, accepted=True, **changes):
    return Baseline.of(run_of(*records, **changes), accepted=accepted)


def only_verdict(old, new, tolerance=0.005):
    """The verdict on the one key of two lists of records, beside a healthy one on both sides."""
    anchor = image_record(check="clean", epsilon=None)
    comparison = compare(run_of(anchor, *new), baseline_of(anchor, *old), tolerance)
    row = next(row for row in comparison.rows if row.key != anchor.key)
    assert comparison.passed is not row.fails
    return row.verdict


@pytest.fixture
def stored(tmp_path):
    """Save a run of these records; give its folder."""

    def save(*records, **changes):
        folder = tmp_path / "results"
        run_of(*records, **changes).save(folder)
        return folder

    return save


# Verdicts


@pytest.mark.parametrize(
    ("before", "after", "total", "tolerance", "verdict"),
    [
        (380, 380, 400, 0.005, "unchanged"),
        (380, 378, 400, 0.005, "unchanged"),  # exactly the tolerance
        (380, 377, 400, 0.005, "regressed"),
        (380, 382, 400, 0.005, "unchanged"),
        (380, 383, 400, 0.005, "improved"),
        (380, 380, 400, 0.0, "unchanged"),
        (380, 379, 400, 0.0, "regressed"),
        (400, 0, 400, 1.0, "unchanged"),
        (3, 2, 10, 0.1, "unchanged"),  # as floats, 0.3 - 0.2 < 0.1 ...
        (10, 9, 10, 0.1, "unchanged"),  # ... and 1.0 - 0.9 < 0.1 ...
        (8, 7, 10, 0.1, "unchanged"),  # ... but 0.8 - 0.7 > 0.1
        (7, 8, 10, 0.1, "unchanged"),
    ],
)
def test_an_accuracy_may_drop_by_the_tolerance_and_no_more(
    before, after, total, tolerance, verdict
):
    old, new = image_record(before, total), image_record(after, total)
    assert only_verdict([old], [new], tolerance) == verdict


@settings(deadline=None, database=None)
@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(0, 1000))
def test_a_drop_of_exactly_the_tolerance_passes_and_one_more_image_fails(scale, extra, thousandths):
    total, lost = 1000 * scale, thousandths * scale
    before = min(total, lost + 1 + extra)
    tolerance = thousandths / 1000
    exactly = image_record(before - min(lost, before), total)
    assert only_verdict([image_record(before, total)], [exactly], tolerance) == "unchanged"
    if before > lost:
        beyond = image_record(before - lost - 1, total)
        assert only_verdict([image_record(before, total)], [beyond], tolerance) == "regressed"


def test_accuracies_without_counts_are_compared_likewise():
    old = Record(target="mlp", backend="torch", check="pgd", accuracy=0.8, status="passed")
    for accuracy, verdict in ((0.7, "unchanged"), (0.699, "regressed"), (0.91, "improved")):
        new = old.model_copy(update={"accuracy": accuracy})
        assert only_verdict([old], [new], 0.1) == verdict


def test_an_accuracy_that_is_no_number_any_more_has_vanished():
    old = Record(target="mlp", backend="torch", check="pgd", accuracy=0.8, status="passed")
    nan = old.model_copy(update={"accuracy": float("nan")})
    assert only_verdict([old], [nan]) == "vanished"


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("passed", "passed", "unchanged"),
        ("passed", "failed", "regressed"),
        ("passed", "error", "regressed"),
        ("passed", "skipped", "vanished"),
        ("passed", "measured", "vanished"),
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
    assert only_verdict([status_record(before)], [status_record(after)]) == verdict


def test_a_measured_accuracy_that_broke_regressed_and_that_is_skipped_vanished():
    old = image_record()
    fields = {"target": "mlp", "backend": "torch", "check": "fgsm", "epsilon": 0.1}
    assert only_verdict([old], [Record(**fields, status="error", reason="NaN")]) == "regressed"
    assert only_verdict([old], [Record(**fields, status="skipped")]) == "vanished"
    # Not even an accuracy left over from before it broke makes it a measurement.
    assert only_verdict([old], [old.judged("error", "NaN")]) == "regressed"
    assert only_verdict([old], [old.judged("skipped")]) == "vanished"


def test_a_threshold_missed_within_the_tolerance_is_for_the_suites():
    assert only_verdict([image_record(380)], [image_record(379, status="failed")]) == "unchanged"


def test_vanished_and_new_records():
    assert only_verdict([image_record()], []) == "vanished"
    assert only_verdict([status_record("skipped")], []) == "vanished"
    assert only_verdict([], [image_record()]) == "new"
    assert only_verdict([], [image_record(0, status="failed")]) == "new"
    assert only_verdict([], [status_record("passed")]) == "new"


@pytest.mark.parametrize("status", ["failed", "error"])
def test_being_new_does_not_excuse_a_broken_check(status):
    assert only_verdict([], [status_record(status, "NaN")]) == "regressed"


@pytest.mark.parametrize(
    "other", [{"target": "cnn"}, {"backend": "keras"}, {"check": "pgd"}, {"epsilon": 0.2}]
)
def test_each_part_of_the_key_counts(other):
    comparison = compare(run_of(image_record(**other)), baseline_of(image_record()))
    assert sorted(row.verdict for row in comparison.rows) == ["new", "vanished"]
    assert not comparison.passed


@pytest.mark.parametrize(
    ("correct", "status", "verdict"),
    [
        (378, "passed", "unchanged"),
        (377, "passed", "changed"),
        (383, "passed", "changed"),
        (383, "failed", "regressed"),
        (382, "failed", "unchanged"),
        (380, "skipped", "vanished"),
    ],
)
def test_saliency_moves_in_either_direction_without_failing(correct, status, verdict):
    old = image_record(380, check="saliency/top", epsilon=None)
    new = image_record(correct, check="saliency/top", epsilon=None, status=status)
    assert only_verdict([old], [new]) == verdict


def test_rows_tell_both_sides_and_the_change():
    comparison = compare(run_of(image_record(340)), baseline_of(image_record(380)))
    (row,) = comparison.rows
    assert row.label == "torch mlp fgsm eps=0.1"
    assert (row.old.correct, row.new.correct) == (380, 340)
    assert row.change == pytest.approx(-0.1)
    assert comparison.message == "failed: 1 regressed"
    assert not comparison.passed


def test_the_message_counts_every_verdict():
    old = [image_record(380, epsilon=e) for e in (0.0, 0.1, 0.2)]
    new = [image_record(c, epsilon=e) for c, e in ((380, 0.0), (390, 0.1), (390, 0.3))]
    message = compare(run_of(*new), baseline_of(*old)).message
    assert message == "failed: 1 vanished, 1 improved, 1 new, 1 unchanged"


# Whole runs


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"spec_sha256": "d" * 64}, ["the spec differs", "aaaaaaaaaaaa", "dddddddddddd"]),
        ({"data_sha256": "d" * 64}, ["the data differs", "bbbbbbbbbbbb", "dddddddddddd"]),
        ({"data_sha256": ""}, ["the data differs", "run unknown"]),
        ({"spec_sha256": "d", "data_sha256": "e"}, ["the spec differs", "the data differs"]),
    ],
)
def test_another_spec_or_other_data_is_incomparable(stored, tmp_path, changes, named):
    path = tmp_path / "baseline.json"
    gate(stored(image_record()), path, update=True)
    before = path.read_bytes()
    folder = stored(image_record(), **changes)
    comparison = gate(folder, path)
    assert not comparison.passed
    assert comparison.rows == ()
    assert comparison.message.startswith("incomparable: ")
    for words in [*named, f"harness gate {folder} --baseline {path} --update"]:
        assert words in comparison.message
    for part in ("spec", "data"):
        assert (f"the {part} differs" in comparison.message) == (f"{part}_sha256" in changes)
    assert path.read_bytes() == before
    assert gate(folder, path, update=True).passed
    assert gate(folder, path).passed


def test_a_run_that_did_not_finish_fails_even_if_all_it_measured_agrees():
    comparison = compare(run_of(image_record(), finished=False), baseline_of(image_record()))
    assert not comparison.passed
    assert "did not finish" in comparison.message
    assert [row.verdict for row in comparison.rows] == ["unchanged"]


def test_an_unfinished_run_without_data_is_called_unfinished_and_not_incomparable():
    run = run_of(finished=False, data_sha256="")
    assert "did not finish" in compare(run, baseline_of(image_record())).message


def test_a_run_without_records_fails_even_against_a_baseline_without_any():
    comparison = compare(run_of(), baseline_of())
    assert not comparison.passed
    assert "no records" in comparison.message


def test_a_run_of_skips_fails_even_against_a_baseline_of_skips():
    skip = status_record("skipped")
    comparison = compare(run_of(skip), baseline_of(skip))
    assert not comparison.passed
    assert "measured nothing" in comparison.message


@pytest.mark.parametrize("tolerance", [-0.001, 1.001, float("nan"), float("inf")])
def test_a_tolerance_outside_0_to_1_is_refused(stored, tmp_path, tolerance):
    with pytest.raises(HarnessError, match="tolerance") as caught:
        compare(run_of(image_record()), baseline_of(image_record()), tolerance)
    assert "\n" not in str(caught.value)
    path = tmp_path / "baseline.json"
    with pytest.raises(HarnessError, match="tolerance"):
        gate(stored(image_record()), path, tolerance, update=True)
    assert not path.exists()


# The file


def test_a_missing_baseline_is_written_and_fails_until_it_is_accepted(stored, tmp_path):
    folder = stored(image_record())
    path = tmp_path / "new folder" / "baseline.json"
    command = shlex.join(["harness", "gate", str(folder), "--baseline", str(path), "--update"])
    assert "'" in command  # a path with a space is quoted

    first = gate(folder, path)
    assert not first.passed
    assert command in first.message
    written = path.read_bytes()
    assert Baseline.load(path).accepted is False

    stored(image_record(399))  # another run, so that a rewrite would show
    for _ in range(2):
        again = gate(folder, path)
        assert not again.passed
        assert command in again.message
        assert path.read_bytes() == written

    accepted = gate(folder, path, update=True)
    assert accepted.passed
    assert [row.verdict for row in accepted.rows] == ["improved"]
    assert Baseline.load(path).accepted is True
    assert gate(folder, path).passed


def test_an_accepted_baseline_is_never_written_to_without_update(stored, tmp_path):
    path = tmp_path / "baseline.json"
    gate(stored(image_record(380)), path, update=True)
    before = path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino
    for correct, passed in ((380, True), (399, True), (300, False)):
        assert gate(stored(image_record(correct)), path).passed is passed
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_an_update_accepts_what_had_regressed_and_shows_it(stored, tmp_path):
    path = tmp_path / "baseline.json"
    assert gate(stored(image_record(380)), path, update=True).rows == ()
    folder = stored(image_record(300))
    assert not gate(folder, path).passed
    comparison = gate(folder, path, update=True)
    assert comparison.passed
    assert [row.verdict for row in comparison.rows] == ["regressed"]
    assert gate(folder, path).passed


@pytest.mark.parametrize(
    ("records", "changes", "words"),
    [
        ([image_record()], {"finished": False}, "did not finish"),
        ([image_record(), status_record("error", "NaN")], {}, "batch_invariance: error (NaN)"),
        ([image_record(status="failed"), status_record("failed")], {}, "failed, and 1 more"),
        ([], {}, "no records"),
        ([status_record("skipped")], {}, "measured nothing"),
    ],
)
def test_a_broken_run_becomes_no_baseline(stored, tmp_path, records, changes, words):
    path = tmp_path / "baseline.json"
    folder = stored(*records, **changes)
    missing = gate(folder, path)
    assert not missing.passed
    assert words in missing.message
    assert not path.exists()

    gate(stored(image_record()), path, update=True)
    before = path.read_bytes()
    folder = stored(*records, **changes)
    with pytest.raises(RunError) as caught:
        gate(folder, path, update=True)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["baseline.json", "results"]


def test_the_file_has_a_record_a_line_in_an_order_of_its_own(stored, tmp_path):
    clean = image_record(390, check="clean", epsilon=None)
    records = [status_record("passed"), image_record(epsilon=0.2), clean, image_record(epsilon=0.1)]
    path = tmp_path / "baseline.json"
    gate(stored(*records), path, update=True)
    text = path.read_text(encoding="utf-8")
    document = json.loads(text)
    assert list(document) == [
        "schema", "accepted", "spec", "spec_sha256", "data_sha256", "created", "commit",
        "versions", "records",
    ]  # fmt: skip
    assert (document["schema"], document["accepted"], document["spec"]) == (SCHEMA, True, "digits")
    lines = [line.strip().rstrip(",") for line in text.splitlines() if '"check"' in line]
    assert [json.loads(line) for line in lines] == document["records"]
    assert [(r["check"], r["epsilon"]) for r in document["records"]] == [
        ("clean", None), ("conformance/batch_invariance", None), ("fgsm", 0.1), ("fgsm", 0.2),
    ]  # fmt: skip
    assert document["records"][0] == {
        "target": "mlp", "backend": "torch", "check": "clean", "epsilon": None,
        "correct": 390, "total": 400, "accuracy": 0.975, "status": "passed",
    }  # fmt: skip
    gate(stored(*records[::-1]), path, update=True)
    assert path.read_text(encoding="utf-8") == text


def damaged(**changes):
    """A baseline file's text with other values at the top."""
    document = baseline_of(image_record()).model_dump(mode="json", by_alias=True)
    return json.dumps({**document, **changes})


def with_record(**changes):
    entry = baseline_of(image_record()).records[0].model_dump()
    return damaged(records=[{**entry, **changes}])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not readable as JSON"),
        ("accuracy: 0.9", "not readable as JSON"),
        (damaged()[:-20], "not readable as JSON"),
        ("[]", "no schema number"),
        (damaged(schema=SCHEMA + 1), "upgrade robustness-harness"),
        (damaged(schema=0), "schema 0"),
        (damaged(schema="1"), "no schema number"),
        (damaged(accepted="yes"), "accepted"),
        (damaged(spec={"name": "digits"}), "spec"),
        (damaged(records=None), "records"),
        (damaged(comment="why not"), "comment: unknown key"),
        (f'{{"schema": {SCHEMA}}}', "accepted"),
        (with_record(correct=401), "401 of 400"),
        (with_record(correct=None), "None of 400"),
        (with_record(correct=-1), "records.0.correct"),
        (with_record(total=0), "records.0.total"),
        (with_record(correct=379), "not 379/400"),
        (with_record(accuracy=0.99), "not 380/400"),
        (with_record(accuracy=None), "not 380/400"),
        (with_record(accuracy=float("nan")), "records.0.accuracy"),
        (with_record(epsilon="0.1"), "records.0.epsilon"),
        (with_record(status="fine"), "records.0.status"),
        (damaged(records=2 * json.loads(damaged())["records"]), "recorded 2 times"),
    ],
)
def test_a_damaged_baseline_is_one_line_and_stays_as_it_is(stored, tmp_path, text, words):
    path = tmp_path / "baseline.json"
    path.write_text(text, encoding="utf-8")
    folder = stored(image_record())
    for update in (False, True):
        with pytest.raises(RunError) as caught:
            gate(folder, path, update=update)
        assert str(path) in str(caught.value)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
        assert path.read_text(encoding="utf-8") == text


def test_bytes_that_are_no_text_are_one_line(stored, tmp_path):
    path = tmp_path / "baseline.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="not readable as JSON"):
        gate(stored(image_record()), path)


def test_a_missing_file_is_named_when_a_baseline_is_loaded(tmp_path):
    with pytest.raises(RunError, match=r"absent\.json: missing"):
        Baseline.load(tmp_path / "absent.json")


def test_a_run_given_for_the_baseline_is_not_overwritten(stored):
    folder = stored(image_record())
    path = folder / "run.json"
    before = path.read_bytes()
    with pytest.raises(RunError, match="not a baseline"):
        gate(folder, path, update=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("update", [False, True])
def test_a_missing_run_is_an_error_and_writes_nothing(tmp_path, update):
    path = tmp_path / "baseline.json"
    with pytest.raises(RunError, match=r"run\.json: missing"):
        gate(tmp_path / "absent", path, update=update)
    assert not path.exists()


def test_a_place_that_cannot_be_written_is_one_line(stored, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written"):
        gate(stored(image_record()), tmp_path / "file" / "baseline.json", update=True)


def test_a_run_that_contradicts_itself_becomes_no_baseline(stored, tmp_path):
    record = image_record().model_copy(update={"accuracy": 0.5})
    with pytest.raises(RunError, match="not 380/400"):
        gate(stored(record), tmp_path / "baseline.json", update=True)
    with pytest.raises(RunError, match="recorded 2 times"):
        gate(stored(image_record(), image_record()), tmp_path / "baseline.json", update=True)


# Properties

names = st.text('aλ ,"\\\n[]é', min_size=1, max_size=4)
keys = st.fixed_dictionaries(
    {
        "target": names,
        "backend": names,
        "check": st.one_of(names, st.sampled_from(["clean", "saliency/top", "conformance/x"])),
        "epsilon": st.none() | st.floats(0.0, 10.0),
    }
)


@st.composite
def healthy_records(draw):
    key = draw(keys)
    if draw(st.booleans()):
        return Record(**key, status=draw(st.sampled_from(["passed", "skipped", "measured"])))
    total = draw(st.integers(1, 10_000))
    record = counted(correct=draw(st.integers(0, total)), total=total, **key)
    return record.judged(draw(st.sampled_from(["passed", "measured", "skipped"])))


@settings(deadline=None, database=None)
@given(
    st.lists(healthy_records(), max_size=8, unique_by=lambda record: record.key),
    st.floats(0.0, 1.0),
)
def test_a_healthy_run_passes_against_its_own_baseline(tmp_path_factory, records, tolerance):
    run = run_of(image_record(check="anchor", target="anchor"), *records)
    path = tmp_path_factory.mktemp("gate") / "baseline.json"
    baseline = Baseline.of(run, accepted=True)
    baseline.save(path)
    assert Baseline.load(path) == baseline
    comparison = compare(run, Baseline.load(path), tolerance)
    assert comparison.passed
    assert {row.verdict for row in comparison.rows} == {"unchanged"}
    assert len(comparison.rows) == len(run.records)


# The table, and the rest


def printed(comparison: Comparison, width=200):
    stream = io.StringIO()
    print_comparison(comparison, Console(file=stream, width=width))
    return stream.getvalue()


def test_the_table_shows_what_moved_worst_first_and_the_message():
    old = [image_record(380, epsilon=e) for e in (0.0, 0.1, 0.2)]
    new = [image_record(c, epsilon=e) for c, e in ((390, 0.0), (380, 0.1), (300, 0.2))]
    text = printed(compare(run_of(*new), baseline_of(*old)))
    assert text.index("regressed") < text.index("improved")
    for words in ("torch mlp fgsm eps=0.2", "95.00%", "75.00%", "-20.00 pp", "+2.50 pp"):
        assert words in text
    assert "eps=0.1" not in text
    assert text.endswith("failed: 1 regressed, 1 improved, 1 unchanged\n")


def test_names_and_reasons_with_brackets_are_shown_as_they_are():
    record = status_record("error", "shape [red](3, 4)[/nonsense]")
    text = printed(compare(run_of(image_record(), record), baseline_of(image_record())))
    assert "error: shape [red](3, 4)[/nonsense]" in text


def test_the_command_in_the_message_is_not_broken_across_lines(stored, tmp_path):
    comparison = gate(stored(image_record()), tmp_path / "baseline.json")
    assert comparison.message in printed(comparison, width=40)


def test_every_verdict_has_a_style():
    from harness.gate_table import STYLES

    assert set(STYLES) == set(VERDICTS)


def test_an_entry_has_only_fields_of_a_record():
    assert set(Entry.model_fields) < set(Record.model_fields)


def test_the_gate_imports_no_framework():
    code = (
        "import sys, harness.gate, harness.gate_table\n"
        "print(sorted({'torch', 'tensorflow', 'keras', 'backends'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
