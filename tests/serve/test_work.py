"""One thread, a queue with a bound, a time limit, and an end."""

from __future__ import annotations

import threading
import time

import pytest

from harness.serve.work import Busy, Stopped, Worker


@pytest.fixture
def gate():
    return threading.Event()


def test_jobs_are_done_in_their_order_by_one_thread():
    worker, seen = Worker(), []
    jobs = [worker.submit(lambda n=n: seen.append((n, threading.get_ident()))) for n in range(9)]
    for job in jobs:
        job.future.result(5)
    assert [n for n, _ in seen] == list(range(9))
    assert len({thread for _, thread in seen}) == 1


def test_beyond_the_bound_nothing_is_taken(gate):
    worker = Worker(capacity=2)
    first = worker.submit(lambda: gate.wait(5))
    while worker.waiting:
        time.sleep(0.001)
    others = [worker.submit(lambda: 1) for _ in range(2)]
    assert worker.waiting == 2
    with pytest.raises(Busy):
        worker.submit(lambda: 1)
    gate.set()
    assert first.future.result(5)
    assert [job.future.result(5) for job in others] == [1, 1]
    assert worker.submit(lambda: 2).future.result(5) == 2


def test_what_is_given_up_leaves_the_queue_and_makes_room(gate):
    worker, done = Worker(capacity=1), []
    worker.submit(lambda: gate.wait(5))
    while worker.waiting:
        time.sleep(0.001)
    job = worker.submit(lambda: done.append(1))
    worker.drop(job, "nobody waits for it")
    assert worker.waiting == 0
    with pytest.raises(Stopped, match="nobody waits"):
        job.future.result(5)
    last = worker.submit(lambda: 3)
    gate.set()
    assert last.future.result(5) == 3
    assert done == []


def test_what_runs_is_given_up_before_the_next_query(gate):
    worker, asked = Worker(), []

    def ask():
        for number in range(10_000):
            worker.look()
            asked.append(number)
            gate.wait(5)

    job = worker.submit(ask)
    while not asked:
        time.sleep(0.001)
    worker.drop(job, "nobody waits for it")
    gate.set()
    with pytest.raises(Stopped, match="nobody waits"):
        job.future.result(5)
    assert len(asked) == 1


def test_a_job_has_so_much_time():
    worker = Worker(limit=0.05)

    def ask():
        while True:
            worker.look()
            time.sleep(0.001)

    began = time.monotonic()
    job = worker.submit(ask)
    late = worker.submit(lambda: 1)  # waits until its own time is over, too
    with pytest.raises(Stopped, match="too long"):
        job.future.result(5)
    assert time.monotonic() - began < 2
    with pytest.raises(Stopped, match="too long"):
        late.future.result(5)
    assert worker.submit(lambda: 1).future.result(5) == 1


def test_what_a_job_raises_is_its_outcome_and_the_next_one_is_done():
    worker = Worker()
    job = worker.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        job.future.result(5)
    assert worker.submit(lambda: 1).future.result(5) == 1


def test_an_end_lets_short_jobs_be_done_and_gives_up_long_ones():
    worker, going = Worker(), threading.Event()

    def long():
        going.set()
        while True:
            worker.look()
            time.sleep(0.001)

    first, job, last = worker.submit(lambda: 1), worker.submit(long), worker.submit(lambda: 2)
    going.wait(5)
    worker.end(0.1)
    assert first.future.result(5) == 1
    for one in (job, last):
        with pytest.raises(Stopped):
            one.future.result(5)
    with pytest.raises(Stopped, match="ending"):
        worker.submit(lambda: 1)
    worker.join(5)
    assert not worker._thread.is_alive()
