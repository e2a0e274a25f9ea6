"""Pieces of work on an executor: in order, after what they need, and again if a worker fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Future,
    wait,
)
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError, one_line
from harness.executors.workers import NoWorkers, Refused, WorkerDied, Workers

TRIES = 4
"""How often a piece is begun at most whose workers die: once, and three times again."""


@dataclass(frozen=True)
class Job:
    """A piece of work.

    Attributes:
        key: Its name, which no other has.
        needs: Keys of those that must have ended before it begins; others' are met already.
        call: Called in this process when it is its turn; the function and the arguments that are
            sent to a worker, so that it can put in what the needed ones have returned.
    """

    key: str
    needs: tuple[str, ...]
    call: Callable[[], tuple[Callable[..., Any], tuple[Any, ...]]]


@dataclass(frozen=True)
class Done:
    """What a piece has returned, and how often it was begun."""

    key: str
    value: Any
    tries: int


@dataclass(frozen=True)
class Lost:
    """A piece without a result.

    Attributes:
        key: Its name.
        reason: Why, in one line.
        error: The last exception: of the piece, such as a HarnessError on data that are not there,
            or of its worker.
        tries: How often it was begun.
    """

    key: str
    reason: str
    error: BaseException
    tries: int


def completed(
    workers: Workers, jobs: Iterable[Job], *, tries: int = TRIES
) -> Iterator[Done | Lost]:
    """Run pieces of work, and yield each as it ends.

    Of those that can begin, the first of the given order does, so that the longest should be
    first. One whose worker dies, or refuses it, is submitted again, before all others. One that
    raises something itself is lost at once, since it would do so again. One that needs a lost one
    runs all the same; its ``call`` may raise, and then it is lost, too.

    When the iteration ends early, by Ctrl-C or by its caller, what has not begun is cancelled. What
    runs ends with the executor.

    Args:
        workers: What they run on.
        jobs: The pieces.
        tries: How often one is begun at most.

    Raises:
        ValueError: Two have one key, or some need each other.
        KeyboardInterrupt: A piece has raised it.
        NoWorkers: None is left; what has not ended can be run another time.
    """
    waiting = list(jobs)
    unmet = {job.key for job in waiting}
    if len(unmet) < len(waiting):
        raise ValueError("two pieces of work have one key")
    begun: dict[str, int] = {}
    running: dict[Future[Any], Job] = {}
    try:
        while waiting or running:
            for job in _ready(waiting, unmet, _room(workers) - len(running)):
                waiting.remove(job)
                begun[job.key] = begun.get(job.key, 0) + 1
                running[_submitted(workers, job)] = job
            if not running:
                raise ValueError(f"{', '.join(job.key for job in waiting)}: need each other")
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            # Those that ended together, in the order in which they were submitted.
            for future in [one for one in running if one in ended]:
                job = running.pop(future)
                error = _error_of(future)
                if isinstance(error, (KeyboardInterrupt, NoWorkers)):
                    raise error
                if _may_be_tried(error) and begun[job.key] < tries:
                    waiting.insert(0, job)
                    continue
                unmet.discard(job.key)
                count = begun.pop(job.key)
                if error is None:
                    yield Done(job.key, future.result(), count)
                else:
                    yield Lost(job.key, _reason(error, count), error, count)
    finally:
        for future in running:
            future.cancel()


def _room(workers: Workers) -> int:
    """How many pieces are submitted at once; more, where workers have joined meanwhile."""
    return workers.ahead * max(workers.count, getattr(workers.executor, "count", 0))


def _ready(waiting: list[Job], unmet: set[str], room: int) -> list[Job]:
    """The first of those that need nothing more, as many as there is room for."""
    ready = (job for job in waiting if unmet.isdisjoint(job.needs))
    return [job for job, _ in zip(ready, range(room), strict=False)]


def _submitted(workers: Workers, job: Job) -> Future[Any]:
    try:
        function, arguments = job.call()
        return workers.executor.submit(function, *arguments)
    except Exception as error:  # of a call that lacks something, or of a pool that is broken
        failed: Future[Any] = Future()
        failed.set_exception(error)
        return failed


def _error_of(future: Future[Any]) -> BaseException | None:
    try:
        return future.exception()
    except CancelledError as error:  # by the executor
        return error


def _may_be_tried(error: BaseException | None) -> bool:
    """Whether it was a worker that failed, and not the piece."""
    return isinstance(error, (WorkerDied, Refused, BrokenExecutor, CancelledError))


def _reason(error: BaseException, tries: int) -> str:
    if isinstance(error, HarnessError):
        return one_line(error)
    if not _may_be_tried(error):
        return one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    return one_line(f"no worker finished it in {tries} tries; the last: {one_line(error)}")
