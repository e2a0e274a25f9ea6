"""The executors by name, the harness's own and those of other packages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TypeAlias, cast
from urllib.parse import urlsplit

from harness.errors import HarnessError, one_line, unknown
from harness.executors.inline import Inline
from harness.executors.processes import Processes
from harness.executors.stamp import Stamp
from harness.executors.workers import Workers
from harness.registry import Registry

Opener: TypeAlias = Callable[[str, Stamp], AbstractContextManager[Workers]]
"""Of the harness itself: takes what follows the scheme, and what each worker has to be like."""
Factory: TypeAlias = Callable[[str], Executor]
"""Of another package: takes what follows its name."""


@contextmanager
def _processes(rest: str, stamp: Stamp) -> Iterator[Workers]:
    count = _number("jobs", rest)
    if count == 1:
        yield Workers(Inline(), 1, ahead=1)
        return
    executor = Processes(count)
    try:
        yield Workers(executor, count)
    finally:
        executor.shutdown(cancel_futures=True)


def _local(rest: str, stamp: Stamp) -> AbstractContextManager[Workers]:
    from harness.executors.dask import local_cluster  # asyncio's import takes a while

    return local_cluster(_number("local", rest), stamp)


def _scheduler(scheme: str, rest: str, stamp: Stamp) -> AbstractContextManager[Workers]:
    from harness.executors.dask import cluster

    return cluster(f"{scheme}:{rest}", stamp)


OWN: dict[str, Opener | Factory] = {
    "jobs": _processes,
    "local": _local,
    "tcp": partial(_scheduler, "tcp"),
    "tls": partial(_scheduler, "tls"),
}
EXECUTORS: Registry[Opener | Factory] = Registry("executor", "harness.executors", OWN)


def require_address(address: str) -> None:
    """Look whether an address is one, before anything is done about it.

    Raises:
        HarnessError: There is no executor of that name, or it is not written as it should be.
    """
    name, _, rest = address.partition(":")
    if name not in EXECUTORS:
        if len(rest) >= 4 and rest.isdecimal():  # a port
            raise HarnessError(f"{address}: for a scheduler of Dask write tcp://{address}")
        raise HarnessError(unknown(name, "executor", EXECUTORS))
    if name in ("jobs", "local"):
        _number(name, rest)
    if name in ("tcp", "tls"):
        _require_host(name, rest)


def require_answer(address: str) -> None:
    """Look whether a scheduler answers; other workers are had, or not, when they are opened.

    Raises:
        HarnessError: It does not, or Dask is not installed.
    """
    if address.partition(":")[0] in ("tcp", "tls"):
        from harness.executors.dask import require_scheduler

        require_scheduler(address)


@contextmanager
def opened(address: str, stamp: Stamp) -> Iterator[Workers]:
    """Workers for the time of the context; at its end all that they do is cancelled.

    Args:
        address: ``jobs:N`` for processes of this machine (for one alone this very process),
            ``local:N`` for as many workers of Dask
            here, ``tcp://host:8786`` or ``tls://host:8786`` for a scheduler of Dask, or ``NAME`` or
            ``NAME:REST`` for an executor of another package.
        stamp: What each worker has to be like, where it is asked before it gets work.

    Raises:
        HarnessError: There is no executor of that name, it cannot be had, or no worker is left.
    """
    require_address(address)
    name, _, rest = address.partition(":")
    found = EXECUTORS[name]
    if name in OWN:
        with cast("Opener", found)(rest, stamp) as workers:
            yield workers
        return
    executor = _made(name, rest, cast("Factory", found))
    whole = False
    try:
        yield Workers(executor, getattr(executor, "_max_workers", None) or os.cpu_count() or 1)
        whole = True
    finally:
        # What runs cannot be stopped in executors of others, and after Ctrl-C nobody waits for it.
        executor.shutdown(wait=whole, cancel_futures=True)


def _made(name: str, rest: str, factory: Factory) -> Executor:
    try:
        executor = factory(rest)
    except HarnessError:
        raise
    except Exception as error:  # another package's code raises whatever it likes
        reason = one_line(f"{type(error).__name__}: {error}")
        raise HarnessError(f"{name}: the executor cannot be had ({reason})") from error
    if not isinstance(executor, Executor):
        raise HarnessError(
            f"{name}: is {type(executor).__name__}, and no concurrent.futures.Executor; derive it "
            "from that class"
        )
    return executor


def _require_host(scheme: str, rest: str) -> None:
    """Look whether ``//host:port`` has both."""
    try:
        parts = urlsplit(f"{scheme}:{rest}")
        whole = bool(parts.hostname and parts.port)
    except ValueError:  # a port that is no number, or too large a one
        whole = False
    if not whole:
        raise HarnessError(f"{scheme}:{rest}: say which scheduler, as in {scheme}://host:8786")


def _number(name: str, rest: str) -> int:
    if not rest.isdecimal() or not int(rest):
        raise HarnessError(f"{name}:{rest}: say how many workers, as in {name}:4")
    return int(rest)
