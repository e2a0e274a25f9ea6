"""One thread for all that asks models, before it a queue with a bound, and a time limit a job."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, Generic, TypeVar

from harness.errors import MeasurementError

T = TypeVar("T")
CAPACITY, LIMIT = 64, 10.0
"""Jobs that may wait, and seconds that each may take, its waiting included."""


class Busy(Exception):  # noqa: N818  # it is an answer
    """There are as many jobs waiting as may be."""


class Stopped(MeasurementError):  # noqa: N818  # likewise
    """A job that was given up: it took too long, nobody waits for it, or the server ends."""


class Job(Generic[T]):
    """Something to be done by the worker.

    Args:
        ask: Does it.
        until: When it is given up, by ``time.monotonic``.

    Attributes:
        future: Has the outcome.
    """

    def __init__(self, ask: Callable[[], T], until: float) -> None:
        self.ask, self.until = ask, until
        self.future: Future[T] = Future()
        self._reason = ""

    def stop(self, reason: str) -> None:
        """Have it end before its next query of a model."""
        self._reason = self._reason or reason

    def look(self) -> None:
        """Called by the worker between queries.

        Raises:
            Stopped: The job was given up, or has used up its time.
        """
        if not self._reason and time.monotonic() > self.until:
            self._reason = "it took too long"
        if self._reason:
            raise Stopped(self._reason)

    def do(self) -> None:
        """Do it, and tell the future what came of it."""
        try:
            self.look()
            found = self.ask()
        except BaseException as error:  # whoever waits for it deals with it
            # What would end a process, as somebody's function may raise, is to end none here.
            told = error if isinstance(error, Exception) else RuntimeError(repr(error))
            with suppress(InvalidStateError):  # nobody does any more
                self.future.set_exception(told)
        else:
            with suppress(InvalidStateError):
                self.future.set_result(found)


class Worker:
    """A thread that does one job after the other, in the order in which they came.

    Args:
        capacity: How many jobs may wait.
        limit: Seconds that a job may take, its waiting included.
    """

    def __init__(self, capacity: int = CAPACITY, limit: float = LIMIT) -> None:
        self.capacity, self.limit = capacity, limit
        self._waiting: deque[Job[Any]] = deque()
        self._current: Job[Any] | None = None
        self._changed = threading.Condition()
        self._ends: float | None = None
        # A model that does not return must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs have not begun."""
        return len(self._waiting)

    def submit(self, ask: Callable[[], T]) -> Job[T]:
        """A job that will be done when its turn comes.

        Raises:
            Busy: Too many are waiting.
            Stopped: The server ends.
        """
        with self._changed:
            if self._ends is not None:
                raise Stopped("the server is ending")
            if len(self._waiting) >= self.capacity:
                raise Busy
            job = Job(ask, time.monotonic() + self.limit)
            self._waiting.append(job)
            self._changed.notify()
        return job

    def drop(self, job: Job[Any], reason: str) -> None:
        """Give a job up: at once if it has not begun, else before its next query of a model."""
        job.stop(reason)
        with self._changed:
            if job not in self._waiting:
                return
            self._waiting.remove(job)
        job.future.set_exception(Stopped(reason))

    def look(self) -> None:
        """What models call before each query; see ``Job.look``."""
        if self._current is not None:
            self._current.look()

    def end(self, within: float) -> None:
        """Take no more jobs, and give up those that are not done within so many seconds."""
        with self._changed:
            self._ends = time.monotonic() + within
            for job in (*self._waiting, *([self._current] if self._current else ())):
                job.until = min(job.until, self._ends)
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait until the thread has ended, but no longer than that; after ``end``."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            job.do()
            self._current = job = None

    def _next(self) -> Job[Any] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ends is not None)
            if not self._waiting:
                return None
            self._current = self._waiting.popleft()
            return self._current
