"""The study that processes share: databases of all kinds, workers that die, trials that break."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from small_searches import (
    CHOICES,
    FEW,
    GRID,
    MANY,
    TrialState,
    finished,
    optuna,
    point_of,
    study_at,
    trials_in,
    wait_for,
    work,
)
from tiny_spec import tiny_spec

from harness.search import study as search_study
from harness.search.search import search
from harness.search.study import SearchError
from harness.spec.reading import load_spec
from harness.training.loop import TrainingError

# Databases


def test_another_programs_database_is_left_alone(tmp_path):
    path = tmp_path / "search.db"
    with closing(sqlite3.connect(path)) as link:
        link.execute("CREATE TABLE patients (name TEXT)")
        link.execute("INSERT INTO patients VALUES ('Ada')")
        link.commit()
    before = path.read_bytes()
    with pytest.raises(SearchError, match="another program's database, with a table patients"):
        study_at(path, MANY)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database" * 400, b"SQLite format 3\0" + bytes(4096)])
def test_a_file_that_is_no_database_is_one_line_and_stays(tmp_path, content):
    path = tmp_path / "search.db"
    path.write_bytes(content)
    with pytest.raises(SearchError, match=r"^storage sqlite:///[^\n]*$"):
        study_at(path, MANY)
    assert path.read_bytes() == content


def test_a_damaged_database_is_one_line_or_harmless(tmp_path):
    """Whole pages are overwritten, one after another, in a study with some results."""
    whole = tmp_path / "whole.db"
    study = study_at(whole, MANY).study
    for _ in range(3):
        study.tell(study.ask(), 0.5)
    content, refused = whole.read_bytes(), 0
    for place in range(0, len(content), 8192):
        path = tmp_path / f"{place}.db"
        path.write_bytes(content[:place] + b"\xff" * 512 + content[place + 512 :])
        try:
            study_at(path, MANY).holders()
        except SearchError as error:
            refused += 1
            assert "\n" not in str(error)  # noqa: PT017
    assert refused > 3


@pytest.mark.parametrize(
    "change",
    ["UPDATE trials SET state = 'WRONG'", "UPDATE trial_user_attributes SET value_json = '{'",
     "UPDATE version_info SET schema_version = 99", "DELETE FROM study_directions",
     "UPDATE trial_user_attributes SET value_json = '[]'", "DROP TABLE trial_params"],
)  # fmt: skip
def test_a_study_whose_tables_hold_something_else_is_one_line(tmp_path, change):
    path = tmp_path / "search.db"
    shared = study_at(path, FEW)
    trial = shared.study.ask()
    trial.set_user_attr("worker", {"host": "x", "lock": "y"})
    trial.set_user_attr("result", {"reason": "x"})
    with closing(sqlite3.connect(path)) as link:
        link.execute(change)
        link.commit()
    try:
        study_at(path, FEW).work(lambda *_: 0.5, catch=(), stay=False, report=lambda _: None)
    except SearchError as error:
        assert "\n" not in str(error)  # noqa: PT017


# Processes


def test_after_kill_9_each_point_is_still_evaluated_once(tmp_path):
    (tmp_path / "tiny.toml").write_text(tiny_spec() + GRID)
    database = tmp_path / "out" / "search.db"
    command = [sys.executable, "-m", "harness", "search", "tiny.toml", "--out", "out"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # No more than one, since a slow machine finishes others while it looks.
    wait_for(lambda: finished(trials_in(database)), at_least=1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = finished(trials_in(database))
    assert 1 <= len(before) < 12
    result = search(load_spec(str(tmp_path / "tiny.toml")), "numpy", tmp_path / "out")
    after = finished(trials_in(database))
    times = Counter(str(sorted(trial.params.items())) for trial in after)
    assert len(times) == 12
    assert set(times.values()) == {1}
    ends = {trial.number: trial.datetime_complete for trial in after}
    assert all(ends[trial.number] == trial.datetime_complete for trial in before)
    assert result.winner.score > result.default.score


def test_workers_at_the_same_time_take_no_point_twice(tmp_path):
    taken, path = [], tmp_path / "search.db"
    study_at(path, MANY)  # makes the tables
    together = threading.Barrier(3)

    def worker():
        study = study_at(path, MANY)
        together.wait()
        work(study, lambda trial, on_grid: taken.append(point_of(trial, MANY)) or 0.5)

    threads = [threading.Thread(target=worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 32
    assert len(finished(trials_in(path, "toy"))) == 32


def test_a_point_whose_worker_died_is_taken_over_once(tmp_path):
    path = tmp_path / "search.db"
    code = (
        "import os, sys; sys.path[:0] = sys.argv[2:]\n"
        "from small_searches import study_at, work\n"
        "work(study_at(sys.argv[1]), lambda *_: os.kill(os.getpid(), 9))\n"
    )
    here = Path(__file__).parent
    killed = subprocess.run([sys.executable, "-c", code, path, here, here.parent], check=False)
    assert killed.returncode == -signal.SIGKILL
    (dead,) = [t for t in trials_in(path, "toy") if t.state == TrialState.RUNNING]
    taken, study = [], study_at(path)
    other = study_at(path)
    lock = search_study._lock_path(dead.user_attrs["worker"])
    assert lock.exists()
    study._reopen()
    assert not lock.exists()
    other._reopen()  # two find the point open, and only one trial for it may count
    work(study, lambda trial, on_grid: taken.append(point_of(trial)) or 0.5)
    assert len(taken) == len(set(taken)) == 8
    states = {trial.number: trial.state for trial in trials_in(path, "toy")}
    assert states[dead.number] == TrialState.FAIL
    assert len(finished(trials_in(path, "toy"))) == 8


def test_of_two_trials_of_a_point_the_later_lets_go(tmp_path):
    study, taken = study_at(tmp_path / "search.db"), []
    again = optuna.create_trial(
        state=TrialState.WAITING,
        user_attrs={"point": 1},
        system_attrs={"grid_id": 1, "search_space": CHOICES},
    )

    def evaluate(trial, on_grid):
        if trial.number == 0:  # dies, so that its point comes after what is added here
            study.study.add_trial(again)
            study.study.add_trial(again)
            raise RuntimeError
        taken.append(point_of(trial))
        return 0.5

    with pytest.raises(RuntimeError):
        work(study, evaluate)
    work(study, evaluate)
    assert len(taken) == len(set(taken)) == 8
    states = [trial.state.name for trial in trials_in(tmp_path / "search.db", "toy")]
    assert states == ["FAIL"] + 7 * ["COMPLETE"] + 2 * ["FAIL"] + ["COMPLETE"]


def test_a_worker_that_was_taken_for_dead_keeps_quiet(tmp_path):
    study, other = (study_at(tmp_path / "search.db") for _ in range(2))
    evaluated = []

    def evaluate(trial, on_grid):
        evaluated.append(point_of(trial))
        if len(evaluated) == 1:  # while it slept, so to speak
            other.study.tell(trial.number, state=TrialState.FAIL)
            other._reopen()
        trial.set_user_attr("result", {})
        return 0.5

    work(study, evaluate)
    times = Counter(evaluated)
    assert len(times) == 8
    assert times[evaluated[0]] == 2
    assert len(finished(trials_in(tmp_path / "search.db", "toy"))) == 8


def test_a_trial_that_nobody_signed_is_given_up_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(search_study, "SIGNED", 0.3)
    study = study_at(tmp_path / "search.db")
    with pytest.warns(UserWarning, match="Heartbeat"):
        study.study.ask()
    work(study, lambda trial, on_grid: len(point_of(trial)) / 10)
    assert len(finished(trials_in(tmp_path / "search.db", "toy"))) == 8


# What breaks


def test_anything_else_that_breaks_ends_the_search_and_is_tried_again(tmp_path):
    study = study_at(tmp_path / "search.db")

    def broken(trial, on_grid):
        raise ValueError("for a test")

    with pytest.raises(ValueError, match="for a test"):
        work(study, broken)
    with pytest.raises(KeyboardInterrupt):
        work(study, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    work(study, lambda trial, on_grid: len(point_of(trial)) / 10)
    assert len(finished(trials_in(tmp_path / "search.db", "toy"))) == 8


def test_what_diverges_is_settled(tmp_path):
    study, tried = study_at(tmp_path / "search.db"), []

    def diverge(trial, on_grid):
        tried.append(point_of(trial))
        trial.set_user_attr("result", {"reason": "diverged"})
        raise TrainingError("diverged")

    work(study, diverge, catch=(TrainingError,))
    work(study, diverge, catch=(TrainingError,))
    assert len(tried) == len(set(tried)) == 8
