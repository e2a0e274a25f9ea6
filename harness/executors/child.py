"""What a worker's own process does: call what it is sent, answer, and end with its parent."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
import traceback
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Thread
from typing import IO, Any

LENGTH = struct.Struct("<Q")
"""In front of each message: its bytes."""


def send(stream: IO[bytes], message: bytes) -> None:
    """Write one message.

    Raises:
        OSError: Nobody reads any more.
    """
    stream.write(LENGTH.pack(len(message)))
    stream.write(message)
    stream.flush()


def receive(stream: IO[bytes]) -> bytes:
    """Read one message.

    Raises:
        EOFError: There is none, as the other side is gone.
    """
    (size,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    return _exactly(stream, size)


def main() -> None:
    """Answer requests on standard input, on what was standard output, until the parent is gone.

    An empty answer comes first, when it is ready for them. Whatever is printed goes to standard
    error, of which the parent shows the end if this process ends.
    """
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of which the parent sees to the end
    received: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_listen, args=(requests, received), daemon=True).start()
    send(answers, b"")
    while True:
        send(answers, answered(received.get()))


def _listen(requests: IO[bytes], received: SimpleQueue[bytes]) -> None:
    """Take requests beside the work, so that the parent's end is seen in the middle of a piece."""
    try:
        while True:
            received.put(receive(requests))
    except (EOFError, OSError):
        if sys.platform != "win32" and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # with processes that a piece has started
        os._exit(1)


def answered(request: bytes, but: Sequence[type[BaseException]] = ()) -> bytes:
    """Call a pickled (function, arguments, named arguments); see ``opened_answer``.

    Args:
        request: The call.
        but: Exceptions that are raised here as they are.
    """
    try:
        function, args, kwargs = pickle.loads(request)  # noqa: S301  # of the parent
        return pickle.dumps((function(*args, **kwargs), None, ""))
    except tuple(but):
        raise
    except BaseException as error:
        return pickle.dumps((None, sendable(error), traceback.format_exc()))


def opened_answer(answer: bytes) -> tuple[Any, BaseException | None]:
    """What a function has returned elsewhere, or the exception that it has raised.

    Its traceback there is text, and shown as the exception's cause.
    """
    value, error, told = pickle.loads(answer)  # noqa: S301  # of a worker of ours
    if error is not None:
        error.__cause__ = Elsewhere(told)
    return value, error


class Elsewhere(Exception):  # noqa: N818  # it is no error by itself
    """Where in another process an exception came about, as text."""

    def __str__(self) -> str:
        return f"\n{super().__str__()}"


def sendable(error: BaseException) -> BaseException:
    """An exception as it is, or if it cannot be pickled one of the nearest kind that can."""
    kinds: list[Any] = [kind for kind in type(error).__mro__ if kind is not object]
    for kind in kinds:
        try:
            made: BaseException = error if kind is type(error) else kind(_said(error, kind))
            pickle.loads(pickle.dumps(made))  # noqa: S301  # of this line
        except Exception:  # noqa: S112  # a constructor raises whatever it likes
            continue
        return made
    return RuntimeError(_said(error, RuntimeError))


def _said(error: BaseException, kind: type[BaseException]) -> str:
    named = kind.__module__ == "builtins"  # which tells less than the name of its own
    return f"{type(error).__name__}: {error}" if named else str(error)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    found = stream.read(size)
    if len(found) < size:
        raise EOFError
    return found
