"""Arrays of a run: what is read back, and that nothing else is, however it is packed."""

import hashlib
import io
import json
import random
import struct
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
from synthetic import synthetic_run

from harness.errors import RunError
from harness.results import arrays
from harness.results.arrays import ArraysError, read_arrays, write_arrays
from harness.results.keys import check_arrays
from harness.results.run import HASH, Run


@pytest.fixture
def path(tmp_path):
    return tmp_path / "arrays.npz"


@pytest.fixture
def stored(tmp_path):
    """The folder of a stored run."""
    synthetic_run(backends=["torch"]).save(tmp_path)
    return tmp_path


def refused(folder):
    with pytest.raises(RunError) as caught:
        Run.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(folder, content):
    """Other arrays beside a run.json that owns to them."""
    (folder / "arrays.npz").write_bytes(content)
    document = json.loads((folder / "run.json").read_text())
    document[HASH] = hashlib.sha256(content).hexdigest()
    (folder / "run.json").write_text(json.dumps(document))


def packed(content):
    stream = io.BytesIO()
    np.savez_compressed(stream, **content)
    return stream.getvalue()


def test_arrays_come_back_with_the_hash_of_their_file(path):
    given = {
        "labels": np.arange(5, dtype=np.int16), "a/b/empty": np.zeros((0, 3), np.float32),
        "a/b/turned": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "a/b/c": np.array([True]),
        "a/b/big": np.arange(3, dtype=">f8"),
    }  # fmt: skip
    digest = write_arrays(path, given).digest
    found, again = read_arrays(path)
    assert digest == again == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.keys() == given.keys()
    for key, value in given.items():
        assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found[key], value)


@pytest.mark.parametrize(
    "value",
    [
        np.array(3), np.array(["a", "b"]), np.zeros(2, dtype=[("a", "i4")]), np.zeros(2, "c8"),
        np.zeros(2, "M8[s]"), np.zeros(2, "V3"), np.array([b"x"]),
    ],
    ids=["0-d", "text", "structured", "complex", "dates", "void", "bytes"],
)  # fmt: skip
def test_what_is_no_array_of_numbers_is_refused(stored, value):
    put(stored, packed({"labels": value}))
    assert refused(stored).startswith(f"{stored / 'arrays.npz'}: damaged (labels.npy holds ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", np.zeros(3, np.float32)),
        ("labels", np.zeros((3, 1), np.int16)),
        ("torch/mlp/clean/predictions", np.zeros(3, np.float32)),
        ("torch/mlp/fgsm@0.1/predictions", np.zeros((3, 3), np.int16)),
        ("torch/mlp/clean/predictions", np.zeros(61, np.int16)),
        ("torch/mlp/signature", np.zeros((3, 3), np.float32)),
        ("torch/mlp/examples/clean", np.zeros(3, np.float32)),
        ("torch/mlp/examples/index", np.zeros(3, np.float32)),
        ("torch/mlp/examples/saliency/top", np.zeros((3, 6, 6), np.float32)),
        ("torch/mlp/saliency/gradient/top/accuracy", np.zeros(10)),
        ("torch/mlp/minimal-epsilon/fgsm", np.zeros(3, np.int64)),
    ],
)
def test_an_array_that_does_not_fit_its_key_is_refused(stored, key, value):
    put(stored, packed(Run.load(stored).arrays | {key: value}))
    assert key in refused(stored)


def test_the_arrays_of_a_whole_run_fit_their_keys():
    run = synthetic_run()
    check_arrays(run.arrays | {"torch/mlp/of/a/later/version": np.zeros((2, 3, 4, 5), np.uint8)})


@pytest.mark.parametrize("wide", [np.int16, np.int32, np.int64, np.uint8])
def test_labels_may_be_integers_of_any_width(stored, wide):
    run = Run.load(stored)
    for key in ("labels", "torch/mlp/clean/predictions"):
        run.arrays[key] = run.arrays[key].astype(wide)
    run.save(stored)
    assert Run.load(stored).arrays["labels"].dtype == wide


def zipped(*members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a name that is there twice
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


def npy(value, header=None):
    stream = io.BytesIO()
    if header is None:
        np.save(stream, value)
    else:
        np.lib.format.write_array_header_1_0(stream, header)
        stream.write(value)
    return stream.getvalue()


LABELS = npy(np.zeros(3, np.int16))
SHAPE = {"descr": "<i2", "fortran_order": False}
ARCHIVES = {
    "no-npy": (zipped(("labels.npy", LABELS), ("readme.txt", b"hello")), "readme.txt is no .npy"),
    "twice": (zipped(("labels.npy", LABELS), ("labels.npy", LABELS)), "is there 2 times"),
    "text": (zipped(("labels.npy", b"hello")), "damaged ("),
    "short": (zipped(("labels.npy", npy(b"ab", SHAPE | {"shape": (3,)}))), "another length"),
    "long": (zipped(("labels.npy", npy(b"abcdefgh", SHAPE | {"shape": (3,)}))), "another length"),
    "huge": (zipped(("labels.npy", npy(b"ab", SHAPE | {"shape": (10**15,)}))), "another length"),
    "negative": (zipped(("labels.npy", npy(b"ab", SHAPE | {"shape": (-1, -1)}))), "damaged ("),
    "bzip2": (zipped(("labels.npy", LABELS), method=zipfile.ZIP_BZIP2), "packed in an unusual way"),
    "lzma": (zipped(("labels.npy", LABELS), method=zipfile.ZIP_LZMA), "packed in an unusual way"),
}


@pytest.mark.parametrize("archive", ARCHIVES)
def test_an_archive_that_we_did_not_write_is_refused(stored, archive):
    content, words = ARCHIVES[archive]
    put(stored, content)
    assert words in refused(stored)


def bomb(size):
    """A well-formed array of zeros that inflates to so many bytes."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("labels.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, SHAPE | {"shape": (size // 2,)})
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return stream.getvalue()


def lying(content, size):
    """The archive with another size in its directory."""
    place = content.rindex(b"PK\x01\x02") + 24
    return content[:place] + struct.pack("<L", size) + content[place + 4 :]


LOAD = """
import resource, sys
from harness.results.run import Run
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    Run.load(__import__("pathlib").Path(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in KiB on Linux alone")
@pytest.mark.parametrize("honest", [True, False])
def test_what_would_fill_the_memory_is_not_unpacked(stored, honest):
    """256 MiB of zeros in 256 KiB, against a bound of 64 MiB; and a directory that says 1,000."""
    content = bomb(256 << 20)
    put(stored, content if honest else lying(content, 1_000))
    code = f"import harness.results.arrays\nharness.results.arrays.LARGEST = {64 << 20}\n{LOAD}"
    done = subprocess.run(
        [sys.executable, "-c", code, str(stored)], capture_output=True, text=True, check=True
    )
    message, grown = done.stdout.splitlines()
    assert message.startswith("RunError ")
    assert ("are the most" in message) == honest
    assert int(grown) < 64


def test_the_bounds_are_stated(path, monkeypatch):
    write_arrays(path, {"labels": np.zeros(1000, np.int16)})
    for name, words in (("LARGEST", "and 100 are the most"), ("DIRECTORY", "directory takes")):
        with monkeypatch.context() as patch:
            patch.setattr(arrays, name, 100 if name == "LARGEST" else 10)
            with pytest.raises(ArraysError, match=words):
                read_arrays(path)


def test_a_run_too_large_to_be_read_back_is_saved_without_images(stored, monkeypatch):
    run = Run.load(stored)
    # Each array counts with its header.
    sizes = {key: value.nbytes + arrays.HEADER for key, value in run.arrays.items()}
    monkeypatch.setattr(arrays, "LARGEST", sum(sizes.values()) - 1)
    with pytest.warns(UserWarning, match="bytes; saved without images"):
        run.save(stored)
    found = Run.load(stored)
    assert found.records == run.records
    assert "torch/mlp/clean/predictions" in found.arrays
    assert not any("/examples/" in key for key in found.arrays)


# The hash


def test_a_run_torn_between_its_two_renames_is_found(stored, tmp_path):
    other = synthetic_run(backends=["torch"], seed=1)
    write_arrays(stored / "arrays.npz", other.arrays)
    assert "written by another run" in refused(stored)
    other.save(stored)
    assert Run.load(stored).records == other.records


def test_a_run_without_the_hash_of_its_arrays_is_refused(stored):
    path = stored / "run.json"
    document = json.loads(path.read_text())
    del document[HASH]
    path.write_text(json.dumps(document))
    assert f"{HASH}: missing" in refused(stored)


# Damage of every kind

ODD = (
    None, True, -1, 2.5, 1e308, 10**30, "", "x", "../x", "\ud800", "[/x]", "\x1b[31m", [], {}, [[]],
    float("nan"), float("inf"), [None], 2**63, "x" * 5000,
)  # fmt: skip


def changed(document, dice):
    """The document with one value replaced, dropped or doubled, somewhere in it."""
    document = json.loads(json.dumps(document))
    value = document
    while True:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = dice.choice(keys)
        if not isinstance(value[key], (dict, list)) or not value[key] or dice.random() < 0.2:
            break
        value = value[key]
    fate = dice.random()
    if fate < 0.8:
        value[key] = dice.choice(ODD)
    elif fate < 0.9 and isinstance(value, list):
        value.append(value[key])
    else:
        del value[key]
    return document


def distorted(content, dice):
    """Arrays of which one has another kind, length, shape or place."""
    content = dict(content)
    key, other = dice.choice(list(content)), dice.choice(list(content))
    value = content[key]
    content[key] = dice.choice(
        [value[:0], value[:1], np.concatenate([value, value]), value.reshape(-1), value[None],
         value.astype("f8") * np.nan, value.astype("i8") - 1, value.astype("u1"), content[other],
         np.full_like(value, 1), np.array(3), np.array(["a"]), value.astype("c8")]
    )  # fmt: skip
    return content


def flipped(content, dice):
    content = bytearray(content)
    for _ in range(dice.choice([1, 3])):
        content[dice.randrange(len(content))] ^= dice.randrange(1, 256)
    return bytes(content[: dice.choice([len(content), dice.randrange(len(content))])])


def damage(folder, whole, content, dice):
    """One of five kinds of damage to a stored run."""
    text, archive = json.dumps(whole).encode(), packed(content)
    kind = dice.randrange(5)
    if kind == 0:
        text = flipped(text, dice)
    elif kind == 1:
        archive = flipped(archive, dice)
    elif kind >= 3:
        archive = packed(distorted(content, dice))
    if kind in (2, 4):
        text = json.dumps(changed(whole, dice)).encode()
    (folder / "run.json").write_bytes(text)
    (folder / "arrays.npz").write_bytes(archive)
    if kind != 0 and dice.random() < 0.9:
        digest = hashlib.sha256(archive).hexdigest().encode()
        (folder / "run.json").write_bytes(text.replace(whole[HASH].encode(), digest))


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_run_is_read_or_refused_and_nothing_else(tmp_path, seed):
    """And what is read can be compared with a baseline, accepted, and shown."""
    from harness.errors import HarnessError
    from harness.gate.baseline import Baseline
    from harness.gate.compare import compare
    from harness.gate.junit import as_junit
    from harness.gate.store import summary
    from harness.results.summary import accuracy_tables

    run = synthetic_run(backends=["torch"])
    run.save(tmp_path)
    baseline = Baseline.of(run)
    whole = json.loads((tmp_path / "run.json").read_text())
    dice = random.Random(seed)  # noqa: S311
    complaints, rounds = [], 40
    for _ in range(rounds):
        damage(tmp_path, whole, run.arrays, dice)
        try:
            found = Run.load(tmp_path)
            list(accuracy_tables(found))
            as_junit(compare(found, baseline))
            summary(Baseline.of(found))
        except HarnessError as error:
            complaints.append(str(error))
    assert all(complaint.isprintable() for complaint in complaints)
    assert 0 < len(complaints) < rounds
