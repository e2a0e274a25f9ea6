"""An executor is had by its address: the harness's own, and those of other packages."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from importlib.metadata import EntryPoint

import pieces
import pytest

from harness.errors import HarnessError
from harness.executors import EXECUTORS, Job, Stamp, completed, opened
from harness.executors import opening as module
from harness.registry import Registry

NOTHING = Stamp({})


class Theirs(ThreadPoolExecutor):
    """Of another package; remembers how it was asked to end."""

    ended = None

    def shutdown(self, wait=True, *, cancel_futures=False):
        type(self).ended = wait
        super().shutdown(wait, cancel_futures=cancel_futures)


class Plain(Executor):
    """One that does not say how many it has."""


def theirs(rest):
    return Theirs(int(rest or 3))


def broken(rest):
    raise RuntimeError(f"no {rest} here")


@pytest.fixture
def installed(monkeypatch):
    """Entry points of another package."""
    found = [
        EntryPoint(name, f"{__name__}:{value}", "harness.executors")
        for name, value in [
            ("theirs", "theirs"), ("broken", "broken"), ("plain", "plain"), ("none", "text"),
        ]
    ]  # fmt: skip
    monkeypatch.setattr("harness.registry.entry_points", lambda group: found)
    monkeypatch.setattr(module, "EXECUTORS", Registry("executor", "harness.executors", module.OWN))


def text(rest):
    return rest


def plain(rest):
    return Plain()


def refusal(address):
    with pytest.raises(HarnessError) as caught, opened(address, NOTHING):
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_harness_has_four():
    assert set(EXECUTORS) >= {"jobs", "local", "tcp", "tls"}


def test_processes_by_their_number():
    with opened("jobs:2", NOTHING) as workers:
        assert (workers.count, workers.notes) == (2, ())
        (done,) = completed(workers, [Job("a", (), lambda: (pieces.square, (3,)))])
        executor = workers.executor
    assert done.value == 9
    with pytest.raises(RuntimeError):
        executor.submit(pieces.square, 3)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("jobs:", "jobs:: say how many workers, as in jobs:4"),
        ("jobs:0", "jobs:0: say how many workers, as in jobs:4"),
        ("local:two", "local:two: say how many workers, as in local:4"),
        ("tcp:8786", "tcp:8786: say which scheduler, as in tcp://host:8786"),
        ("tls://", "tls://: say which scheduler, as in tls://host:8786"),
        ("localhost:8786", "localhost:8786: for a scheduler of Dask write tcp://localhost:8786"),
        ("job:4", "did you mean jobs?"),
    ],
)
def test_an_address_that_is_none_is_told(address, said):
    assert said in refusal(address)


@pytest.mark.usefixtures("installed")
def test_another_package_has_an_executor():
    with opened("theirs:2", NOTHING) as workers:
        assert workers.count == 2
        (done,) = completed(workers, [Job("a", (), lambda: (pieces.square, (3,)))])
    assert done.value == 9
    assert Theirs.ended is True
    with opened("theirs", NOTHING) as workers:
        assert workers.count == 3
    with opened("plain", NOTHING) as workers:
        assert workers.count >= 1


@pytest.mark.usefixtures("installed")
def test_after_ctrl_c_nobody_waits_for_it():
    with pytest.raises(KeyboardInterrupt), opened("theirs:2", NOTHING):
        raise KeyboardInterrupt
    assert Theirs.ended is False


@pytest.mark.usefixtures("installed")
def test_what_is_wrong_with_theirs_is_told():
    assert refusal("broken:ray") == (
        "broken: the executor cannot be had (RuntimeError: no ray here)"
    )
    assert "none: is str, and no concurrent.futures.Executor" in refusal("none:x")
    assert "did you mean theirs?" in refusal("their:4")
