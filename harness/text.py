"""Text for people: messages on one line, without what a terminal would obey."""

from __future__ import annotations

import re
import unicodedata

UPPER_BOUND = "Accuracy under attack is an upper bound on robust accuracy."
"""Stands beside every table of such accuracies."""
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


def printable(text: str) -> str:
    r"""Text as it is, but for signs that move, colour or hide: an escape becomes ``\x1b``.

    For whatever comes from a file, a server or an exception, before it reaches a terminal.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode() if obeyed(sign) else sign for sign in text
    )


def encoded(text: str) -> bytes:
    """Text for people as UTF-8; half a surrogate pair, which has none, becomes its number."""
    return text.encode("utf-8", "backslashreplace")


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
