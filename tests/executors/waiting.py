"""What tests of other processes wait for."""

from __future__ import annotations

import os
import time

PATIENCE = 120
"""Seconds until a test gives up; what it waits for comes within a few."""


def until(condition):
    """Wait for something to be true, and return it."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.01)
    return found


def lives(pid):
    """Whether a process is there that has not ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return stat.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def pids(folder):
    """The processes that have named themselves in a folder."""
    return [int(name) for name in os.listdir(folder) if name.isdecimal()]  # noqa: PTH208
