"""Images as PNG, in and out: bytes from 0 to 255 are the range of the pixels."""

from __future__ import annotations

import base64
import binascii
import io
import struct
import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.protocol import BoolArray, Bounds, FloatArray
from harness.serve.live import Misfit, plane_of

PREFIX = "data:image/png;base64,"
"""What a browser puts in front of a picture; it may be there."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
DEPTH = 24
"""Where the bits of a channel are said."""
TINT = (255, 96, 0)
"""The colour that is laid over the pixels of a mask."""
MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
"""Kinds of pixels, as Pillow calls them, of at most eight bits a channel."""


def head(height: int, width: int) -> str:
    """What the base64 of every PNG of that size begins with: signature, and header up to sides."""
    return base64.b64encode(SIGNATURE + struct.pack(">I4sII", 13, b"IHDR", width, height)).decode()


def sides_of(text: str) -> tuple[int, int] | None:
    """Height and width that the base64 of a PNG claims; None of anything else."""
    try:
        start = base64.b64decode(text.removeprefix(PREFIX)[:32], validate=True)
    except (ValueError, binascii.Error):
        return None
    if len(start) < 24 or start[:8] != SIGNATURE or start[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", start[16:24])
    return height, width


def image_of(
    text: str, shape: tuple[int, ...], channel_axis: int | None, bounds: Bounds
) -> FloatArray:
    """The image that the base64 of a PNG holds, in the layout and the range of a model's pixels.

    Args:
        text: Base64 of a PNG that claims the right size, as ``sides_of`` tells; a browser's
            ``data:image/png;base64,`` may be in front of it.
        shape: Of the image.
        channel_axis: Its axis of channels, if it has one.
        bounds: What the bytes 0 and 255 become.

    Returns:
        Of that shape, float32.

    Raises:
        Misfit: It is damaged, or of pixels that are not read.
    """
    height, width = plane_of(shape, channel_axis)
    channels = 1 if channel_axis is None else shape[channel_axis]
    if channels not in (1, 3):
        raise Misfit(f"has {channels} channels, which PNG has not; send numbers")
    try:
        content = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error) as error:
        raise Misfit("is a PNG that is damaged: it is no base64 up to its end") from error
    pixels = _decoded(content, "L" if channels == 1 else "RGB", (width, height))
    if channel_axis is not None:
        pixels = np.moveaxis(pixels.reshape(height, width, channels), 2, channel_axis)
    low, high = bounds
    scaled: FloatArray = (low + (high - low) * (pixels.reshape(shape) / 255.0)).astype(np.float32)
    return scaled


def _decoded(content: bytes, mode: str, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """The pixels of a PNG of that width and height; transparency is ignored."""
    from PIL import Image

    def opened() -> Image.Image:
        return Image.open(io.BytesIO(content), formats=("PNG",))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with opened() as picture:
                # A later header counts for Pillow, and may claim any size. Nothing is decoded yet.
                if picture.size != size:
                    raise Misfit("is a PNG that is damaged: it has several headers")
                if picture.mode not in MODES or content[DEPTH] > 8:
                    raise Misfit("is a PNG of 16 bits a channel, which is not read; save it with 8")
                picture.verify()  # the sums of its parts, after which it has to be opened anew
            with opened() as picture:
                return np.asarray(picture.convert("RGBA").convert(mode))
    except Misfit:
        raise
    except Exception as error:  # Pillow raises several of its own
        raise Misfit("is a PNG that is damaged") from error


def png_of(
    images: Sequence[FloatArray],
    channel_axis: int | None,
    bounds: Bounds,
    masks: Sequence[BoolArray] = (),
) -> bytes:
    """Images beside each other as one PNG, a pixel for a pixel, rounded to bytes.

    Args:
        images: Each in the shape of an image.
        channel_axis: The axis of channels, if there is one.
        bounds: What becomes black and white.
        masks: For each image the pixels that are tinted, (height, width); none if empty.

    Raises:
        Misfit: The images have other than one or three channels.
    """
    from PIL import Image

    low, high = bounds
    drawn = []
    for place, image in enumerate(images):
        channels = 1 if channel_axis is None else image.shape[channel_axis]
        if channels not in (1, 3):
            raise Misfit(f"images of {channels} channels are no pictures; ask for JSON")
        laid = image if channel_axis is None else np.moveaxis(image, channel_axis, 2)
        laid = laid.reshape(*plane_of(image.shape, channel_axis), channels)
        scaled = np.clip((laid.astype(np.float64) - low) / (high - low), 0.0, 1.0)
        pixels = np.rint(255 * scaled)
        if masks:
            pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3)).copy()
            pixels[masks[place]] = (pixels[masks[place]] + np.array(TINT)) / 2
        drawn.append(pixels.astype(np.uint8))
    strip = np.concatenate(drawn, axis=1)
    stream = io.BytesIO()
    Image.fromarray(strip[:, :, 0] if strip.shape[2] == 1 else strip).save(stream, "png")
    return stream.getvalue()
