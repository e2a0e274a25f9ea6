"""SIGTERM, as schedulers and ``docker stop`` send it, ends what runs as Ctrl-C does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and after SIGTERM: 128 and the signal's number, as shells count."""


@dataclass
class Signals:
    """Whether SIGTERM has come."""

    terminated: bool = False

    def code(self, code: int | str | None) -> int | str | None:
        """An exit code, that of SIGTERM in place of that of Ctrl-C if that is what has come."""
        return TERMINATED if self.terminated and code == INTERRUPTED else code


@contextmanager
def terminable() -> Iterator[Signals]:
    """Raise KeyboardInterrupt within on SIGTERM, unless somebody else already deals with it."""
    signals = Signals()

    def end(number: int, frame: FrameType | None) -> None:
        signals.terminated = True
        raise KeyboardInterrupt

    try:
        free = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        if free:
            signal.signal(signal.SIGTERM, end)
    except ValueError:  # not in the main thread, which alone can
        free = False
    try:
        yield signals
    finally:
        if free:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
