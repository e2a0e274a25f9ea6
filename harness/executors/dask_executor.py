"""An executor of Dask's workers: a piece at a time for each, on those alone that are like us."""

from __future__ import annotations

import asyncio
import os
import pickle
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event, RLock, Thread
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from harness.errors import one_line
from harness.executors.child import answered, opened_answer
from harness.executors.stamp import Stamp, own_stamp, problem
from harness.executors.workers import NoWorkers, Refused, WorkerDied

if TYPE_CHECKING:
    from distributed import Client

P = ParamSpec("P")
T = TypeVar("T")

JOIN = 60.0
"""Seconds in which a first worker has to join."""
STAY = 300.0
"""Seconds that a run goes on without any worker, or a scheduler, as while one starts again."""
LOOK = 0.5
"""Seconds between two looks at which workers there are."""
FETCHES = 8
"""Results that are fetched at once."""
DIED = "its worker has gone, perhaps killed, or out of memory"
GONE = (OSError, TimeoutError, asyncio.TimeoutError)
"""What is raised of a scheduler that does not answer."""


class Cluster(Executor):
    """A client's workers that are like this process; each has one piece at a time, and no more.

    So it is known which piece was lost with a worker, Dask does not begin it again by itself, and
    no two share a process. A worker that joins later is looked at, too, and takes part or is
    refused; so is one that a piece refuses.

    Args:
        client: Of the scheduler.
        stamp: What each worker's has to be like.
        name: What messages call it.
        silent: Whether the workers are this process's own, and would print to its terminal.

    Attributes:
        refused: The reason, by the address of a worker.

    Raises:
        WorkerDied: As the exception of a piece whose worker has gone.
        NoWorkers: As that of all pieces, if there is no worker any more.
    """

    def __init__(self, client: Client, stamp: Stamp, name: str, *, silent: bool = False) -> None:
        self.client, self.stamp, self.name, self.silent = client, stamp, name, silent
        self.refused: dict[str, str] = {}
        self._taken: set[str] = set()
        self._free: deque[str] = deque()
        self._waiting: deque[tuple[Future[Any], Any]] = deque()
        self._running: dict[str, _Sent] = {}  # by Dask's key
        self._lock = RLock()
        self._ended = Event()
        self._alone = time.monotonic()  # since when there has been no worker
        self._fetches = ThreadPoolExecutor(FETCHES, "harness-results")
        self._watch = Thread(target=self._look_now_and_then, daemon=True)

    @property
    def count(self) -> int:
        """How many workers take part now."""
        return len(self._taken)

    @property
    def notes(self) -> tuple[str, ...]:
        """A line for each worker that is refused."""
        return tuple(f"worker {at} is refused: {reason}" for at, reason in self.refused.items())

    def wait_for(self, count: int) -> None:
        """Look at the workers until so many are there.

        Raises:
            NoWorkers: Nobody joins in time, or none of those that are there is taken.
        """
        until = time.monotonic() + JOIN
        while len(self._taken) + len(self.refused) < count:
            if time.monotonic() > until:
                raise NoWorkers(self._without_workers())
            try:
                self._look()
            except GONE as error:
                raise self._without_scheduler(error) from error
            self._ended.wait(LOOK / 10)
        if not self._taken:
            raise NoWorkers(self._without_workers())
        self._watch.start()

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function on one of the workers."""
        future: Future[T] = Future()
        with self._lock:
            if self._ended.is_set():
                raise RuntimeError("no work is taken after shutdown")
            self._waiting.append((future, (fn, args, kwargs)))
            self._hand_out()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more work; what a worker has begun it goes on with.

        Args:
            wait: Whether to return only when what was taken is done.
            cancel_futures: Forget it instead.
        """
        while wait and not cancel_futures and (self._waiting or self._running):
            self._ended.wait(LOOK / 10)
        if wait or cancel_futures:
            self._ended.set()
            self._give_up(WorkerDied("given up with the run"))
            self._fetches.shutdown(wait=False)

    def _hand_out(self) -> None:
        """Send the first pieces to the workers that have none; under the lock."""
        while self._free and self._waiting:
            future, call = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                request = pickle.dumps(call)
                inner = self.client.submit(
                    answered,
                    request,
                    [Refused],  # a tuple of a class would be a call of it, to an older Dask
                    workers=[self._free[0]],
                    allow_other_workers=False,
                    pure=False,
                    retries=0,
                )
            except Exception as error:  # it cannot be pickled, or the client is closed
                closed = self.client.status == "closed"
                future.set_exception(self._without_scheduler(error) if closed else error)
                continue
            self._running[inner.key] = _Sent(self._free.popleft(), inner, future)
            inner.add_done_callback(self._receive)

    def _receive(self, inner: Any) -> None:
        """Give the worker its next piece, before the result is fetched from it."""
        error = None if inner.status == "finished" else self._failure(inner)
        with self._lock:
            sent = self._running.get(inner.key)
            if sent is None:  # given up
                return
            if error is not None:
                del self._running[inner.key]
            if isinstance(error, Refused):
                self.refused[sent.address] = one_line(error)
            if isinstance(error, (Refused, WorkerDied)):  # it is found again if it lives
                self._drop(sent.address)
            elif sent.address in self._taken:
                self._free.append(sent.address)
            if isinstance(error, Refused) and not self._taken:
                error = NoWorkers(self._without_workers())
                self._give_up(error)
            self._hand_out()
        if error is None:
            self._fetches.submit(self._fetch, sent)
        else:
            sent.future.set_exception(error)

    def _fetch(self, sent: _Sent) -> None:
        try:
            value, error = opened_answer(sent.inner.result())
        except Exception as lost:  # with its worker, or it cannot be unpickled
            value, error = None, WorkerDied(f"its answer did not arrive ({cause_of(lost)})")
        with self._lock:
            if self._running.pop(sent.inner.key, None) is None:  # given up
                return
        if error is None:
            sent.future.set_result(value)
        else:
            sent.future.set_exception(error)

    def _failure(self, inner: Any) -> Exception:
        """Why there is no result."""
        from distributed import KilledWorker

        try:
            inner.result()
        except Refused as error:
            return error
        except KilledWorker:
            return WorkerDied(DIED)
        except Exception as error:  # it was cancelled, with the scheduler or by it
            if self.client.status == "closed":
                return self._without_scheduler(error)
            return WorkerDied(f"it was lost ({cause_of(error)})")
        return WorkerDied("it was lost")

    def _look_now_and_then(self) -> None:
        gone: float | None = None
        while not self._ended.wait(LOOK):
            try:
                self._look()
                gone = None
            except Exception as error:  # of a scheduler that is gone, or does not answer
                gone = time.monotonic() if gone is None else gone
                if self.client.status == "closed" or time.monotonic() > gone + STAY:
                    self._give_up(self._without_scheduler(error))

    def _look(self) -> None:
        """Ask new workers for their stamps, and give up what those had that are gone."""
        there = set(self.client.nthreads())
        new = sorted(there - self._taken - set(self.refused))
        packages = tuple(self.stamp.versions)
        found = {}
        if new:
            found = self.client.run(
                looked_at, packages, self.silent, workers=new, on_error="return"
            )
        with self._lock:
            for address, stamp in found.items():
                self._take(address, stamp)
            for address in self._taken - there:
                self._drop(address)
            self._hand_out()
            if self._taken:
                self._alone = time.monotonic()
            elif time.monotonic() > self._alone + STAY:
                self._give_up(NoWorkers(self._without_workers()))

    def _take(self, address: str, stamp: object) -> None:
        """Take a worker, or refuse it, by what it has said; under the lock."""
        if isinstance(stamp, OSError):  # it has gone meanwhile, or is asked again
            return
        if isinstance(stamp, Stamp):
            reason = problem(stamp, self.stamp)
        else:
            reason = f"the harness does not import there ({one_line(stamp)})"
        if reason:
            self.refused[address] = one_line(reason)
        else:
            self._taken.add(address)
            self._free.append(address)

    def _drop(self, address: str) -> None:
        """Count on a worker no more, nor on what it has; under the lock."""
        self._taken.discard(address)
        if address in self._free:
            self._free.remove(address)
        for key, sent in list(self._running.items()):
            if sent.address == address:
                del self._running[key]
                sent.give_up(WorkerDied(DIED))

    def _give_up(self, error: Exception) -> None:
        with self._lock:
            for future, _ in self._waiting:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            for sent in self._running.values():
                sent.give_up(error)
            self._waiting.clear()
            self._running.clear()

    def _without_workers(self) -> str:
        if self.refused:
            return f"{self.name}: no worker is left; {'; '.join(self.notes)}"
        return (
            f"{self.name}: there is no worker, and none has joined in time; start one with "
            f"`dask worker {self.name}`"
        )

    def _without_scheduler(self, error: BaseException) -> NoWorkers:
        return NoWorkers(
            f"{self.name}: the scheduler is gone ({cause_of(error)}); start it again, and the run"
        )


@dataclass
class _Sent:
    """A piece that a worker has."""

    address: str
    inner: Any
    future: Future[Any]

    def give_up(self, error: Exception) -> None:
        self.inner.cancel()
        self.future.set_exception(error)


def looked_at(packages: Sequence[str], silent: bool) -> Stamp:
    """The stamp of a worker, called in it.

    Args:
        packages: Whose versions matter.
        silent: Whether it should print nothing from here on.
    """
    if silent:
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard)
        os.close(nothing)
    return own_stamp(packages)


def cause_of(error: BaseException) -> str:
    """The first line that says something of an error, or of what it came from."""
    found: BaseException | None = error
    while found is not None and not str(found):
        found = found.__cause__ or found.__context__
    # Dask begins with the object in which it happened.
    return re.sub(r"^in <[^>]*>: ", "", one_line(found or type(error).__name__))
