"""Images as PNG, in and out."""

from __future__ import annotations

import base64
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from harness.serve.live import Misfit
from harness.serve.pictures import SIGNATURE, head, image_of, png_of, sides_of

GREY = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)


def text_of(picture, **how):
    stream = io.BytesIO()
    picture.save(stream, "png", **how)
    return base64.b64encode(stream.getvalue()).decode()


def test_a_header_tells_height_and_width():
    text = text_of(Image.fromarray(GREY))
    assert sides_of(text) == sides_of(f"data:image/png;base64,{text}") == (3, 4)
    assert text.startswith(head(3, 4))
    for other in ("", "iVBOR", "!" * 40, "R0lGODlhAQABAAAAACw" * 3, text[:28], "é" * 40):
        assert sides_of(other) is None


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_a_grey_image_is_the_same_in_every_mode(mode):
    text = text_of(Image.fromarray(GREY).convert(mode))
    found = image_of(text, (3, 4), None, (0.0, 1.0))
    assert found.dtype == np.float32
    assert (found == (GREY / 255).astype(np.float32)).all()


def test_what_is_transparent_has_the_colour_below():
    """A canvas on which nothing is drawn yet is black and transparent."""
    text = text_of(Image.new("RGBA", (4, 3), (0, 0, 0, 0)))
    assert (image_of(text, (3, 4), None, (-1.0, 1.0)) == -1).all()


@pytest.mark.parametrize("axis", [0, 2])
def test_channels_lie_where_the_model_has_them(axis):
    colours = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    shape = (3, 3, 4) if axis == 0 else (3, 4, 3)
    found = image_of(text_of(Image.fromarray(colours)), shape, axis, (0.0, 255.0))
    assert (np.moveaxis(found, axis, 2) == colours).all()


@pytest.mark.parametrize("spoil", [lambda t: t[:60], lambda t: t[:40] + "!" + t[41:]])
def test_a_damaged_picture_is_refused(spoil):
    with pytest.raises(Misfit, match="damaged"):
        image_of(spoil(text_of(Image.fromarray(GREY))), (3, 4), None, (0.0, 1.0))


def test_sixteen_bits_are_refused():
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    with pytest.raises(Misfit, match="16 bits"):
        image_of(text_of(deep), (3, 4), None, (0.0, 1.0))


def part_of(kind, content):
    """A part of a PNG, with its length and its sum."""
    tail = kind + content
    return struct.pack(">I", len(content)) + tail + struct.pack(">I", zlib.crc32(tail))


def test_sixteen_bits_of_colour_are_refused():
    header = part_of(b"IHDR", struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0))
    rows = part_of(b"IDAT", zlib.compress(b"\0" * 3 * (1 + 4 * 6)))
    deep = base64.b64encode(SIGNATURE + header + rows + part_of(b"IEND", b"")).decode()
    with pytest.raises(Misfit, match="16 bits"):
        image_of(deep, (3, 4, 3), 2, (0.0, 1.0))


@pytest.mark.parametrize("size", [(12_000, 12_000), (12, 1)])
def test_a_second_header_of_another_size_is_refused_and_not_decoded(size, monkeypatch):
    content = base64.b64decode(text_of(Image.fromarray(GREY)))
    end = len(SIGNATURE) + 25
    second = part_of(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    twice = base64.b64encode(content[:end] + second + content[end:]).decode()
    assert sides_of(twice) == (3, 4)
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(Misfit, match="several headers"):
        image_of(twice, (3, 4), None, (0.0, 1.0))


@pytest.mark.parametrize("kind", [b"IDAT", b"IHDR"])
def test_a_changed_byte_is_noticed(kind):
    content = bytearray(base64.b64decode(text_of(Image.fromarray(GREY))))
    content[content.index(kind) + 12] ^= 1
    with pytest.raises(Misfit, match="damaged"):
        image_of(base64.b64encode(content).decode(), (3, 4), None, (0.0, 1.0))


def test_two_channels_are_no_picture():
    with pytest.raises(Misfit, match="2 channels"):
        image_of(text_of(Image.fromarray(GREY)), (3, 4, 2), 2, (0.0, 1.0))
    with pytest.raises(Misfit, match="2 channels"):
        png_of([np.zeros((3, 4, 2))], 2, (0.0, 1.0))


def test_a_text_of_megabytes_in_a_small_picture_is_refused():
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("comment", "x" * (80 << 20), zip=True)
    text = text_of(Image.fromarray(GREY), pnginfo=info)
    assert len(text) < 1_000_000
    with pytest.raises(Misfit, match="damaged"):
        image_of(text, (3, 4), None, (0.0, 1.0))


def test_images_and_back():
    images = [GREY / 255, 1 - GREY / 255]
    text = base64.b64encode(png_of(images, None, (0.0, 1.0))).decode()
    assert sides_of(text) == (3, 8)
    drawn = image_of(text, (3, 8), None, (0.0, 1.0))
    assert drawn == pytest.approx(np.concatenate(images, axis=1), abs=1e-6)


def test_a_mask_is_tinted_and_the_rest_is_grey():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    drawn = np.asarray(Image.open(io.BytesIO(png_of([GREY / 255], None, (0.0, 1.0), [mask]))))
    assert (drawn[~mask] == GREY[~mask][:, None]).all()
    assert drawn[mask].tolist() == [[(120 + 255) // 2, (120 + 96) // 2, 60]]
