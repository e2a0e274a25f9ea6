"""Text for people: messages on one line, and what goes without saying nowhere."""

from __future__ import annotations

UPPER_BOUND = "Accuracy under attack is an upper bound on robust accuracy."
"""Stands beside every table of such accuracies."""


def one_line(message: object) -> str:
    """Any message or exception squeezed onto one line of bounded length."""
    text = " ".join(str(message).split()) or type(message).__name__
    return text if len(text) <= 500 else text[:499] + "…"
