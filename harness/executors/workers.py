"""What pieces of work run on, and what becomes of a piece whose worker fails."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import dataclass

from harness.errors import HarnessError


@dataclass(frozen=True)
class Workers:
    """An executor that is ready for work.

    Attributes:
        executor: What takes the pieces.
        count: How many of them run at once.
        notes: A line for each worker that was refused.
        ahead: Pieces submitted for each that runs, so that no worker waits for this process.
    """

    executor: Executor
    count: int
    notes: tuple[str, ...] = ()
    ahead: int = 2


class WorkerDied(Exception):  # noqa: N818  # it says what happened to another process
    """A worker ended while it had a piece; the message says of what. The piece can be tried again.

    It is no error of the piece itself as far as anybody knows, so that others are not affected.
    """


class NoWorkers(HarnessError):  # noqa: N818  # it says what is not there any more
    """There is nothing left that could work, so that no piece can be finished any more."""


class Refused(Exception):  # noqa: N818  # it is an answer: ask another worker
    """A worker is not like the one that asks; the message says what differs.

    A piece raises it, too, if it finds other data than it was told of.
    """
