"""A folder of images: what is read of it, what is said, and what is refused."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from harness.data import images
from harness.data.folder import read_folder
from harness.data.own import own_data
from harness.errors import DataError

UNIT, BYTE = (0.0, 1.0), (0.0, 255.0)
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 4, 5), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (6, 4, 5, 3), dtype=np.uint8)
DIVIDED = "pixels of the image files were divided by 255"


def written(folder, pixels, classes=("bird", "cat")):
    """Images in turn in the folders of the classes."""
    for index, one in enumerate(pixels):
        path = folder / classes[index % len(classes)] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(path)
    return folder


def by_sum(x, y):
    """Images and labels in an order that does not depend on the one that was drawn."""
    x = np.asarray(x)
    order = np.argsort(x.reshape(len(x), -1).sum(axis=1), kind="stable")
    return x[order], np.asarray(y)[order]


def check(found, pixels, labels):
    x, y = by_sum(found[0], found[1])
    expected_x, expected_y = by_sum(pixels, labels)
    np.testing.assert_array_equal(x, expected_x)
    np.testing.assert_array_equal(y, expected_y)
    assert x.dtype == np.float32
    return found


def refused(*given, **more):
    with pytest.raises(DataError) as caught:
        read_folder(*given, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("memory", [1, 1 << 20])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_images_and_labels(monkeypatch, tmp_path, pixels, memory):
    monkeypatch.setattr(images, "IN_MEMORY", memory)
    monkeypatch.setattr(images, "CHUNK", 1)
    found = read_folder(written(tmp_path, pixels), UNIT)
    check(found, pixels.astype(np.float32) / np.float32(255), [0, 1, 0, 1, 0, 1])
    assert found[2:] == (("bird", "cat"), (DIVIDED,))
    check(read_folder(tmp_path, BYTE), pixels, [0, 1, 0, 1, 0, 1])
    assert read_folder(tmp_path, BYTE)[3] == ()


def test_the_first_images_are_of_all_classes(tmp_path):
    pixels = RANDOM.integers(0, 256, (60, 2, 2), dtype=np.uint8)
    _, y, *_ = read_folder(written(tmp_path, pixels), UNIT)
    assert 5 < y[:20].sum() < 15
    np.testing.assert_array_equal(y, read_folder(tmp_path, UNIT)[1])


@pytest.mark.parametrize(
    ("axis", "shape"), [(None, (4, 5, 3)), (0, (3, 4, 5)), (2, (4, 5, 3)), (-1, (4, 5, 3))]
)
def test_channels_lie_where_they_are_wanted(tmp_path, axis, shape):
    x = np.asarray(read_folder(written(tmp_path / "c", COLOUR), BYTE, channel_axis=axis)[0])
    assert x.shape[1:] == shape
    whole = x if axis is None else np.moveaxis(x, axis + 1 if axis >= 0 else axis, -1)
    check((whole, np.zeros(6)), COLOUR, np.zeros(6))
    grey = read_folder(written(tmp_path / "g", GREY), BYTE, channel_axis=axis)[0]
    assert grey.shape[1:] == {None: (4, 5), 0: (1, 4, 5)}.get(axis, (4, 5, 1))


def test_grey_among_colour_becomes_colour_and_it_is_said(tmp_path):
    written(tmp_path, COLOUR)
    Image.fromarray(GREY[0]).save(tmp_path / "cat" / "grey.png")
    x, _, _, notes = read_folder(tmp_path, BYTE)
    assert notes == ("1 of 7 images are grey, and were given three equal channels",)
    as_colour = np.repeat(GREY[:1, :, :, None], 3, axis=3)
    check((x, np.zeros(7)), np.concatenate([COLOUR, as_colour]), np.zeros(7))


def test_sixteen_bits_keep_all_of_them(tmp_path):
    deep = RANDOM.integers(0, 65536, (6, 4, 5), dtype=np.uint16)
    written(tmp_path, deep)
    found = read_folder(tmp_path, UNIT)
    check(found, deep.astype(np.float32) / np.float32(65535), [0, 1, 0, 1, 0, 1])
    assert found[3] == ("pixels of the image files were divided by 65535",)
    Image.fromarray(GREY[0]).save(tmp_path / "cat" / "8bits.png")
    mixed = np.concatenate([deep / 65535, GREY[:1] / 255]).astype(np.float32)
    x = np.asarray(read_folder(tmp_path, UNIT)[0])
    np.testing.assert_allclose(by_sum(x, np.zeros(7))[0], by_sum(mixed, np.zeros(7))[0], atol=1e-7)


def test_images_are_resized_and_it_is_said(tmp_path):
    pixels = np.full((6, 4, 6), 80, np.uint8)
    written(tmp_path, pixels)
    Image.fromarray(np.full((8, 8), 80, np.uint8)).save(tmp_path / "cat" / "large.png")
    said = refused(tmp_path, BYTE)
    assert "is 8 × 8, and " in said or "is 4 × 6, and " in said
    assert "say to which size all are to be brought: size = [" in said
    x, _, _, notes = read_folder(tmp_path, BYTE, (4, 6))
    assert x.shape == (7, 4, 6)
    assert notes == ("1 of 7 images were resized to 4 × 6 (bilinear)",)
    np.testing.assert_array_equal(np.asarray(x), 80)


def test_an_opaque_alpha_channel_goes_and_a_transparent_one_is_refused(tmp_path):
    written(tmp_path, COLOUR)
    opaque = np.concatenate([COLOUR[0], np.full((4, 5, 1), 255, np.uint8)], axis=2)
    Image.fromarray(opaque).save(tmp_path / "cat" / "a.png")
    x, _, _, notes = read_folder(tmp_path, BYTE)
    assert notes == ("1 of 7 images with an alpha channel, which hides nothing, lost it",)
    check((x, np.zeros(7)), np.concatenate([COLOUR, COLOUR[:1]]), np.zeros(7))
    opaque[1, 1, 3] = 0
    Image.fromarray(opaque).save(tmp_path / "cat" / "a.png")
    assert refused(tmp_path, BYTE) == (
        f"{tmp_path}/cat/a.png: is transparent in places; put it on a background first"
    )


def test_cmyk_becomes_rgb_and_it_is_said(tmp_path):
    written(tmp_path, COLOUR)
    grey = Image.fromarray(np.full((4, 5, 3), 128, np.uint8))
    grey.convert("CMYK").save(tmp_path / "cat" / "print.jpg")
    x, _, _, notes = read_folder(tmp_path, BYTE)
    assert notes == ("1 of 7 images in CMYK became RGB",)
    assert x.shape == (7, 4, 5, 3)


def test_classes_say_the_order_of_the_labels(tmp_path):
    written(tmp_path, GREY)
    _, plain, *_ = read_folder(tmp_path, BYTE)
    _, turned, names, _ = read_folder(tmp_path, BYTE, classes=["cat", "dog", "bird"])
    np.testing.assert_array_equal(turned, np.array([2, 0])[plain])
    assert names == ("cat", "dog", "bird")
    _, renamed, names, _ = read_folder(tmp_path, BYTE, classes=["Vogel", "Katze"])
    np.testing.assert_array_equal(renamed, plain)
    assert names == ("Vogel", "Katze")
    assert refused(tmp_path, BYTE, classes=["bird", "dog"]).startswith(
        f"{tmp_path}/cat: is none of the classes, bird, dog; name all subfolders"
    )


def test_a_training_folder_has_the_labels_of_the_test_folder(tmp_path):
    written(tmp_path / "test", GREY, ("bird", "cat"))
    written(tmp_path / "train", GREY[1:4], ("cat", "bird"))
    data = own_data(folder=tmp_path / "test", train=tmp_path / "train", bounds=BYTE)
    check((data.train_x, data.train_y), GREY[1:4], [1, 0, 1])
    assert data.classes == ("bird", "cat")


def hidden(folder):
    (folder / ".cache").mkdir()
    (folder / "cat" / ".DS_Store").write_bytes(b"x")
    (folder / "cat" / "about.txt").write_text("x")
    (folder / "about.txt").write_text("x")


def test_what_is_no_image_is_left_out(tmp_path):
    hidden(written(tmp_path, GREY))
    (tmp_path / "cat" / "LOUD.PNG").write_bytes((tmp_path / "cat" / "1.png").read_bytes())
    (tmp_path / "dog").symlink_to(tmp_path / "cat")
    found = read_folder(tmp_path, BYTE)
    assert (len(found[1]), found[2]) == (11, ("bird", "cat", "dog"))


def chunk(kind, data):
    body = kind + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


BOMB = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"\0" * 99))
    + chunk(b"IEND", b"")
)


def spoiled(path, change):
    path.write_bytes(change(path.read_bytes()))


SPOILED = {
    "text": ("cat/1.png", lambda _: b"no image", "cat/1.png: is no PNG or JPEG, or damaged ("),
    "cut off": ("cat/1.png", lambda b: b[:60], "cat/1.png: is no PNG or JPEG, or damaged ("),
    "empty": ("cat/1.png", lambda _: b"", "cat/1.png: is no PNG or JPEG, or damaged ("),
    "a bomb": ("cat/1.png", lambda _: BOMB, "cat/1.png: has more than 89,478,485 pixels; scale"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_broken_file_is_named(tmp_path, kind):
    written(tmp_path, GREY)
    file, change, said = SPOILED[kind]
    spoiled(tmp_path / file, change)
    assert refused(tmp_path, UNIT, (4, 5)).startswith(f"{tmp_path}/{said}")


def moved(folder, source, target):
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    (folder / source).rename(folder / target)


LAID_OUT = {
    "an image in no class": (
        lambda f: moved(f, "cat/1.png", "1.png"), "/1.png: lies in no class; put each image into"),
    "an empty class": (
        lambda f: (f / "dog").mkdir(), "/dog: holds no images, .png or .jpg; add some, or remove"),
    "another format": (
        lambda f: moved(f, "cat/1.png", "cat/1.bmp"), "/cat/1.bmp: is no PNG or JPEG; convert it"),
    "a folder in a class": (
        lambda f: (f / "cat" / "more").mkdir(), "/cat/more: is a folder in that of a class; move"),
    "one class": (
        lambda f: moved(f, "bird", ".bird"), ": has one subfolder, cat; it needs one for each of"),
    "parts": (
        lambda f: [moved(f, "bird", "train"), moved(f, "cat", "test")],
        ": its subfolders are parts of a dataset, no classes; name "),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAID_OUT)
def test_a_folder_that_is_laid_out_otherwise(tmp_path, kind):
    change, said = LAID_OUT[kind]
    change(written(tmp_path, GREY))
    assert refused(tmp_path, UNIT).startswith(f"{tmp_path}{said}")


def test_folders_that_are_none(tmp_path):
    assert refused(tmp_path / "no", UNIT) == f"{tmp_path}/no: there is no such folder"
    (tmp_path / "file").write_text("x")
    assert refused(tmp_path / "file", UNIT) == f"{tmp_path}/file: is a file; name the folder"
    assert refused(tmp_path, UNIT).startswith(f"{tmp_path}: has no subfolders; it needs one")
    said = refused(written(tmp_path / "c", GREY), (-1.0, 1.0))
    assert "the bounds of images in files are [0, 1] or [0, 255], not [-1.0, 1.0]" in said
