"""Which axis of an image holds its channels."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.protocol import Model

COLOURS = (1, 3, 4)
"""Channels of images that people have: grey, colour, colour with an alpha or infrared channel."""


def guessed_axis(shape: tuple[int, ...], channels: int | None = None) -> int | None:
    """The axis of one image that holds its channels, where its shape leaves no doubt; else None.

    Args:
        shape: Of one image: (h, w), (c, h, w), (h, w, c), or flat (d,).
        channels: How many there are, where that is known; else one of ``COLOURS``.
    """
    if len(shape) != 3:
        return None
    if channels is not None:
        found = [axis for axis in (0, 2) if shape[axis] == channels]
    else:
        found = [
            axis for axis in (0, 2)
            if shape[axis] in COLOURS and shape[axis] < min(shape[1], shape[2 - axis])
        ]  # fmt: skip
    return found[0] if len(found) == 1 else None


def axis_of(shape: tuple[int, ...], said: int | None, channels: int | None = None) -> int | None:
    """The channel axis that somebody has said, from 0; or the guessed one.

    Raises:
        HarnessError: The image has no such axis, or it is not as long as there are channels.
    """
    if said is None:
        return guessed_axis(shape, channels)
    if not -len(shape) <= said < len(shape):
        raise HarnessError(f"channel_axis: {said} is no axis of images of shape {shape}")
    axis = said % len(shape)
    if channels is not None and shape[axis] != channels:
        raise HarnessError(
            f"channel_axis: axis {said} of images of shape {shape} holds {shape[axis]} channels, "
            f"not {channels}"
        )
    return axis


def channel_axis_of(model: Model, shape: tuple[int, ...]) -> int | None:
    """The axis that a model says of itself, from 0; or the guessed one."""
    said: int | None = getattr(model, "channel_axis", None)
    return axis_of(shape, said)
