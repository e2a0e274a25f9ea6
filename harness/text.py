"""Text for people: messages on one line, without what a terminal would obey."""

from __future__ import annotations

import unicodedata

UPPER_BOUND = "Accuracy under attack is an upper bound on robust accuracy."
"""Stands beside every table of such accuracies."""
UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that a terminal obeys or cannot encode: controls, half pairs, line breaks."""
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Signs that change the direction of reading, so that a text looks like another one."""


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


def obeyed(sign: str) -> bool:
    """Whether a character does something instead of being seen."""
    return unicodedata.category(sign) in UNSEEN or sign in BIDI
