"""Names that become parts of paths, keys of arrays and ids of tests: checked when they are read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Annotated, TypeAlias
from unicodedata import normalize

from pydantic import AfterValidator

from harness.errors import obeyed

LONGEST = 200
"""Bytes of a name in UTF-8; file systems take 255 with what is put before and behind it."""
SEPARATORS = frozenset('/\\:*?"<>|')
"""What separates the parts of paths and keys, or may be in no file name on Windows."""
DEVICES = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that mean a device on Windows, whatever their suffix."""


def checked_name(name: str) -> str:
    """The name, if it can be a file name anywhere and a part of a key.

    Spaces, dots within and letters of any alphabet are fine.

    Raises:
        ValueError: It cannot; the message is one line that says why.
    """
    if flaw := _flaw(name):
        shown = repr(name) if len(name) <= 60 else repr(name[:60]) + "…"
        raise ValueError(f"{shown} cannot be a name: it {flaw}")
    return name


def repeated(names: Iterable[str]) -> tuple[str, int] | None:
    """The first name that is there several times, and how often; None if there is none.

    Letters that are composed in another way print alike, and so are the same.
    """
    counts = Counter(normalize("NFC", name) for name in names)
    return next(((name, count) for name, count in counts.items() if count > 1), None)


def checked_path(path: str) -> str:
    """The name of a check, such as ``saliency/gradient/top``, if each of its parts is a name.

    Raises:
        ValueError: One is none.
    """
    for part in path.split("/"):
        checked_name(part)
    return path


Name: TypeAlias = Annotated[str, AfterValidator(checked_name)]
CheckName: TypeAlias = Annotated[str, AfterValidator(checked_path)]


def _flaw(name: str) -> str:
    if not name.strip():
        return "is empty"
    if found := next((sign for sign in name if obeyed(sign)), ""):
        return f"holds the control character {found!r}"
    if found := next((sign for sign in name if sign in SEPARATORS), ""):
        return f"holds {found}, which separates parts of paths"
    if name in (".", ".."):
        return "means a folder"
    if name != name.strip() or name.endswith("."):
        return "begins or ends with a space, or ends with a dot"
    if len(name.encode()) > LONGEST:
        return f"is longer than {LONGEST} bytes"
    if DEVICES.fullmatch(name):
        return "means a device on Windows"
    return ""
