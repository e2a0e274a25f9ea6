"""Pieces of work as small as can be, for workers to call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from harness.errors import DataError
from harness.executors.workers import Refused


def square(x):
    return x * x


def pid():
    return os.getpid()


def nap(seconds, value=None):
    time.sleep(seconds)
    return value


def stay(folder):
    """Say that it has begun, and go on for longer than any test."""
    (Path(folder) / str(os.getpid())).touch()
    time.sleep(600)


def stay_with_another(folder):
    """The same, with a process of its own, which goes on likewise."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (Path(folder) / str(child.pid)).touch()
    stay(folder)


def die(number=signal.SIGKILL):
    os.kill(os.getpid(), number)
    time.sleep(600)


def leave(code):
    print("this is why", file=sys.stderr, flush=True)
    os._exit(code)


def die_unless(path):
    """End by SIGKILL at the first call, and not at the next."""
    path = Path(path)
    if not path.exists():
        path.touch()
        die()
    return "alive"


def chatter():
    print("on standard output")
    print("on standard error", file=sys.stderr)
    return sys.stdin.read()


class Peculiar(Exception):  # noqa: N818
    """Cannot be made of its text alone, and so not be unpickled."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


def fail(kind="value"):
    if kind == "data":
        raise DataError("images.npz: is not there; name another")
    if kind == "peculiar":
        raise Peculiar("this", "that")
    if kind == "exit":
        sys.exit("enough")
    if kind == "refused":
        raise Refused("data 12, expected 34")
    if kind == "interrupt":
        raise KeyboardInterrupt
    raise ValueError("no such shard")


def variables(*names):
    return {name: os.environ.get(name) for name in names}


def main_module():
    """What the script is called that a worker takes itself to be."""
    main = sys.modules["__main__"]
    return getattr(main, "__file__", None), hasattr(main, "MARK")


def unpicklable():
    return lambda: None
