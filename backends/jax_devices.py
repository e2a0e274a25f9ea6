"""Devices by the names that the harness has for them, and those that JAX has."""

from __future__ import annotations

import re

import jax

from harness.errors import BackendError

OURS = re.compile(r"(cpu|cuda|tpu)(?::(\d+))?")
PLATFORMS = {"cpu": "cpu", "cuda": "gpu", "tpu": "tpu"}


def device_named(name: str | None) -> jax.Device:
    """The device of that name: ``cpu``, ``cuda``, ``cuda:1``, ``tpu``; JAX's first for None.

    Raises:
        BackendError: There is no such device, here or at all; the message says which there are.
    """
    if name is None:
        return jax.local_devices()[0]
    if name == "mps":
        raise BackendError("device: mps is PyTorch's; with JAX say cpu, cuda or tpu")
    found = OURS.fullmatch(name)
    there = {kind: _devices(platform) for kind, platform in PLATFORMS.items()}
    number = int(found[2] or 0) if found else 0
    if found is None or number >= len(there[found[1]]):
        known = ", ".join(name_of(device) for devices in there.values() for device in devices)
        what = "is not here" if found else "is none of cpu, cuda, cuda:N, tpu"
        raise BackendError(f"device: {name} {what}; there is {known}")
    return there[found[1]][number]


def name_of(device: jax.Device) -> str:
    """Our name of a device; of the first of a kind without its number, as people say."""
    kinds = {platform: kind for kind, platform in PLATFORMS.items()}
    kind = kinds.get(device.platform, device.platform)
    place = _devices(device.platform).index(device)
    return f"{kind}:{place}" if place else kind


def _devices(platform: str) -> list[jax.Device]:
    """Those of a platform that this process may use; none if it has no such platform."""
    try:
        return list(jax.local_devices(backend=platform))
    except RuntimeError:
        return []
