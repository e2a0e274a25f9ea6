"""The grid search: each point once, whatever is killed; the winner, its files, and its section."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from synthetic import synthetic_run
from tiny_spec import tiny_spec

from harness import cli, registry
from harness.data import Part, load_dataset
from harness.errors import HarnessError, RunError, SpecError
from harness.results.search import SearchResult, SearchTrial, search_beside
from harness.search import study as search_study
from harness.search.search import Search, first_backend, search
from harness.search.study import SearchError, SharedStudy
from harness.spec.reading import load_spec, parse_spec
from harness.training.loop import TrainingError
from reports.page import Source, page

GRID = """
[grid]
hidden = [[16], [24, 8]]
learning_rate = [0.001, 0.01, 0.03]
batch_size = [32, 64]
epochs = 1
images = 400
"""
CHOICES = {"a": [1, 2, 3, 4], "b": [0.1, 0.2]}
MANY = {"a": list(range(16)), "b": [0.1, 0.2]}


def spec_of(grid=GRID, **changes):
    return parse_spec(tiny_spec(**changes) + grid, "tiny.toml")


def trials_in(database, name=None):
    url = f"sqlite:///{database}"
    name = name or optuna.get_all_study_names(url)[0]
    return optuna.load_study(study_name=name, storage=url).trials


def finished(trials):
    return [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


FEW = {"x": [1, 2]}


def study_at(path, choices=CHOICES):
    url = f"sqlite:///{path}"
    return SharedStudy(url, "toy", choices, seed=0, extra=False, warm_up=1)


def point_of(trial, choices=CHOICES):
    return tuple(trial.suggest_categorical(key, values) for key, values in choices.items())


def work(study, evaluate, catch=()):
    study.work(evaluate, catch=catch, stay=True, report=lambda count: None)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A search that is over: its folder and its result."""
    folder = tmp_path_factory.mktemp("search")
    return folder, search(spec_of(), "numpy", folder)


# The grid of a spec


@pytest.mark.parametrize(
    ("grid", "words"),
    [
        ("", ["grid:", "nothing to search", "learning_rate"]),
        ("epochs = 3", ["grid:", "nothing to search"]),
        ("dropout = []", ["grid.dropout", "at least 1"]),
        ("dropuot = [0.1]", ["grid.dropuot", "unknown key"]),
        ("dropout = ['much']", ["grid.dropout.0", "much"]),
        ("dropout = 0.1", ["grid.dropout", "0.1"]),
        ("dropout = [1.0]", ["grid.dropout.0", "less than 1"]),
        ("hidden = [16]", ["grid.hidden.0", "16"]),
        ("batch_size = [32.5]", ["grid.batch_size.0", "32.5"]),
        ("l2 = [0.1, 0.1]", ["grid.l2", "twice"]),
        ("l2 = [0.1]\nfgsm_weight = 2", ["grid.fgsm_weight", "2"]),
        ("l2 = [0.1]\ntarget = 'cnn'", ["grid.target", "cnn", "mlp"]),
    ],
)
def test_a_grid_that_cannot_be_searched_is_one_line_that_names_the_key(grid, words):
    with pytest.raises(SpecError) as error:
        spec_of(f"\n[grid]\n{grid}\n")
    assert "\n" not in str(error.value)
    for word in ["tiny.toml", *words]:
        assert word in str(error.value)


def test_a_grid_changes_neither_the_hash_nor_the_dump_of_a_spec():
    bare = parse_spec(tiny_spec(), "tiny.toml")
    assert spec_of().sha256 == bare.sha256
    assert "grid" not in bare.model_dump() | spec_of().model_dump()
    assert spec_of() != bare


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_specs_that_ship_have_a_grid_with_their_own_recipe_on_it(name):
    spec = load_spec(name)
    grid, target = spec.grid, spec.targets[spec.grid.target or next(iter(spec.targets))]
    own = dict(target.model) | dict(target.training)
    assert np.prod([len(values) for values in grid.values.values()]) >= 24
    assert all(own[key] in values for key, values in grid.values.items())


# Every point once


def test_every_point_is_evaluated_once_and_the_best_wins(done):
    folder, result = done
    points = [tuple(trial.parameters.given.values()) for trial in result.trials]
    assert len(points) == len(set(points)) == 12
    scores = [trial.score for trial in result.trials]
    assert scores == sorted(scores, reverse=True)
    assert {trial.state for trial in result.trials} == {"complete"}  # one epoch, nothing to prune
    assert all(len(trial.history) == trial.best_epoch == 1 for trial in result.trials)
    assert result.winner == result.trials[0]
    assert result.winner.score > result.default.score
    # The spec's own batch size and rate are on the grid, so its point was not tried twice.
    assert result.default in result.trials
    assert len(trials_in(folder / "search.db")) == 12


def test_a_recipe_that_is_no_point_of_the_grid_is_evaluated_beside_it(tmp_path):
    grid = "\n[grid]\nhidden = [[8]]\nlearning_rate = [0.02]\nepochs = 1\nimages = 200\n"
    result = search(spec_of(grid), "numpy", tmp_path)
    (trial,) = result.trials
    assert not trial.default
    assert result.default.default
    assert result.default.parameters.given == {"hidden": (16,), "learning_rate": 0.01}
    assert result.default.score is not None


def test_a_search_that_is_over_does_nothing_more(done, monkeypatch):
    folder, result = done
    monkeypatch.setattr(Search, "evaluate", None)
    assert search(spec_of(), "numpy", folder) == result


def test_another_spec_is_another_study(done):
    prepared = Search.prepare(spec_of(), "numpy")
    names = {prepared.study_name, done[1].study}
    assert len(names) == 1
    for other in (spec_of(seed=1), spec_of(GRID.replace("0.03", "0.02")), spec_of(GRID + "l2=[0]")):
        names.add(Search.prepare(other, "numpy").study_name)
    assert len(names) == 4


def test_two_processes_share_the_work_and_find_the_same(done, tmp_path, monkeypatch):
    evaluate, database = Search.evaluate, tmp_path / "search.db"

    def patiently(self, trial, on_grid):
        wait_for(
            lambda: {t.user_attrs["worker"]["lock"] for t in trials_in(database) if t.user_attrs},
            at_least=2,
        )
        return evaluate(self, trial, on_grid)

    # In this process alone: it waits until the other one has taken a point.
    monkeypatch.setattr(Search, "evaluate", patiently)
    again = search(spec_of(), "numpy", tmp_path, jobs=2)
    strip = {"seconds"}
    assert [trial.model_dump(exclude=strip) for trial in again.trials] == [
        trial.model_dump(exclude=strip) for trial in done[1].trials
    ]
    assert len(finished(trials_in(database))) == 12


def test_neither_test_images_nor_more_training_images_than_wanted_are_used():
    data = load_dataset(spec_of().data)
    prepared = Search.prepare(spec_of(), "numpy")
    kept = {*prepared.training.index, *prepared.validation.index}
    assert len(prepared.training) == 400
    assert not kept & {*data.test.index}
    assert not {*prepared.training.index} & {*data.validation.index}
    assert sum(isinstance(value, Part) for value in vars(prepared).values()) == 2


def test_more_images_than_there_are_is_one_line():
    with pytest.raises(SpecError, match=r"grid.images: 9999, but tiny has 1258 training images"):
        Search.prepare(spec_of(GRID.replace("400", "9999")), "numpy")


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


def test_after_kill_9_each_point_is_still_evaluated_once(tmp_path):
    (tmp_path / "tiny.toml").write_text(tiny_spec() + GRID)
    database = tmp_path / "out" / "search.db"
    command = [sys.executable, "-m", "harness", "search", "tiny.toml", "--out", "out"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    before = wait_for(lambda: finished(trials_in(database)), at_least=4)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = finished(trials_in(database))
    assert 4 <= len(before) < 12
    result = search(load_spec(str(tmp_path / "tiny.toml")), "numpy", tmp_path / "out")
    after = finished(trials_in(database))
    times = Counter(str(sorted(trial.params.items())) for trial in after)
    assert len(times) == 12
    assert set(times.values()) == {1}
    ends = {trial.number: trial.datetime_complete for trial in after}
    assert all(ends[trial.number] == trial.datetime_complete for trial in before)
    assert result.winner.score > result.default.score


def wait_for(look, at_least, seconds=60):
    started = time.monotonic()
    while time.monotonic() - started < seconds:
        try:
            found = look()
        except Exception:  # the database is not there yet
            found = []
        if len(found) >= at_least:
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing of the kind in {seconds} s")


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
        "from test_search import study_at, work\n"
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


# What happens to a trial


def test_a_point_that_diverges_has_failed_with_a_reason_and_is_not_tried_again(
    tmp_path, monkeypatch
):
    from backends.numpy_backend import NumpyTrainer

    step, rates = NumpyTrainer.step, []

    def diverge(self, x, y, rate, *rest):
        rates.append(rate)
        return (float("nan"), 0) if rate > 0.02 else step(self, x, y, rate, *rest)

    monkeypatch.setattr(NumpyTrainer, "step", diverge)
    result = search(spec_of(), "numpy", tmp_path)
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert len(failed) == 4
    assert result.trials[-4:] == tuple(failed)
    for trial in failed:
        assert trial.parameters.learning_rate == 0.03
        assert "the loss became nan in epoch 1" in trial.reason
        assert trial.score is None
    count = len(rates)
    assert search(spec_of(), "numpy", tmp_path) == result
    assert len(rates) == count

    monkeypatch.setattr(NumpyTrainer, "step", lambda *_: (float("nan"), 0))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "best.toml").write_text("of an older search")
    with pytest.raises(SearchError, match=r"every point failed.*became nan"):
        search(spec_of(), "numpy", tmp_path / "none")
    assert not (tmp_path / "none" / "best.toml").exists()
    assert SearchResult.load(tmp_path / "none").winner is None


def test_what_is_worse_than_the_median_is_pruned_but_for_the_specs_own(tmp_path):
    grid = GRID.replace("epochs = 1", "epochs = 4").replace("0.01, 0.03]", "0.01, 0.03, 0.1]")
    slow = tiny_spec().replace("learning_rate = 0.01", "learning_rate = 0.001")
    result = search(parse_spec(slow + grid, "tiny.toml"), "numpy", tmp_path)
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    for trial in pruned:
        assert 2 <= len(trial.history) < 4  # not in the first third
        assert trial.clean == trial.score == max(trial.history)
    assert result.default.state == "complete"
    assert result.default.score < result.winner.score
    assert len(result.default.history) == 4


def test_the_score_can_be_a_mix_of_clean_and_fgsm_accuracy(tmp_path):
    grid = GRID.replace("0.001, 0.01, ", "") + "fgsm_weight = 0.75\nfgsm_epsilon = 0.1\n"
    result = search(spec_of(grid), "numpy", tmp_path)
    for trial in (*result.trials, result.default):
        assert 0 < trial.fgsm < trial.clean
        assert trial.score == pytest.approx(0.25 * trial.clean + 0.75 * trial.fgsm)
    html = page([Source(synthetic_run(), search=result)])
    assert "Under fgsm" in html


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


# Files


def test_search_json_holds_everything_and_is_read_back(done):
    folder, result = done
    document = json.loads((folder / "search.json").read_text())
    assert document["schema"] == 1
    assert (document["spec"], document["backend"], document["target"]) == ("tiny", "numpy", "mlp")
    assert document["spec_sha256"] == spec_of().sha256
    assert document["grid"]["learning_rate"] == [0.001, 0.01, 0.03]
    assert len(document["trials"]) == 12
    assert {"parameters", "state", "score", "clean", "history", "seconds"} <= {
        *document["trials"][0]
    }
    assert SearchResult.load(folder) == result


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d | {"schema": 999}, ["schema 999", "upgrade"]),
        (lambda d: d | {"trials": []}, ["trials"]),
        (lambda d: d | {"trials": [d["trials"][0] | {"score": 7}]}, ["trials.0.score"]),
        (lambda d: d | {"grid": d["grid"] | {"hidden": [[99]]}}, ["trials.0", "not a point"]),
        (lambda d: [], ["schema number"]),
    ],
)
def test_a_damaged_search_json_is_one_line(done, tmp_path, change, words):
    document = json.loads((done[0] / "search.json").read_text())
    (tmp_path / "search.json").write_text(json.dumps(change(document)))
    with pytest.raises(RunError) as error:
        SearchResult.load(tmp_path)
    assert "\n" not in str(error.value)
    for word in ["search.json", *words]:
        assert word in str(error.value)


def test_best_toml_is_the_spec_with_the_winner_in_it(done):
    folder, result = done
    spec, best = spec_of(), load_spec(str(folder / "best.toml"))
    target = best.targets["mlp"]
    won = result.winner.parameters
    assert (target.model.hidden, target.training.learning_rate) == (won.hidden, won.learning_rate)
    assert target.training.batch_size == won.batch_size
    assert target.training.epochs == spec.targets["mlp"].training.epochs == 2  # not the grid's
    assert best.model_copy(update={"targets": spec.targets}) == spec
    assert best.sha256 != spec.sha256
    text = (folder / "best.toml").read_text(encoding="utf-8")
    assert "patience" not in text  # what the spec leaves to defaults
    assert f"hidden = {list(won.hidden)}" in text


# The command


@pytest.fixture
def command(capfd, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(tiny_spec() + GRID)
    (tmp_path / "bare.toml").write_text(tiny_spec())
    (tmp_path / "text.db").write_text("no database " * 100)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, *capfd.readouterr()

    return run


def test_the_command_prints_a_table_with_the_best_first(command, done):
    folder, result = done
    code, out, err = command("search", "tiny.toml", "--out", folder)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines() if "complete" in line]
    assert len(rows) == 12
    assert rows[0][:4] == [*result.winner.parameters.texts, f"{result.winner.score:.2%}"]
    assert f"({result.default.score:.2%})" in out
    assert out.splitlines()[-1] == f"best spec: {folder / 'best.toml'}"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bare.toml"], ["grid", "tiny", "no [grid]"]),
        (["tiny.toml", "--backend", "theano"], ["theano", "torch, keras, numpy"]),
        (["tiny.toml", "--storage", "sqlite:////no/such/dir/x.db"], ["/no/such/dir/x.db"]),
        (["tiny.toml", "--storage", "oracel://me:secret@host/x"], ["oracel", "me:***@host"]),
        (["tiny.toml", "--storage", "mysql+pymysql://me:secret@host/x"], ["pymysql"]),
        (["tiny.toml", "--storage", "secret"], ["URL", "check"]),
        (["tiny.toml", "--storage", "sqlite://"], ["not on disk", "sqlite:///FILE"]),
        (["tiny.toml", "--storage", "sqlite:///text.db"], ["text.db", "not a database"]),
        (["tiny.toml", "--out", "text.db"], ["text.db"]),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(command, arguments, words):
    code, _, err = command("search", *arguments)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith("harness: ")
    assert "secret" not in line.partition("URL")[0]
    for word in words:
        assert word in line


def test_ctrl_c_says_how_to_go_on(command, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "evaluate", interrupted)
    code, _, err = command("search", "tiny.toml")
    assert code == 130
    (line,) = err.splitlines()
    assert "the same command goes on" in line
    monkeypatch.undo()


def test_the_first_backend_that_is_installed_is_taken(monkeypatch):
    ghost = registry.BackendEntry("backends.ghost", "Ghost", ("no_such_package",))
    monkeypatch.setitem(registry.BACKENDS, "ghost", ghost)
    assert first_backend(spec_of(backends=["ghost", "numpy"])) == "numpy"
    with pytest.raises(HarnessError, match="no_such_package not installed"):
        first_backend(spec_of(backends=["ghost"]))


# The report


def test_the_report_has_a_section_only_if_there_was_a_search(done):
    bare = page([Source(synthetic_run())])
    assert 'id="search"' not in bare
    assert "search" not in bare.partition("</header>")[0].lower()
    html = page([Source(synthetic_run(), search=done[1])])
    section = re.search(r'<section id="search".*?</section>', html, re.DOTALL)[0]
    assert len(re.findall(r'<svg[^>]* role="img"', section)) == 2
    assert section.count("How to read it") == 2
    assert section.count("<tr>") == 13
    accuracies = [float(cell) for cell in re.findall(r">(\d+\.\d)\u202f%</td>", section)]
    assert accuracies == sorted(accuracies, reverse=True)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert page([Source(synthetic_run(), search=done[1])]) == html


def test_hostile_text_is_shown_as_text(done):
    hostile = "<script>alert('x')</script>"
    broken = SearchTrial(
        parameters=done[1].trials[-1].parameters, state="failed", reason=hostile, seconds=1.0
    )
    update = {"target": hostile, "backend": hostile, "trials": (*done[1].trials[:-1], broken)}
    html = page([Source(synthetic_run(), search=done[1].model_copy(update=update))])
    assert "<script>alert" not in html
    assert "&lt;script&gt;alert" in html


def test_a_search_in_which_everything_failed_is_still_drawn(done):
    failed = done[1].default.model_copy(
        update={"state": "failed", "reason": "it diverged", "score": None, "clean": None}
    )
    result = done[1].model_copy(update={"trials": (failed,), "default": failed})
    html = page([Source(synthetic_run(), search=result)])
    assert "it diverged" in html
    assert "None was completed" in html


def test_the_search_beside_a_run_is_that_of_its_spec(done, tmp_path):
    folder, result = done
    run = synthetic_run(name="tiny")
    assert search_beside(run, tmp_path) is None
    assert search_beside(run, folder) is None  # of other data
    run.data_sha256 = result.data_sha256
    assert search_beside(run, folder) == result
    assert search_beside(synthetic_run(name="other"), folder) is None


def test_the_command_draws_the_search_of_a_results_folder(command, done, tmp_path):
    run = synthetic_run(name="tiny")
    run.data_sha256 = done[1].data_sha256
    run.save(tmp_path / "out")
    done[1].save(tmp_path / "out")
    assert command("report", "out")[0] == 0
    assert 'id="search"' in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    (tmp_path / "out" / "search.json").write_text("{")
    code, _, err = command("report", "out")
    assert code == 2
    (line,) = err.splitlines()
    assert "search.json: not readable as JSON" in line
