"""Workers of Dask: those that are not like this process get nothing; a death costs its piece."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from pathlib import Path

import pieces
import pytest
from waiting import lives, pids, until

from harness import cli
from harness.errors import HarnessError
from harness.executors import (
    Job,
    NoWorkers,
    Stamp,
    WorkerDied,
    completed,
    dask_executor,
    opened,
    own_stamp,
)
from harness.executors import dask as module

CLUSTER = "HARNESS_TEST_CLUSTER"
"""Environment variable: 1 where Dask has to be installed."""
if importlib.util.find_spec("distributed") is None:
    if os.environ.get(CLUSTER) == "1":
        pytest.fail(f"Dask is not installed, and {CLUSTER} says it is", pytrace=False)
    pytest.skip("Dask is not installed (extra cluster)", allow_module_level=True)

FOLDER = Path(__file__).parent
FRAMEWORK = "framework-of-tests"


def job(key, function, *arguments):
    return Job(key, (), lambda: (function, arguments))


@pytest.fixture(scope="module")
def scheduler():
    """A scheduler without workers, in this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=0, processes=False, protocol="tcp", host="127.0.0.1", dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def start(scheduler, tmp_path):
    """Starts a worker as its user would, with a version of a framework."""
    started = []

    def begin(version):
        about = tmp_path / version / f"framework_of_tests-{version}.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {FRAMEWORK}\nVersion: {version}\n"
        )
        path = os.pathsep.join(map(str, (about.parent, FOLDER, FOLDER.parents[1])))
        command = "-m distributed.cli.dask_worker --nthreads 1 --no-nanny --no-dashboard"
        process = subprocess.Popen(
            [sys.executable, *command.split(), scheduler], env=os.environ | {"PYTHONPATH": path},
            cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def addresses(scheduler):
    from distributed import Client

    with Client(scheduler, set_as_default=False) as client:
        return until(lambda: len(found := client.run(os.getpid)) == 2 and found)


def test_others_are_refused_by_name_and_a_death_costs_its_piece(scheduler, start):
    wanted = Stamp(own_stamp().versions | {FRAMEWORK: "2.13.0"}, own_stamp().code)
    other, same = start("2.9.0"), start("2.13.0")
    (refused,) = [at for at, pid in addresses(scheduler).items() if pid == other.pid]
    with opened(scheduler, wanted) as workers:
        assert workers.count == 1
        assert workers.notes == (
            f"worker {refused} is refused: {FRAMEWORK} 2.9.0, expected 2.13.0",
        )
        pid = job("pid", pieces.pid)
        assert [one.value for one in completed(workers, [pid])] == [same.pid]

        # Its worker is killed with one piece, while another waits; then a new one joins.
        running = workers.executor.submit(pieces.nap, 600)
        behind = workers.executor.submit(pieces.pid)
        same.kill()
        with pytest.raises(WorkerDied, match="its worker has gone"):
            running.result()
        joined = start("2.13.0")
        assert behind.result() == joined.pid

        # It is refused by a piece, and nobody is left.
        with pytest.raises(NoWorkers) as caught:
            next(completed(workers, [job("a", pieces.fail, "refused")]))
        reason = str(caught.value)
        assert f"{scheduler}: no worker is left; worker {refused} is refused" in reason
        assert "is refused: data 12, expected 34" in reason
        other.kill()
        joined.kill()


def test_where_all_are_refused_there_is_no_run(scheduler, start):
    start("2.9.0")
    wanted = Stamp({FRAMEWORK: "2.13.0"})
    with pytest.raises(HarnessError, match="expected 2"), opened(scheduler, wanted):
        pass


def test_where_nobody_joins_there_is_no_run(scheduler, monkeypatch):
    monkeypatch.setattr(dask_executor, "JOIN", 0.1)
    with (
        pytest.raises(HarnessError, match="start one with `dask worker tcp://"),
        opened(scheduler, Stamp({})),
    ):
        pass


def test_local_workers_restart_and_leave_terminal_and_environment_alone(tmp_path, capfd):
    before = dict(os.environ)
    with opened("local:1", own_stamp()) as workers:
        assert (workers.count, workers.notes) == (1, ())
        assert dict(os.environ) == before
        jobs = [
            job("die", pieces.die_unless, tmp_path / "died"),
            job("fail", pieces.fail, "data"),
            job("chatter", pieces.chatter),
            job("threads", pieces.variables, "NPROC"),
        ]
        found = {one.key: one for one in completed(workers, jobs)}
    assert (found["die"].value, found["die"].tries) == ("alive", 2)
    assert found["fail"].reason == "images.npz: is not there; name another"
    assert found["chatter"].value == ""
    assert found["threads"].value == {"NPROC": "1"}
    assert dict(os.environ) == before
    assert capfd.readouterr() == ("", "")


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background ignores
from harness.executors import Job, completed, opened, own_stamp
import pieces
if __name__ == "__main__":
    with opened("local:1", own_stamp()) as workers:
        list(completed(workers, [Job("a", (), lambda: (pieces.stay, (sys.argv[1],)))]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_local_worker_is_left(tmp_path, number):
    path, folder = tmp_path / "script.py", tmp_path / "there"
    path.write_text(SCRIPT)
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(path), str(folder)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(FOLDER), str(FOLDER.parents[1])])},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        there = until(lambda: pids(folder))
        if number == signal.SIGINT:
            os.killpg(process.pid, number)
            assert process.stderr.read().splitlines()[-1] == "KeyboardInterrupt"
        else:
            process.kill()
        until(lambda: not any(lives(pid) for pid in there))
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "tls://127.0.0.1:9"])
def test_a_scheduler_that_does_not_answer_is_one_line(address, monkeypatch, capfd):
    monkeypatch.setattr(module, "CONNECT", 0.2)
    with pytest.raises(HarnessError) as caught, opened(address, own_stamp()):
        pass
    said = str(caught.value)
    assert said.startswith(f"{address}: no scheduler answers (")
    assert "; start one with `dask scheduler`" in said
    assert ("distributed.comm.tls" in said) == address.startswith("tls")
    assert "\n" not in said
    assert capfd.readouterr() == ("", "")


def test_the_command_says_no_more_than_that_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(module, "CONNECT", 0.2)
    out = tmp_path / "out"
    asked = ["harness", "run", "digits", "--cluster", "tcp://127.0.0.1:9", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", asked)
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capfd.readouterr()
    assert (end.value.code, said.out, len(said.err.splitlines())) == (2, "", 1)
    assert said.err.startswith("harness: tcp://127.0.0.1:9: no scheduler answers (")
    assert not out.exists()


@pytest.mark.parametrize("address", ["local:2", "tcp://127.0.0.1:9"])
def test_dask_that_is_not_installed_is_one_line(address, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HarnessError) as caught, opened(address, own_stamp()):
        pass
    assert str(caught.value) == (
        f"{address}: Dask is not installed; pip install 'robustness-harness[cluster]'"
    )
