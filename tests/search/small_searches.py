"""A grid of twelve points on a tiny spec, studies of a toy's choices, and what a database holds."""

from __future__ import annotations

import importlib.util
import os
import time

import pytest

SEARCH = "HARNESS_TEST_SEARCH"
"""Environment variable: 1 where Optuna has to be installed."""
if importlib.util.find_spec("optuna") is None:
    if os.environ.get(SEARCH) == "1":
        pytest.fail(f"Optuna is not installed, and {SEARCH} says it is", pytrace=False)
    pytest.skip("Optuna is not installed (extra search)", allow_module_level=True)

import optuna  # noqa: E402
from optuna.trial import TrialState  # noqa: E402
from tiny_spec import tiny_spec  # noqa: E402

from harness.search.study import SharedStudy  # noqa: E402
from harness.spec.reading import parse_spec  # noqa: E402

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
FEW = {"x": [1, 2]}


def spec_of(grid=GRID, **changes):
    return parse_spec(tiny_spec(**changes) + grid, "tiny.toml")


def trials_in(database, name=None):
    url = f"sqlite:///{database}"
    name = name or optuna.get_all_study_names(url)[0]
    return optuna.load_study(study_name=name, storage=url).trials


def finished(trials):
    return [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]


def study_at(path, choices=CHOICES):
    url = f"sqlite:///{path}"
    return SharedStudy(url, "toy", choices, seed=0, extra=False, warm_up=1)


def point_of(trial, choices=CHOICES):
    return tuple(trial.suggest_categorical(key, values) for key, values in choices.items())


def work(study, evaluate, catch=()):
    study.work(evaluate, catch=catch, stay=True, report=lambda count: None)


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
