"""Devices by the names that the harness has for them, and those that TensorFlow has."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tensorflow as tf

from harness.errors import BackendError

OURS = re.compile(r"(cpu|cuda)(?::(\d+))?")
THEIRS = re.compile(r"(CPU|GPU):(\d+)$")
KINDS = {"cpu": "CPU", "cuda": "GPU"}


def placed(device: str | None) -> str | None:
    """TensorFlow's name of a device, such as ``GPU:1`` for ``cuda:1``; None for none.

    Raises:
        BackendError: There is no such device, here or at all; the message says which there are.
    """
    if device is None:
        return None
    if device == "mps":
        raise BackendError("device: mps is PyTorch's; with Keras and TensorFlow say cpu or cuda")
    there = [_ours(each.name) for each in tf.config.list_logical_devices()]
    known = ", ".join(name for name in there if name)
    found = OURS.fullmatch(device)
    if found is None:
        raise BackendError(f"device: {device!r} is none of cpu, cuda, cuda:N; there is {known}")
    number = int(found[2] or 0)
    if _ours(f"{KINDS[found[1]]}:{number}") not in there:
        raise BackendError(f"device: {device} is not here; there is {known}")
    return f"{KINDS[found[1]]}:{number}"


def device_of(variables: list[Any], place: str | None) -> str:
    """Where a network is computed: on a device that somebody has said, or where its weights are."""
    if place is not None:
        return _ours(place)
    for variable in variables:
        held = getattr(variable, "value", variable)  # of keras.Variable
        name = _ours(str(getattr(held, "device", "") or getattr(variable, "device", "")))
        if name:
            return name
    return _ours(tf.config.list_logical_devices()[-1].name) or "cpu"


def _ours(name: str) -> str:
    """Our name of ``/device:GPU:1``; of the first of a kind without its number, as people say."""
    found = THEIRS.search(name)
    if found is None:
        return ""
    kind = "cpu" if found[1] == "CPU" else "cuda"
    return kind if kind == "cpu" and found[2] == "0" else f"{kind}:{found[2]}"


def on(device: str | None) -> AbstractContextManager[Any]:
    """What is made within is on the device; wherever TensorFlow likes it for None.

    Raises:
        BackendError: See ``placed``.
    """
    place = placed(device)
    where: AbstractContextManager[Any] = nullcontext() if place is None else tf.device(place)
    return where
