"""Images that are not in memory behave like the array that they stand for."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data import images as stored
from harness.data.images import Held, OpenFile, Spool, Stored, held
from harness.errors import DataError
from harness.maths.images import Chosen

RAW = np.random.default_rng(0).integers(0, 256, (23, 3, 4), dtype=np.uint8)
FLOATS = RAW.astype(np.float32) / np.float32(255)
KINDS = ("held", "stored", "chosen", "chosen of chosen")


def lazy(kind, folder):
    if kind == "held":
        return Held(RAW, 255)
    if kind == "stored":
        path = folder / "pixels"
        path.write_bytes(b"before " + RAW.tobytes())
        return Stored(OpenFile(path.open("rb", buffering=0)), 7, RAW.shape, RAW.dtype, 255)
    backwards = np.arange(len(RAW))[::-1]
    once = Chosen(FLOATS[backwards], backwards)
    return once if kind == "chosen" else Chosen(Chosen(once, backwards), backwards)


@pytest.fixture(params=KINDS)
def found(request, tmp_path):
    return lazy(request.param, tmp_path)


def test_shape_and_dtype_are_those_of_the_floats(found):
    assert (found.shape, found.dtype, found.ndim) == (FLOATS.shape, FLOATS.dtype, 3)
    assert (len(found), found.nbytes) == (23, FLOATS.nbytes)


def test_the_whole_is_the_array(found):
    np.testing.assert_array_equal(np.asarray(found), FLOATS)
    assert np.asarray(found).dtype == np.float32
    assert np.asarray(found, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.stack(list(found)), FLOATS)


@pytest.mark.parametrize(
    "key",
    [
        slice(None), slice(5), slice(3, 9), slice(20, 99), slice(None, None, 5), slice(9, 9),
        slice(None, None, -1), slice(-4, None), np.array([4, 0, 4, 22]), [7, 8, 9, 1], [-1, -23],
        np.arange(23) % 3 == 0, np.zeros(0, dtype=int), [], 0, -1, np.int64(11), np.uint8(3),
    ],
    ids=str,
)  # fmt: skip
def test_parts_are_those_of_the_array(found, key):
    np.testing.assert_array_equal(np.asarray(found[key]), FLOATS[key])
    assert np.asarray(found[key]).dtype == np.float32


def test_a_slice_is_not_read_and_can_be_sliced_again(found):
    part = found[4:20]
    assert not isinstance(part, np.ndarray)
    np.testing.assert_array_equal(np.asarray(part[3:][[1, 0]]), FLOATS[4:20][3:][[1, 0]])


@pytest.mark.parametrize("key", [23, -24, [0, 23], [[0]], 1.5, "a", (0, 1)], ids=str)
def test_a_position_of_no_image(found, key):
    with pytest.raises((IndexError, TypeError)):
        found[key]


def test_what_is_read_is_a_copy(found):
    for key in (slice(0, 5), [0, 1, 2]):
        np.asarray(found[key])[...] = 9
    np.testing.assert_array_equal(np.asarray(found), FLOATS)


@given(st.lists(st.integers(0, 22), max_size=30))
def test_rows_are_read_from_a_file_in_any_order(tmp_path_factory, rows):
    found = lazy("stored", tmp_path_factory.mktemp("rows"))
    np.testing.assert_array_equal(found.read(np.array(rows, dtype=np.int64)), FLOATS[rows])


def test_several_threads_may_read_one_file(tmp_path):
    found, wrong = lazy("stored", tmp_path), []

    def reads():
        for row in range(23):
            if not np.array_equal(found[row], FLOATS[row]):
                wrong.append(row)

    threads = [threading.Thread(target=reads) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_file_that_has_become_shorter(tmp_path):
    found = lazy("stored", tmp_path)
    (tmp_path / "pixels").write_bytes(b"before")
    with pytest.raises(DataError, match="has become shorter while it was read"):
        np.asarray(found)


def test_floats_in_memory_are_not_copied():
    assert held(FLOATS) is FLOATS


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.uint8, np.float32), (np.uint16, np.float32), (np.float16, np.float32),
        (">f4", np.float32), (np.float64, np.float64), (np.longdouble, np.float64),
    ],
)  # fmt: skip
@pytest.mark.parametrize("large", [False, True])
def test_other_types_become_floats(monkeypatch, dtype, expected, large):
    monkeypatch.setattr(stored, "IN_MEMORY", 8 if large else 1 << 20)
    raw = RAW.astype(dtype)
    found = held(raw)
    assert found.dtype == expected
    np.testing.assert_array_equal(np.asarray(found), RAW)
    assert not (large and isinstance(found, np.ndarray) and found.dtype != raw.dtype)


@pytest.mark.parametrize("memory", [1, 300, 1 << 20])
@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_a_spool_gives_back_what_it_was_given(monkeypatch, tmp_path, memory, chunk):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(stored, "IN_MEMORY", memory)
    monkeypatch.setattr(stored, "CHUNK", chunk)
    spool = Spool("images")
    for start in range(0, 23, 5):
        spool.add(np.asfortranarray(RAW[start : start + 5]))
    found = spool.images(255)
    assert isinstance(found, np.ndarray) == (memory > FLOATS.nbytes)
    np.testing.assert_array_equal(np.asarray(found), FLOATS)
    np.testing.assert_array_equal(np.asarray(found[3:9]), FLOATS[3:9])
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]  # nothing has a name


def test_a_disk_without_room_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("HARNESS_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(stored, "IN_MEMORY", 1)
    monkeypatch.setattr(stored, "CHUNK", 1)
    monkeypatch.setattr(stored, "SPARE", 1 << 60)
    with pytest.raises(DataError, match="GiB; set HARNESS_CACHE_DIR to a folder with room"):
        Spool("images").add(RAW)
