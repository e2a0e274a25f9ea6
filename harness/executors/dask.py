"""Workers of Dask, on this machine or on many: one that dies takes one piece with it."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from harness.errors import HarnessError
from harness.executors.dask_executor import STAY, Cluster, cause_of
from harness.executors.environment import threads
from harness.executors.stamp import Stamp
from harness.executors.workers import Workers

if TYPE_CHECKING:
    from distributed import LocalCluster

CONNECT = 10.0
"""Seconds in which a scheduler has to answer."""
FORKED = ("harness", "numpy", "scipy", "sklearn")
"""Packages that workers of this process need not import again: none starts threads or a device."""
LOGS = ("distributed", "distributed.client", "tornado", "asyncio")
"""Loggers of Dask and of what it is built on, which have levels of their own."""


def require_dask(name: str) -> None:
    """Look whether Dask is installed, without importing it.

    Raises:
        HarnessError: It is not; the line says what to install.
    """
    if importlib.util.find_spec("distributed") is None:
        raise HarnessError(
            f"{name}: Dask is not installed; pip install 'robustness-harness[cluster]'"
        )


def require_scheduler(address: str) -> None:
    """Look whether a scheduler answers, before anything else is done or said.

    Raises:
        HarnessError: Dask is not installed, or none answers.
    """
    require_dask(address)
    with _quiet():
        _ask(address)


@contextmanager
def local_cluster(count: int, stamp: Stamp) -> Iterator[Workers]:
    """So many worker processes of Dask on this machine, of one thread each.

    Raises:
        HarnessError: Dask is not installed, or they do not start.
    """
    require_dask(f"local:{count}")
    import dask
    from distributed import LocalCluster

    configured = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.nanny.pre-spawn-environ": threads(os.environ),
        "distributed.worker.daemon": False,  # a piece may start processes itself
        "distributed.worker.multiprocessing-method": _start_method(),
        "distributed.deploy.lost-worker-timeout": STAY,  # until a worker is started again
    }
    with _quiet(), _same_environment(), dask.config.set(configured):
        try:
            with _same_environment(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of ports that are taken
                own = LocalCluster(
                    n_workers=count,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    memory_limit=0,
                    dashboard_address=None,
                    scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
                    silence_logs=logging.CRITICAL,
                )
        except Exception as error:  # of Dask, of tornado, of the system
            raise HarnessError(
                f"local:{count}: the workers do not start ({cause_of(error)}); use --jobs {count}"
            ) from error
        with own:
            try:
                with _connected(own.scheduler_address, stamp, f"local:{count}", count) as workers:
                    yield workers
            finally:
                _kill(own)


def _start_method() -> str:
    """How worker processes start: where it is safe, from one that has imported what they need.

    Each would import it for seconds, and they share the cores meanwhile.
    """
    if sys.platform != "linux":
        return "spawn"
    from multiprocessing import forkserver, get_context

    imported = [name for name in sys.modules if name.partition(".")[0] in FORKED]
    with _same_environment():
        os.environ.update(threads(os.environ))
        get_context("forkserver").set_forkserver_preload(["distributed", *imported])
        forkserver.ensure_running()
    return "forkserver"


def _kill(own: LocalCluster) -> None:
    """End the processes of a cluster, which else would have seconds to end what they do."""
    for nanny in own.workers.values():
        nanny.close_gracefully()  # which starts none again
        if (pid := nanny.pid) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))


@contextmanager
def cluster(address: str, stamp: Stamp) -> Iterator[Workers]:
    """The workers of a scheduler that runs somewhere.

    Args:
        address: ``tcp://host:8786``, or ``tls://`` with the certificates of Dask's configuration.
        stamp: What each worker's has to be like.

    Raises:
        HarnessError: Dask is not installed, no scheduler answers, there is no worker within a
            minute, or none is like this process.
    """
    require_dask(address)
    with _quiet(), _connected(address, stamp, address) as workers:
        yield workers


@contextmanager
def _connected(address: str, stamp: Stamp, name: str, own: int = 0) -> Iterator[Workers]:
    """A client of a scheduler, its workers looked at.

    Args:
        address: Of the scheduler.
        stamp: What theirs has to be like.
        name: What the user calls it.
        own: How many there should be, started by this process for itself.
    """
    from distributed import Client

    _ask(address)  # a client that fails would go on trying beside whatever comes then
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions; the stamps tell
            client = Client(address, timeout=CONNECT, set_as_default=False)
    except Exception as error:  # of Dask, of tornado, of the system, of certificates
        raise _unanswered(address, error) from error
    try:
        executor = Cluster(client, stamp, name, silent=bool(own))
        try:
            executor.wait_for(own or 1)
            yield Workers(executor, executor.count, executor.notes)
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
    finally:
        client.close(timeout=CONNECT)


def _ask(address: str) -> None:
    """Ask a scheduler who it is.

    Raises:
        HarnessError: It does not answer.
    """
    try:
        with ThreadPoolExecutor(1) as apart:  # in which there is no event loop yet
            apart.submit(lambda: asyncio.run(_answering(address))).result()
    except Exception as error:  # of Dask, of tornado, of the system, of certificates
        raise _unanswered(address, error) from error


def _unanswered(address: str, error: Exception) -> HarnessError:
    remedy = "start one with `dask scheduler`"
    if address.startswith("tls:"):
        remedy += ", and set distributed.comm.tls in Dask's configuration"
    return HarnessError(f"{address}: no scheduler answers ({cause_of(error)}); {remedy}")


async def _answering(address: str) -> None:
    from distributed import Security
    from distributed.core import rpc

    arguments = Security().get_connection_args("client")
    async with rpc(address, timeout=CONNECT, connection_args=arguments) as scheduler:
        await asyncio.wait_for(scheduler.identity(), CONNECT)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log of Dask and of what it is built on off the terminal; errors are raised."""
    before = {name: logging.getLogger(name).level for name in LOGS}
    for name in LOGS:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


@contextmanager
def _same_environment() -> Iterator[None]:
    """Undo what is set in the environment of this process for those that it starts."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)
