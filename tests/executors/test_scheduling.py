"""Pieces begin in order and after what they need; those whose worker fails begin again."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor

import pytest

from harness.errors import DataError
from harness.executors import (
    Done,
    Job,
    Lost,
    NoWorkers,
    Refused,
    WorkerDied,
    Workers,
    completed,
)
from harness.executors.scheduling import TRIES


class ByHand(Executor):
    """Does nothing by itself: a test ends the calls that it holds, in whatever order."""

    def __init__(self):
        self.held = []

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        self.held.append((future, args[0]))
        return future


class AtOnce(Executor):
    """Calls at once, in this thread, and keeps the order of its calls."""

    def __init__(self):
        self.called = []

    def submit(self, fn, /, *args, **kwargs):
        future = Future()
        self.called.append(args[0] if args else None)
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


def echo(key):
    return key


def job(key, *needs, fn=echo):
    return Job(key, needs, lambda: (fn, (key,)))


def failing(*errors):
    """A function that raises one after the other, and returns the key at last."""
    left = list(errors)

    def fail(key):
        if left:
            raise left.pop(0)
        return key

    return fail


def keys(outcomes):
    return [one.key for one in outcomes]


def test_all_end_and_the_order_given_is_that_of_their_beginning():
    executor = AtOnce()
    jobs = [job(key) for key in "dacb"]
    assert {(one.key, one.value) for one in completed(Workers(executor, 1), jobs)} == {
        (key, key) for key in "abcd"
    }
    assert executor.called == list("dacb")


def test_what_is_needed_ends_first_and_those_behind_do_not_wait_for_it():
    executor = AtOnce()
    jobs = [job("attack", "training"), job("clean", "training"), job("training"), job("data")]
    found = keys(completed(Workers(executor, 1), jobs))
    assert executor.called == ["training", "data", "attack", "clean"]
    assert found == executor.called


def test_what_other_runs_have_done_is_no_need():
    assert keys(completed(Workers(AtOnce(), 1), [job("a", "stored")])) == ["a"]


def test_the_call_is_made_when_it_is_its_turn():
    found = {}
    jobs = [job("first"), Job("second", ("first",), lambda: (echo, (found["first"],)))]
    for one in completed(Workers(AtOnce(), 1), jobs):
        found[one.key] = one.value.upper() if one.key == "first" else one.value
    assert found == {"first": "FIRST", "second": "FIRST"}


def test_at_most_two_a_worker_are_submitted():
    executor = ByHand()
    outcomes = completed(Workers(executor, 2), [job(str(number)) for number in range(9)])
    with ThreadPoolExecutor(1) as apart:
        first = apart.submit(next, outcomes)
        while len(executor.held) < 4:
            pass
        executor.held[2][0].set_result("x")
        assert first.result() == Done("2", "x", 1)
    assert [key for _, key in executor.held] == list("0123")
    outcomes.close()
    assert all(future.cancelled() for future, key in executor.held if key != "2")


def test_workers_that_join_get_work_too():
    class Growing(AtOnce):
        count = 3

    executor = Growing()
    outcomes = completed(Workers(executor, 1), [job(str(number)) for number in range(9)])
    next(outcomes)
    assert executor.called == list("012345")


@pytest.mark.parametrize("error", [WorkerDied("killed"), Refused("data"), BrokenExecutor("gone")])
def test_a_piece_whose_worker_fails_begins_again_before_the_others(error):
    executor = AtOnce()
    jobs = [job("a", fn=failing(error, error)), job("b"), job("c"), job("d")]
    found = {one.key: one for one in completed(Workers(executor, 1), jobs)}
    assert found["a"] == Done("a", "a", 3)
    assert executor.called == ["a", "b", "a", "c", "a", "d"]


def test_once_and_three_times_again_is_all_and_the_reason_is_the_last():
    error = WorkerDied("killed by signal 9 (SIGKILL), perhaps out of memory")
    jobs = [job("a", fn=failing(*[error] * TRIES)), job("b", "a")]
    lost, done = completed(Workers(AtOnce(), 1), jobs)
    reason = f"no worker finished it in {TRIES} tries; the last: {error}"
    assert lost == Lost("a", reason, error, TRIES)
    assert done == Done("b", "b", 1)  # whose caller decides what is there


def test_a_broken_pool_is_tried_and_told():
    class Broken(Executor):
        def submit(self, fn, /, *args, **kwargs):
            raise BrokenExecutor("a child process terminated abruptly")

    (lost,) = completed(Workers(Broken(), 1), [job("a")])
    assert lost.tries == TRIES
    assert lost.reason.endswith(f"in {TRIES} tries; the last: a child process terminated abruptly")


def test_a_piece_that_raises_is_lost_at_once():
    error = ValueError("no such\nshard")
    (lost,) = completed(Workers(AtOnce(), 1), [job("a", fn=failing(error))])
    assert lost == Lost("a", "ValueError: no such shard", error, 1)


def test_a_wrong_request_is_told_in_its_own_words():
    error = DataError("images.npz: is not there")
    (lost,) = completed(Workers(AtOnce(), 1), [job("a", fn=failing(error))])
    assert lost.reason == "images.npz: is not there"
    assert lost.error is error


def test_where_nothing_is_left_that_works_the_rest_is_neither_tried_nor_lost():
    executor = AtOnce()
    error = NoWorkers("tcp://there:8786: the scheduler is gone")
    outcomes = completed(Workers(executor, 1), [job("a"), job("b", fn=failing(error)), job("c")])
    assert next(outcomes).key == "a"
    with pytest.raises(NoWorkers, match="the scheduler is gone"):
        next(outcomes)
    assert executor.called.count("b") == 1


def test_a_call_that_lacks_what_a_lost_piece_had_is_lost_too():
    found = {}
    jobs = [
        job("a", fn=failing(ValueError("no"))),
        Job("b", ("a",), lambda: (echo, (found["a"],))),
    ]
    assert keys(completed(Workers(AtOnce(), 1), jobs)) == ["a", "b"]


def test_ctrl_c_in_a_piece_ends_all():
    executor = ByHand()
    outcomes = completed(Workers(executor, 1), [job("a"), job("b"), job("c")])
    with ThreadPoolExecutor(1) as apart:
        first = apart.submit(next, outcomes)
        while len(executor.held) < 2:
            pass
        executor.held[0][0].set_exception(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            first.result()
    assert executor.held[1][0].cancelled()
    assert len(executor.held) == 2


def test_two_of_one_key_and_circles_are_refused():
    with pytest.raises(ValueError, match="one key"):
        next(completed(Workers(AtOnce(), 1), [job("a"), job("a")]))
    with pytest.raises(ValueError, match="a, b: need each other"):
        next(completed(Workers(AtOnce(), 1), [job("a", "b"), job("b", "a")]))
