"""A run is saved after each measurement: only what is new is packed, and files stay whole."""

import zlib

import numpy as np
import pytest

from harness.results import arrays
from harness.results.arrays import read_arrays, write_arrays
from harness.results.provenance import new_run
from harness.results.run import Run


@pytest.fixture
def packed(monkeypatch):
    """The names of the arrays that are packed, as they are."""
    names, original = [], arrays.zipfile.ZipFile.open

    def noted(self, name, mode="r", **options):
        if mode == "w":
            names.append(name)
        return original(self, name, mode, **options)

    monkeypatch.setattr(arrays.zipfile.ZipFile, "open", noted)
    return names


def noise(seed, count=1000):
    return np.random.default_rng(seed).random(count, dtype=np.float32)


def test_each_array_is_packed_once_however_often_a_run_is_saved(tmp_path, packed):
    run = new_run({"name": "toy"})
    for number in range(20):
        run.arrays[f"a/b/x{number}"] = noise(number)
        run.save(tmp_path)
        found = Run.load(tmp_path)
        assert list(found.arrays) == list(run.arrays)
        for key, values in run.arrays.items():
            np.testing.assert_array_equal(found.arrays[key], values)
    assert packed == [f"a/b/x{number}.npy" for number in range(20)]


def test_what_has_not_changed_is_not_written_again(tmp_path):
    run = new_run({"name": "toy"})
    run.arrays["a/b/x"] = noise(0)
    run.save(tmp_path)
    before = (tmp_path / "arrays.npz").stat()
    run.finished = True
    run.save(tmp_path)
    assert (tmp_path / "arrays.npz").stat() == before
    assert Run.load(tmp_path).finished


@pytest.mark.parametrize("change", ["replaced", "in place", "gone", "dtype", "shape"])
def test_an_array_that_changed_is_what_it_is_now(tmp_path, change):
    run = new_run({"name": "toy"})
    run.arrays.update({"a/b/x": noise(0), "a/b/y": noise(1)})
    run.save(tmp_path)
    run.arrays["a/b/new"] = noise(2)
    if change == "replaced":
        run.arrays["a/b/x"] = noise(3)
    elif change == "in place":
        run.arrays["a/b/x"][7] = 9.0
    elif change == "gone":
        del run.arrays["a/b/x"]
    elif change == "dtype":
        run.arrays["a/b/x"] = run.arrays["a/b/x"].view(np.int32)
    else:
        run.arrays["a/b/x"] = run.arrays["a/b/x"].reshape(10, 100)
    run.save(tmp_path)
    found = Run.load(tmp_path).arrays
    assert found.keys() == run.arrays.keys()
    for key, values in run.arrays.items():
        assert found[key].dtype == values.dtype
        np.testing.assert_array_equal(found[key], values)


@pytest.mark.parametrize("harm", ["cut", "another", "removed", "touched"])
def test_a_file_that_somebody_changed_is_written_anew(tmp_path, harm):
    run = new_run({"name": "toy"})
    run.arrays["a/b/x"] = noise(0)
    run.save(tmp_path)
    path = tmp_path / "arrays.npz"
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:100])
    elif harm == "another":
        write_arrays(path, {"a/b/x": noise(5)})
    elif harm == "removed":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[200] ^= 1
        path.write_bytes(content)
    for step in range(2):
        run.arrays[f"a/b/new{step}"] = noise(step)
        run.save(tmp_path)
        found = Run.load(tmp_path).arrays
        np.testing.assert_array_equal(found["a/b/x"], run.arrays["a/b/x"])


def test_saved_elsewhere_a_run_is_whole_there(tmp_path):
    run = new_run({"name": "toy"})
    run.arrays["a/b/x"] = noise(0)
    run.save(tmp_path / "one")
    run.arrays["a/b/y"] = noise(1)
    run.save(tmp_path / "two")
    run.save(tmp_path / "one")
    for folder in ("one", "two"):
        assert Run.load(tmp_path / folder).arrays.keys() == run.arrays.keys()


def test_a_save_that_breaks_off_leaves_the_file_before(tmp_path, monkeypatch):
    run = new_run({"name": "toy"})
    run.arrays["a/b/x"] = noise(0)
    run.save(tmp_path)
    run.arrays["a/b/y"] = noise(1)
    with monkeypatch.context() as patch:
        patch.setattr(arrays, "_sha256", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run.save(tmp_path)
    assert list(Run.load(tmp_path).arrays) == ["a/b/x"]
    run.save(tmp_path)
    assert list(Run.load(tmp_path).arrays) == ["a/b/x", "a/b/y"]


def test_a_checksum_is_that_of_the_bytes_in_the_file(tmp_path):
    given = {
        "labels": np.arange(5, dtype=np.int16), "a/b/turned": np.asfortranarray(np.eye(3)[:2]),
        "a/b/strided": np.arange(10.0)[::2], "a/b/empty": np.zeros((0, 3)),
    }  # fmt: skip
    written = write_arrays(tmp_path / "arrays.npz", given)
    with arrays.zipfile.ZipFile(tmp_path / "arrays.npz") as archive:
        for member in archive.infolist():
            content = archive.read(member)
            assert written.members[member.filename[:-4]] == (zlib.crc32(content), len(content))
    assert read_arrays(tmp_path / "arrays.npz")[1] == written.digest
