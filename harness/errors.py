"""Errors whose message is meant for the person at the keyboard, and text that is safe to show.

Messages are on one line, without what a terminal would obey.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that a terminal obeys or cannot encode: controls, half pairs, line breaks."""
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Signs that change the direction of reading, so that a text looks like another one."""

GIST = 200
"""Letters of a framework's message that are told at most."""
TRACEBACK = re.compile(r"traceback|most recent call last|serialized code", re.IGNORECASE)
OPENING = re.compile(
    r"(Exception encountered when calling .*?\.(?=\s|$)|Graph execution error:)\s*"
)
"""What frameworks say before they come to the point."""
VALUES = re.compile(
    r"\.?\s*(Received args|Arguments received|Call arguments|\[Op:|\[\[\{\{).*|"
    r"<?(tf\.Tensor|tensor|array)\(.*|[\[(]{2,}\s*-?\d.*",
    re.DOTALL,
)
"""Where they begin to list what they were given."""
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z<])|\n\s*\n")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class HarnessError(Exception):
    """A wrong request: one line that names the file, key or value, and what to do (exit code 2)."""

    def __str__(self) -> str:
        """The message without what a terminal would obey: it may quote a file or a server."""
        return printable(super().__str__())


class SpecError(HarnessError):
    """A spec file that is missing, not TOML, or says something that cannot be."""


class DataError(HarnessError):
    """A dataset that is missing, damaged, or cannot be downloaded."""


class BackendError(HarnessError):
    """A backend that is unknown, not installed, or cannot do what was asked of it."""


class RunError(HarnessError):
    """A stored run or baseline that is missing, truncated, or of another schema."""


class MeasurementError(Exception):
    """A measurement that cannot be trusted, so that no number is given."""


def printable(text: str) -> str:
    r"""Text as it is, but for signs that move, colour or hide: an escape becomes ``\x1b``.

    For whatever comes from a file, a server or an exception, before it reaches a terminal.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode() if obeyed(sign) else sign for sign in text
    )


def one_line(message: object) -> str:
    """Any message or exception squeezed onto one printable line of bounded length."""
    text = printable(" ".join(str(message).split())) or type(message).__name__
    return text if len(text) <= 500 else text[:499] + "…"


def gist(error: BaseException) -> str:
    """The first sentence of a framework's message that says something, without values of arrays."""
    text = COLOURS.sub("", str(error)).strip()
    if TRACEBACK.search(text):  # it ends with what went wrong, as Python's do
        lines = [line.strip() for line in VALUES.sub("", text).splitlines() if line.strip()]
        text = lines[-1] if lines else ""
    sentence = SENTENCE.split(VALUES.sub("", OPENING.sub("", text)).strip())[0]
    said = one_line(sentence) if sentence else type(error).__name__
    return said if len(said) <= GIST else said[: GIST - 1] + "…"


def obeyed(sign: str) -> bool:
    """Whether a character does something instead of being seen."""
    return unicodedata.category(sign) in UNSEEN or sign in BIDI


def first_problem(error: ValidationError) -> str:
    """The first finding of a validation as ``key: what is wrong``, on one line."""
    findings = error.errors(include_url=False)
    first = findings[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key; check the spelling or remove it"
    elif first["type"] not in ("value_error", "missing"):
        message = f"{message} (got {first['input']!r})"
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return one_line(f"{key}: {message}{more}" if key else f"{message}{more}")
