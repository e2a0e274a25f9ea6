"""Worker processes: a death costs its piece alone, and none is left behind, however all ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pieces
import pytest
from waiting import lives, pids, until

from harness.errors import DataError
from harness.executors import Job, Processes, WorkerDied, Workers, completed
from harness.executors.environment import THREADS, threads

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="by signals")
FOLDER = Path(__file__).parent


@pytest.fixture
def one():
    """A single worker."""
    with Processes(1) as executor:
        yield executor
        executor.shutdown(cancel_futures=True)


def test_results_come_back_from_another_process_that_stays(one):
    assert [one.submit(pieces.square, x).result() for x in range(3)] == [0, 1, 4]
    first = one.submit(pieces.pid).result()
    assert first not in (os.getpid(), None)
    assert one.submit(pieces.pid).result() == first


def test_no_process_is_started_before_there_is_work():
    executor = Processes(64)
    assert not executor._all
    executor.submit(pieces.square, 2).result()
    assert len(executor._all) == 1
    executor.shutdown()
    assert not executor._all


def test_work_that_was_taken_is_done_before_the_end():
    executor = Processes(1)
    futures = [executor.submit(pieces.square, x) for x in range(3)]
    executor.shutdown(wait=False)
    assert [future.result() for future in futures] == [0, 1, 4]
    until(lambda: not executor._all)


def test_an_exception_comes_back_with_its_place(one):
    with pytest.raises(DataError, match=r"images\.npz: is not there") as caught:
        one.submit(pieces.fail, "data").result()
    assert "pieces.py" in str(caught.value.__cause__)
    with pytest.raises(Exception, match="Peculiar: this and that"):
        one.submit(pieces.fail, "peculiar").result()
    with pytest.raises(SystemExit):
        one.submit(pieces.fail, "exit").result()
    with pytest.raises((AttributeError, TypeError), match=r"unpicklable|lambda"):
        one.submit(pieces.unpicklable).result()
    with pytest.raises((AttributeError, TypeError), match=r"lambda|local"):
        one.submit(lambda: 1).result()
    assert one.submit(pieces.square, 2).result() == 4


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ((pieces.die,), r"killed by signal 9 \(SIGKILL\), perhaps out of memory"),
        ((pieces.die, signal.SIGSEGV), r"killed by signal 11 \(SIGSEGV\)$"),
        ((pieces.leave, 3), "ended with exit code 3: this is why"),
    ],
)
def test_a_death_costs_its_piece_and_is_told(one, how, reason):
    future, behind = one.submit(*how), one.submit(pieces.square, 3)
    with pytest.raises(WorkerDied, match=reason):
        future.result()
    assert behind.result() == 9


def test_twenty_kills_at_random_moments_lose_nothing():
    """Every death costs one try of one piece, and no more."""
    chance = random.Random(0)  # noqa: S311  # no secret
    executor, killed, found = Processes(4), [], []
    working = Thread(target=lambda: found.extend(completed(Workers(executor, 4), jobs, tries=21)))
    jobs = [Job(str(i), (), lambda i=i: (pieces.nap, (0.02, i))) for i in range(120)]
    working.start()
    while len(killed) < 20 and working.is_alive():
        with executor._lock:
            there = [one for one in executor._all if one._process.pid not in killed]
        if there:
            process = chance.choice(there)._process
            process.kill()
            killed.append(process.pid)
        working.join(chance.uniform(0, 0.06))
    working.join()
    executor.shutdown()
    assert len(killed) == 20
    assert sorted(one.value for one in found) == list(range(120))
    again = sum(one.tries - 1 for one in found)
    assert 0 < again <= 20
    assert not [pid for pid in killed if lives(pid)]


def test_a_worker_that_does_not_start_is_told(one, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(WorkerDied, match="does not start: ended with exit code 1"):
        one.submit(pieces.square, 2).result()


def test_the_end_ends_what_runs_and_what_that_has_started(tmp_path):
    executor = Processes(2)
    futures = [executor.submit(pieces.stay_with_another, tmp_path) for _ in range(3)]
    there = until(lambda: len(pids(tmp_path)) == 4 and pids(tmp_path))
    executor.shutdown(cancel_futures=True)
    assert [future.cancelled() for future in futures] == [False, False, True]
    for future in futures[:2]:
        with pytest.raises(WorkerDied, match="ended with the run"):
            future.result()
    until(lambda: not any(lives(pid) for pid in there))


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
from harness.executors import Job, Stamp, completed, opened
import pieces
MARK = "an import of this script would go on for ever"
with opened("jobs:2", Stamp({})) as workers:
    jobs = [Job(str(i), (), lambda: (pieces.stay_with_another, (sys.argv[1],))) for i in range(3)]
    for outcome in completed(workers, jobs):
        print(outcome)
"""


@pytest.fixture
def script(tmp_path):
    """A script without a guard, whose two workers are at work; the process, and theirs."""
    path, folder = tmp_path / "script.py", tmp_path / "there"
    path.write_text(SCRIPT)
    folder.mkdir()
    path_of = os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])])
    process = subprocess.Popen(
        [sys.executable, str(path), str(folder)], env=os.environ | {"PYTHONPATH": path_of},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    there = until(lambda: (process.poll() is not None or len(pids(folder)) == 4) and pids(folder))
    yield process, there
    process.kill()
    process.communicate()


def test_ctrl_c_leaves_no_process(script):
    process, there = script
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate()
    assert said.splitlines()[-1] == "KeyboardInterrupt"
    until(lambda: not any(lives(pid) for pid in there))


def test_a_parent_that_is_killed_leaves_no_process(script):
    process, there = script
    process.kill()
    until(lambda: not any(lives(pid) for pid in there))


def test_ctrl_c_is_not_the_workers_business(one):
    pid = one.submit(pieces.pid).result()
    future = one.submit(pieces.nap, 0.2, "done")
    os.kill(pid, signal.SIGINT)
    assert future.result() == "done"
    assert one.submit(pieces.pid).result() == pid


def test_the_script_that_runs_here_is_not_imported_there(one, monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "MARK", 1, raising=False)
    assert one.submit(pieces.main_module).result() == (None, False)


def test_what_a_piece_prints_is_not_on_the_terminal(one, capfd):
    assert one.submit(pieces.chatter).result() == ""  # nor does it read from there
    one.shutdown(cancel_futures=True)
    assert capfd.readouterr() == ("", "")


def test_each_worker_has_one_thread_and_this_process_keeps_its_own(one, monkeypatch):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    found = one.submit(pieces.variables, *THREADS).result()
    assert found == dict.fromkeys(THREADS, "1")
    assert dict(os.environ) == before


def test_what_the_user_has_set_stays():
    assert threads({"TF_NUM_INTRAOP_THREADS": "4"}) == {
        name: "1" for name in THREADS if name != "TF_NUM_INTRAOP_THREADS"
    }
    wanted = threads({"OMP_NUM_THREADS": "2"})
    assert set(wanted) == {*THREADS} - {"OMP_NUM_THREADS"}
    assert set(wanted.values()) == {"2"}
    assert threads({"OMP_NUM_THREADS": "many"})["MKL_NUM_THREADS"] == "1"
