"""Test images in an ``.npz``, in memory or read in place, and files that cannot be taken."""

from __future__ import annotations

import struct
import zipfile

import numpy as np
import pytest

from harness.data import arrays, images, npz
from harness.data.images import Stored
from harness.data.own import from_npz
from harness.errors import HarnessError

UNIT = (0.0, 1.0)
BYTES = np.random.default_rng(0).integers(0, 256, (9, 4, 3), dtype=np.uint8)
BYTES[0, 0, 0] = 255
FLOATS = BYTES.astype(np.float32) / np.float32(255)
Y = np.arange(9) % 3
SAVE = {"stored": np.savez, "packed": np.savez_compressed}


@pytest.fixture
def in_place(monkeypatch):
    for module in (arrays, images, npz):
        monkeypatch.setattr(module, "IN_MEMORY", 8)
    for module in (images, npz):
        monkeypatch.setattr(module, "CHUNK", 50)


def refused(path, bounds=UNIT):
    with pytest.raises(HarnessError) as caught:
        from_npz(path, bounds)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    return said.removeprefix(str(path))


@pytest.mark.parametrize("save", SAVE)
@pytest.mark.parametrize("pixels", [BYTES, FLOATS, FLOATS.astype(np.float64), FLOATS.astype(">f4")])
def test_images_are_read_in_place(in_place, tmp_path, save, pixels):
    path = tmp_path / "t.npz"
    SAVE[save](path, other=np.zeros(3), x=pixels, y=Y)
    data = from_npz(path, UNIT)
    assert isinstance(data.x, Stored)
    expected = FLOATS if pixels.dtype == np.uint8 else pixels
    np.testing.assert_array_equal(np.asarray(data.x), expected)
    np.testing.assert_array_equal(np.asarray(data.x[[7, 2]]), expected[[7, 2]])
    assert data.x.dtype == (np.float64 if pixels.dtype == np.float64 else np.float32)
    np.testing.assert_array_equal(data.y, Y)


@pytest.mark.parametrize("save", SAVE)
def test_few_images_are_an_array(tmp_path, save):
    path = tmp_path / "t.npz"
    SAVE[save](path, x=BYTES, y=Y)
    data = from_npz(path, UNIT)
    assert isinstance(data.x, np.ndarray)
    np.testing.assert_array_equal(data.x, FLOATS)
    assert data.notes == ("bytes were divided by 255, for the bounds [0, 1]",)


def test_images_in_fortrans_order_are_right_too(in_place, tmp_path):
    np.savez(tmp_path / "t.npz", x=np.asfortranarray(BYTES), y=Y)
    np.testing.assert_array_equal(np.asarray(from_npz(tmp_path / "t.npz", UNIT).x), FLOATS)


def test_a_second_process_may_replace_the_file_meanwhile(in_place, tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, x=BYTES, y=Y)
    data = from_npz(path, UNIT)
    np.savez(tmp_path / "new.npz", x=BYTES[::-1], y=Y)
    (tmp_path / "new.npz").replace(path)
    np.testing.assert_array_equal(np.asarray(data.x), FLOATS)


@pytest.mark.parametrize(
    "names",
    [("x", "y"), ("X", "Y"), ("images", "labels"), ("x_test", "y_test"), ("arr_0", "arr_1"),
     ("test_images", "test_labels")],
    ids="/".join,
)  # fmt: skip
def test_names_of_test_images(tmp_path, names):
    np.savez(tmp_path / "t.npz", **dict(zip(names, (BYTES, Y), strict=True)))
    np.testing.assert_array_equal(from_npz(tmp_path / "t.npz", UNIT).x, FLOATS)


def test_a_training_part_and_names_of_classes(tmp_path):
    np.savez(
        tmp_path / "t.npz", train_images=BYTES[:2], train_labels=Y[:2, None],
        test_images=BYTES, test_labels=Y[:, None], classes=["cat", "dog", "bird"],
    )  # fmt: skip
    data = from_npz(tmp_path / "t.npz", UNIT)
    assert data.classes == ("cat", "dog", "bird")
    np.testing.assert_array_equal(data.train_x, FLOATS[:2])
    np.testing.assert_array_equal(data.train_y, Y[:2])
    np.testing.assert_array_equal(data.y, Y)


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ({"a": BYTES, "b": Y}, ": has no images and labels named x and y; it holds a, b"),
        ({"images": BYTES, "names": Y}, ": has images, images, but no labels for them, labels; it"),
        ({"x_train": BYTES, "y_train": Y}, ": has no images and labels named x and y; it holds x_"),
        ({}, ": has no images and labels named x and y; it holds nothing"),
        ({"x": BYTES, "y": Y[:5]}, ": x has 9 images, but y has 5 labels"),
        ({"x": BYTES.astype(int), "y": Y}, ": x: pixels are int64; pass floats"),
        ({"x": np.where(FLOATS > 0.9, np.nan, FLOATS), "y": Y}, ": x: holds NaN"),
        ({"x": FLOATS + 1, "y": Y}, ": x: pixels span [1"),
        ({"x": BYTES, "y": np.eye(3)[Y]}, ": y: float64 of shape (9, 3) is not (n,) integer "
         "labels; for one-hot labels pass y.argmax(axis=1)"),
        ({"x": np.array([BYTES, 3], dtype=object), "y": Y}, ": x: holds Python objects, as a "
         "pickle, which is not loaded"),
        ({"x": BYTES, "y": np.array([None] * 9)}, ": y: holds Python objects, as a pickle"),
        ({"x": np.array(["a"] * 9), "y": Y}, ": x: "),
        ({"x": FLOATS[0, 0, 0], "y": Y}, ": x: the shape () is not"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("large", [False, True])
def test_what_is_not_there_or_does_not_fit(request, tmp_path, stored, said, large):
    if large:
        request.getfixturevalue("in_place")
    np.savez(tmp_path / "t.npz", **stored)
    assert refused(tmp_path / "t.npz").startswith(said)


def test_files_that_are_none(tmp_path):
    assert refused(tmp_path / "t.npz") == ": there is no such file"
    (tmp_path / "t.npz").write_bytes(b"no zip")
    assert refused(tmp_path / "t.npz").startswith(
        ": is no .npz (File is not a zip file); write one"
    )
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as archive:
        archive.writestr("x.npy", b"no array")
        archive.writestr("y.npy", b"no array")
    assert refused(tmp_path / "t.npz").startswith(": y: is damaged, or no array (")


@pytest.mark.parametrize("save", SAVE)
def test_a_flipped_bit_is_found_in_place_too(in_place, tmp_path, save):
    path = tmp_path / "t.npz"
    SAVE[save](path, y=Y, x=BYTES)
    damaged = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("x.npy")
    damaged[info.header_offset + 30 + len("x.npy") + info.compress_size - 5] ^= 1
    path.write_bytes(damaged)
    assert refused(path).startswith(": x: is damaged")


@pytest.mark.parametrize("pack", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_that_claims_an_absurd_size_takes_no_memory(tmp_path, pack):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1000, 1000), }"
    body = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + b"\0" * 99
    with zipfile.ZipFile(tmp_path / "t.npz", "w", pack) as archive:
        archive.writestr("x.npy", body)
        np.save(buffer := archive.open("y.npy", "w"), Y)
        buffer.close()
    assert "is damaged: its length is not that of the shape (1000000000, 1000, 1000)" in refused(
        tmp_path / "t.npz"
    )


def test_a_bomb_is_not_unpacked(in_place, monkeypatch, tmp_path):
    np.savez_compressed(tmp_path / "t.npz", x=np.zeros((9, 1000, 100), np.uint8), y=Y)
    monkeypatch.setattr(images, "SPARE", 1 << 60)
    monkeypatch.setattr(npz, "temporary", lambda name: pytest.fail("it was begun"))
    assert "GiB are to be unpacked, and" in refused(tmp_path / "t.npz")


@pytest.mark.parametrize("pack", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_packing_is_refused(tmp_path, pack):
    with zipfile.ZipFile(tmp_path / "t.npz", "w", pack) as archive:
        for name, array in (("x", BYTES), ("y", Y)):
            np.save(buffer := archive.open(f"{name}.npy", "w"), array)
            buffer.close()
    assert refused(tmp_path / "t.npz").startswith(": y: is packed in an unusual way; use np.savez")
