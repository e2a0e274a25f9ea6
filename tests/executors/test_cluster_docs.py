"""The executor of docs/cluster.md runs as it stands there, and what the page says of ours is so."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pieces
import pytest

from harness.errors import DataError
from harness.executors import EXECUTORS, Job, Stamp, completed, opened, problem
from harness.executors import opening as module
from harness.executors.environment import THREADS
from harness.executors.scheduling import TRIES
from harness.registry import Registry

FILE = Path(__file__).parents[2] / "docs" / "cluster.md"
pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="not in a checkout")
PAGE = FILE.read_text(encoding="utf-8") if FILE.is_file() else ""


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


class TaskError(Exception):
    """As Ray's: wraps what a function has raised."""

    def __init__(self, cause):
        super().__init__("a traceback of many lines")
        self.cause = cause


class Crashed(Exception):  # noqa: N818
    """As Ray's, of a worker that is gone."""


class Remote:
    """What ``ray.remote`` makes of a function: calls it in a thread, some calls crash."""

    pool = ThreadPoolExecutor(2)
    crashes = 0

    def __init__(self, function):
        self.function = function

    def remote(self, *args):
        self.args = args
        self.future = lambda: self.pool.submit(self._call, *args)
        return self

    def _call(self, *args):
        if Remote.crashes:
            Remote.crashes -= 1
            raise Crashed
        try:
            return self.function(*args)
        except Exception as error:
            raise TaskError(error) from error


@pytest.fixture
def ray(monkeypatch):
    """A stand-in for Ray, and the page's module, installed with its entry point."""
    fake, exceptions, mine = ModuleType("ray"), ModuleType("ray.exceptions"), ModuleType("mine")
    fake.asked = []
    fake.init = lambda address, log_to_driver: fake.asked.append(address)
    fake.shutdown = lambda: fake.asked.append("the end")
    fake.cluster_resources = lambda: {"CPU": 2.0}
    fake.remote = lambda num_cpus, max_retries: Remote
    exceptions.NodeDiedError, exceptions.OutOfMemoryError = KeyError, MemoryError
    exceptions.RayTaskError, exceptions.WorkerCrashedError = TaskError, Crashed
    (entry,) = re.findall(r'(\w+) = "my_cluster:(\w+)"', PAGE)
    for one in (fake, exceptions, mine):
        monkeypatch.setitem(sys.modules, one.__name__, one)
    (code,) = [block for block in blocks("python") if "import ray" in block]
    exec(code, vars(mine))  # noqa: S102
    assert len(code.splitlines()) <= 50
    point = EntryPoint(entry[0], f"mine:{entry[1]}", "harness.executors")
    monkeypatch.setattr("harness.registry.entry_points", lambda group: [point])
    monkeypatch.setattr(module, "EXECUTORS", Registry("executor", "harness.executors", module.OWN))
    return fake


def test_the_executor_runs_pieces_and_tries_again_where_a_worker_crashes(ray):
    Remote.crashes = 1
    jobs = [
        Job("square", (), lambda: (pieces.square, (3,))),
        Job("fail", ("square",), lambda: (pieces.fail, ("data",))),
    ]
    with opened("ray:auto", Stamp({})) as workers:
        assert workers.count == 2
        done, lost = completed(workers, jobs)
    assert (done.value, done.tries) == (9, 2)
    assert isinstance(lost.error, DataError)
    assert ray.asked == ["auto", "the end"]


def test_the_addresses_are_there():
    schemes = set(re.findall(r"--cluster ([a-z]+):", PAGE))
    assert schemes >= {"local", "tcp", "tls", "ray", "mpi"}
    assert schemes - {"ray", "mpi"} <= set(EXECUTORS)


def test_what_it_says_of_faults_is_so():
    assert "at most three times" in PAGE
    assert TRIES == 1 + 3
    said = problem(Stamp({"torch": "2.9.0"}), Stamp({"torch": "2.13.0"}))
    assert f"is refused: {said}" in PAGE


def test_the_variables_are_those_of_our_own_workers():
    (line,) = [one for one in PAGE.splitlines() if one.startswith("$ export OMP_NUM_THREADS")]
    assert set(re.findall(r"(\w+)=1", line)) <= set(THREADS)
