"""Text for people: messages on one line."""

from __future__ import annotations


def one_line(message: object) -> str:
    """Any message or exception squeezed onto one line of bounded length."""
    text = " ".join(str(message).split()) or type(message).__name__
    return text if len(text) <= 500 else text[:499] + "…"
