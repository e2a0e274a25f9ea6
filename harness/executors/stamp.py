"""What must be alike where pieces of one run are measured: versions, code, data."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import robustness_harness

PACKAGES = ("harness", "backends")
"""Whose sources decide what is measured; tests, suites and pages change no number."""


@dataclass(frozen=True)
class Stamp:
    """Where numbers come from, in plain strings that can be sent, stored and compared.

    Attributes:
        versions: Of Python and of packages, by their names; an empty one is not installed.
        code: Of the harness itself, as ``own_code`` says it; empty if it does not matter.
        data: Of the images and labels; empty where only the piece itself can tell.
    """

    versions: Mapping[str, str]
    code: str = ""
    data: str = ""


def own_stamp(packages: Iterable[str] = (), data: str = "") -> Stamp:
    """The stamp of this process. Nothing is imported for it.

    Args:
        packages: Further ones whose versions matter, such as ``torch``.
        data: What identifies the data, if they are known.
    """
    named = dict.fromkeys(("robustness-harness", "numpy", *packages))
    named.pop("python", None)
    versions = {"python": platform.python_version()} | {name: _version(name) for name in named}
    return Stamp(versions, own_code(), data)


@cache
def own_code() -> str:
    """The version of the harness, and a hash of its sources as they lie here.

    A checkout and a wheel that was made of it are the same, with or without git.
    """
    home, content = Path(robustness_harness.HOME), hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((home / package).rglob("*.py")):
            source = path.read_bytes().replace(b"\r\n", b"\n")
            content.update(f"{path.relative_to(home).as_posix()} {len(source)}\n".encode())
            content.update(source)
    return f"{_version('robustness-harness') or '0'}+{content.hexdigest()[:12]}"


def problem(mine: Stamp, wanted: Stamp) -> str:
    """What differs, as ``torch 2.9.0, expected 2.13.0``; empty if nothing does.

    Of a version what follows a ``+`` tells for which device it was built, and may differ. What is
    not known on one side is not compared.

    Args:
        mine: The stamp of a worker.
        wanted: That of the process that asks.
    """
    found = [
        f"{name} {_public(here) or 'is not installed'}, expected {_public(version) or 'none'}"
        for name, version in wanted.versions.items()
        if _public(here := mine.versions.get(name, "")) != _public(version)
    ]
    for kind, here, there in (
        ("code of the harness", mine.code, wanted.code), ("data", mine.data, wanted.data)
    ):  # fmt: skip
        if here and there and here != there:
            found.append(f"{kind} {here}, expected {there}")
    return "; ".join(found)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _public(version: str) -> str:
    return version.partition("+")[0]
