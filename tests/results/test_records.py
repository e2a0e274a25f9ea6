"""Runs: stored and read back whole, or refused in one line; and what makes a run pass."""

import io
import json
import os
import pickle
import stat
import sys
import zipfile

import numpy as np
import pytest
from synthetic import synthetic_run

from harness.errors import RunError
from harness.files import fingerprint, read_document, replacing
from harness.maths.statistics import wilson
from harness.results import keys
from harness.results.provenance import new_run
from harness.results.records import LOWER_BOUND, ModelInfo, Record, counted
from harness.results.run import SCHEMA, Run


def record(check="clean", status="passed", epsilon=None, correct=90, backend="numpy"):
    return counted("mlp", backend, check, correct, 100, epsilon).judged(status)


def run_of(*statuses, finished=True):
    records = [record(f"check-{i}", status) for i, status in enumerate(statuses)]
    return Run(
        spec={}, spec_sha256="", data_sha256="", created="now", finished=finished, records=records
    )


@pytest.fixture
def stored(tmp_path):
    """The folder of a stored run."""
    synthetic_run(backends=["torch"]).save(tmp_path)
    return tmp_path


def complaint(folder):
    with pytest.raises(RunError) as caught:
        Run.load(folder)
    text = str(caught.value)
    assert "\n" not in text
    return text


# Records


def test_the_interval_of_several_draws_is_that_of_one():
    record = counted("mlp", "toy", "saliency/random", 31, 60, draws=3)
    assert (record.correct, record.total, record.accuracy) == (31, 60, 31 / 60)
    assert (record.ci_low, record.ci_high) == wilson(10, 20)


def test_a_count_becomes_an_accuracy_with_its_interval():
    made = counted("mlp", "torch", "fgsm", 50, 100, 0.1)
    assert (made.correct, made.total, made.accuracy, made.epsilon) == (50, 100, 0.5, 0.1)
    assert (made.ci_low, made.ci_high) == pytest.approx((0.4038, 0.5962), abs=5e-5)
    assert (made.status, made.reason, made.threshold) == ("measured", "", None)
    assert made.key == ("mlp", "torch", "fgsm", 0.1)
    assert made.label == "torch mlp fgsm eps=0.1"
    assert counted("mlp", "torch", "clean", 1, 1).label == "torch mlp clean"


def test_a_judgement_is_a_copy_with_a_reason_on_one_line():
    made = counted("mlp", "torch", "clean", 5, 10)
    judged = made.judged("failed", "too\nlow", (0.6, None))
    assert (judged.status, judged.reason, judged.threshold) == ("failed", "too low", (0.6, None))
    assert made.status == "measured"
    assert judged.accuracy == 0.5


# Runs


def test_a_record_of_the_same_key_is_replaced_in_its_place():
    run = run_of()
    first, other, at = record("clean"), record("fgsm", epsilon=0.0), record("fgsm", epsilon=0.1)
    for each in (first, other, at):
        run.put(each)
    again = record("clean", "failed", correct=1)
    run.put(again)
    assert run.records == [again, other, at]
    run.put(record("clean", backend="torch"))
    assert len(run.records) == 4


def test_a_record_is_found_by_its_whole_key():
    run = run_of()
    run.put(record("fgsm", epsilon=0.1))
    assert run.find(("mlp", "numpy", "fgsm", 0.1)) == record("fgsm", epsilon=0.1)
    for key in (("mlp", "numpy", "fgsm", None), ("mlp", "torch", "fgsm", 0.1)):
        assert run.find(key) is None


def model_info(backend, fingerprint):
    return ModelInfo(
        model="mlp", backend=backend, fingerprint=fingerprint, cached=False, best_epoch=1,
        history=(),
    )  # fmt: skip


def test_a_run_absorbs_what_another_process_measured():
    run, other = run_of(), run_of()
    run.put(record("clean", "measured"))
    run.put_model(model_info("torch", "old"))
    run.versions, run.arrays["mine"] = {"numpy": "2.0"}, np.zeros(1)
    other.put(record("clean", "passed"))
    other.put(record("fgsm", epsilon=0.1))
    other.put_model(model_info("torch", "new"))
    other.put_model(model_info("keras", "k"))
    other.versions, other.arrays["theirs"] = {"torch": "2.6"}, np.ones(1)
    other.data_sha256, other.classes = "abc", ("0", "1")
    run.absorb(other)
    assert run.records == [record("clean", "passed"), record("fgsm", epsilon=0.1)]
    assert {(m.backend, m.fingerprint) for m in run.models} == {("torch", "new"), ("keras", "k")}
    assert run.versions == {"numpy": "2.0", "torch": "2.6"}
    assert set(run.arrays) == {"mine", "theirs"}
    assert (run.data_sha256, run.classes) == ("abc", ("0", "1"))


def test_what_a_run_knows_of_its_data_is_not_lost_to_one_that_does_not():
    run = run_of()
    run.data_sha256, run.classes = "abc", ("0", "1")
    run.absorb(run_of())
    assert (run.data_sha256, run.classes) == ("abc", ("0", "1"))


@pytest.mark.parametrize(
    ("statuses", "finished", "verdict"),
    [
        (["passed"], True, "passed"),
        (["passed", "skipped", "measured"], True, "passed"),
        (["passed"], False, "failed"),
        ([], True, "failed"),
        (["passed", "failed"], True, "failed"),
        (["passed", "error"], True, "failed"),
        (["skipped", "skipped"], True, "failed"),
        (["measured"], True, "measured"),
        (["measured", "skipped"], True, "measured"),
        (["measured"], False, "failed"),
        (["measured", "failed"], True, "failed"),
    ],
)
def test_a_run_passes_if_it_finished_with_a_passed_check_and_none_that_did_not(
    statuses, finished, verdict
):
    assert run_of(*statuses, finished=finished).verdict == verdict


def test_a_run_whose_accuracies_nobody_judged_is_measured_whatever_else_passed():
    """Validity checks that passed judge the measurement, not the model."""
    run = run_of("passed")
    run.records = [
        counted("mlp", "torch", "clean", 9, 10),
        Record(model="mlp", backend="torch", check="validity/x", status="passed"),
    ]
    assert run.verdict == "measured"
    run.put(run.records[0].judged("passed"))
    assert run.verdict == "passed"


def test_the_table_has_its_columns_and_a_row_per_record():
    run = run_of()
    columns = (
        "model backend check epsilon correct total accuracy ci_low ci_high "
        "threshold status reason norm value bound forwards backwards randomised"
    )
    assert " ".join(run.frame().columns) == columns
    run.put(record("fgsm", "failed", 0.1).judged("failed", "low", (0.95, 1.0)))
    run.put(Record(model="mlp", backend="numpy", check="conformance/shapes", status="passed"))
    table = run.frame()
    assert " ".join(table.columns) == columns
    assert len(table) == 2
    row = table.iloc[0]
    assert (row.check, row.epsilon, row.correct, row.total) == ("fgsm", 0.1, 90, 100)
    assert (row.accuracy, row.threshold, row.status, row.reason) == (
        0.9, (0.95, 1.0), "failed", "low",
    )  # fmt: skip
    assert table.iloc[1:][["epsilon", "accuracy", "ci_low"]].isna().all(axis=None)


def test_a_new_run_says_with_what_it_was_made():
    spec = {"name": "toy", "seed": 1}
    run = new_run(spec)
    assert (run.spec, run.spec_sha256, run.records) == (spec, fingerprint(spec), [])
    assert run.versions["numpy"] == np.__version__
    assert run.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert run.machine["cores"] >= 1
    assert run.created.endswith("+00:00")
    assert (run.commit is None) == (run.dirty is None)
    assert run.finished is False


# Bounds


@pytest.mark.parametrize(
    ("check", "epsilon", "bound"),
    [
        ("clean", None, "exact"),
        ("saliency/top", None, "exact"),
        ("fgsm", 0.1, "upper"),
        ("fgsm", 0.0, "upper"),
        ("certified/ibp", 0.1, "lower"),
        ("certified/ibp", 0.0, "lower"),
    ],
)
def test_an_accuracy_says_what_it_is_of_robust_accuracy(check, epsilon, bound):
    assert counted("mlp", "toy", check, 3, 4, epsilon).bound == bound
    nothing = Record(model="mlp", backend="toy", check=check, epsilon=epsilon)
    assert nothing.judged("error", "broke").bound is None


def test_a_run_that_was_stored_before_gets_its_bounds_and_counts_no_passes(stored):
    run = Run.load(stored)
    path = stored / "run.json"
    document = json.loads(path.read_text())
    for record in document["records"]:
        for field in ("bound", "forwards", "backwards", "randomised"):
            del record[field]
    path.write_text(json.dumps(document))
    again = Run.load(stored)
    assert again.records == run.records
    said = {(r.check, r.bound) for r in again.records if r.accuracy is not None}
    assert {("clean", "exact"), ("fgsm", "upper")} <= said
    assert again.frame().forwards.isna().all()
    assert not again.frame().randomised.any()


def test_what_is_certified_is_stored_and_read_back(stored):
    run = Run.load(stored)
    which = np.arange(len(run.arrays["labels"])) % 3 == 0
    name = keys.of("torch", "mlp", keys.certified("ibp", 0.05))
    assert name == "torch/mlp/certified/ibp@0.05/certified"
    run.arrays[name] = which
    run.put(counted("mlp", "torch", "certified/ibp", int(which.sum()), which.size, 0.05))
    run.save(stored)
    again = Run.load(stored)
    assert np.array_equal(again.arrays[name], which)
    row = again.frame().query("check == 'certified/ibp'").iloc[0]
    assert row.bound == "lower"
    assert LOWER_BOUND in again.frame().attrs["accuracy"]


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros(4, np.int64), "not truth values in 1 dimension"),
        (np.zeros((2, 2), bool), "not truth values in 1 dimension"),
        (np.zeros(10**5, bool), "holds 100000 values, but there are"),
    ],
)
def test_what_cannot_be_certificates_is_refused(stored, array, why):
    run = Run.load(stored)
    run.arrays["torch/mlp/certified/ibp@0.05/certified"] = array
    run.save(stored)
    assert why in complaint(stored)


# Files


def test_a_run_is_read_back_as_it_was_saved(tmp_path):
    run = synthetic_run()
    run.put(record("fgsm", "failed", 0.1).judged("failed", "ε is too large", (None, 0.2)))
    run.arrays["empty"] = np.zeros((0, 3), np.float32)
    run.save(tmp_path / "new" / "folder")
    again = Run.load(tmp_path / "new" / "folder")
    assert again.model_dump() == run.model_dump()
    assert set(again.arrays) == set(run.arrays)
    for key, array in run.arrays.items():
        assert again.arrays[key].dtype == array.dtype
        np.testing.assert_array_equal(again.arrays[key], array)
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [
        "arrays.npz",
        "run.json",
    ]


def test_a_run_without_arrays_is_read_back(tmp_path):
    run_of("passed").save(tmp_path)
    assert Run.load(tmp_path) == run_of("passed")
    assert Run.load(tmp_path).arrays == {}


def test_the_schema_number_is_in_the_file(stored):
    assert json.loads((stored / "run.json").read_text(encoding="utf-8"))["schema"] == SCHEMA


@pytest.mark.parametrize("name", ["run.json", "arrays.npz"])
def test_a_missing_file_is_named(stored, name):
    (stored / name).unlink()
    assert complaint(stored).startswith(f"{stored / name}: missing; run `harness run`")


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"", "not readable as JSON ("),
        (b'{"schema": 1, "spec"', "not readable as JSON ("),
        (b"\xff\xfe", "not readable as JSON ("),
        (b"[1]", "has no schema number"),
        (b"{}", "has no schema number"),
        (b'{"schema": "1"}', "has no schema number"),
        (b'{"schema": 1}', "of schema 1, older than 5; measure again with `harness run`"),
        (b'{"schema": 5}', "arrays_sha256: missing, or no text; run `harness run` again"),
    ],
)
def test_a_damaged_run_is_refused(stored, content, finding):
    (stored / "run.json").write_bytes(content)
    assert complaint(stored).startswith(f"{stored / 'run.json'}: {finding}")


def test_a_folder_in_the_place_of_a_file_is_refused(stored):
    for name in ("arrays.npz", "run.json"):
        (stored / name).unlink()
        (stored / name).mkdir()
        assert complaint(stored).startswith(f"{stored / name}: ")


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"surprise": 1}, "surprise: unknown key"),
        ({"created": 5}, "created: Input should be a valid string (got 5)"),
        ({"records": [{"model": "mlp"}]}, "records.0.backend: Field required"),
    ],
)
def test_a_run_with_another_content_names_the_key(stored, change, finding):
    path = stored / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change))
    assert complaint(stored).startswith(f"{path}: {finding}")


@pytest.mark.parametrize(
    ("schema", "remedy"),
    [
        (SCHEMA + 1, f"newer than {SCHEMA}; upgrade robustness-harness"),
        (SCHEMA - 1, f"older than {SCHEMA}; measure again with `harness run`"),
    ],
)
def test_another_schema_is_refused_with_what_helps(stored, schema, remedy):
    path = stored / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"schema": schema}))
    assert complaint(stored) == f"{path}: of schema {schema}, {remedy}"
    assert read_document(path, schema, "")["schema"] == schema


def test_truncated_arrays_are_refused(stored):
    path = stored / "arrays.npz"
    whole = path.read_bytes()
    for length in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert complaint(stored).startswith(f"{path}: damaged (")


def test_flipped_bytes_are_refused_or_harmless(stored):
    path = stored / "arrays.npz"
    whole, expected = path.read_bytes(), Run.load(stored).arrays
    rng = np.random.default_rng(0)
    refused = 0
    for position in rng.integers(len(whole), size=150):
        damaged = bytearray(whole)
        damaged[position] ^= rng.integers(1, 256)
        path.write_bytes(damaged)
        try:
            found = Run.load(stored).arrays
        except RunError:
            refused += 1
            assert complaint(stored).startswith(f"{path}: damaged (")
        else:  # in a date or another part that nobody reads, or in the name of an array
            shared = found.keys() & expected.keys()
            assert all(np.array_equal(found[key], expected[key]) for key in shared)
    assert refused > 75


def test_a_lone_array_in_the_place_of_an_archive_is_refused(stored):
    with (stored / "arrays.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert complaint(stored).startswith(f"{stored / 'arrays.npz'}: damaged (")


class Bomb:
    """Executes when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_pickles_are_never_executed(stored):
    path = stored / "arrays.npz"
    np.savez(path, labels=np.array([Bomb()], dtype=object))
    assert complaint(stored).startswith(f"{path}: damaged (")
    path.write_bytes(pickle.dumps(Bomb()))
    assert complaint(stored).startswith(f"{path}: damaged (")


# Replacing a file


def test_a_file_is_replaced_once_it_is_complete(tmp_path):
    path = tmp_path / "folder" / "run.json"
    with replacing(path) as stream:
        stream.write(b"old")
        assert not path.exists()
    with replacing(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["run.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "run.json"
    path.write_bytes(b"old")

    def write():
        with replacing(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_arrays_that_cannot_be_written_leave_the_old_run(stored, monkeypatch):
    before = {p.name: p.read_bytes() for p in stored.iterdir()}

    def half(stream: io.BufferedWriter, *_):
        stream.write(b"PK")
        raise OSError("no space left on device")

    monkeypatch.setattr(zipfile, "ZipFile", half)
    with pytest.raises(OSError, match="no space left"):
        run_of("passed").save(stored)
    assert {p.name: p.read_bytes() for p in stored.iterdir()} == before


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_is_as_readable_as_the_umask_says(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        run_of("passed").save(tmp_path)
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir()}
    assert modes == {"run.json": mode, "arrays.npz": mode}
