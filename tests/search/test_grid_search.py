"""The grid search: the grid of a spec, each point once, and what becomes of a trial."""

from __future__ import annotations

import numpy as np
import pytest
from small_searches import GRID, finished, spec_of, trials_in, wait_for
from synthetic import synthetic_run
from tiny_spec import tiny_spec

from harness import registry
from harness.data import Part, load_dataset
from harness.errors import HarnessError, SpecError
from harness.networks.families import options_for
from harness.protocol import Step
from harness.results.search import SearchResult
from harness.search.search import Search, first_backend, search
from harness.search.study import SearchError
from harness.spec.reading import load_spec, parse_spec
from reports.page import Source, page

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
        ("l2 = [0.1]\nmodel = 'cnn'", ["grid.model", "cnn", "mlp"]),
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
    grid, model = spec.grid, spec.models[spec.grid.model or next(iter(spec.models))]
    own = dict(options_for(model.architecture, model.options)) | dict(model.training)
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


def test_the_first_backend_that_is_installed_is_taken(monkeypatch):
    ghost = registry.BackendEntry("backends.ghost", "Ghost", ("no_such_package",))
    monkeypatch.setitem(registry.BACKENDS, "ghost", ghost)
    assert first_backend(spec_of(backends=["ghost", "numpy"])) == "numpy"
    with pytest.raises(HarnessError, match="no_such_package not installed"):
        first_backend(spec_of(backends=["ghost"]))


# What happens to a trial


def test_a_point_that_diverges_has_failed_with_a_reason_and_is_not_tried_again(
    tmp_path, monkeypatch
):
    from backends.numpy_backend import NumpyTrainer

    step, rates = NumpyTrainer.step, []

    def diverge(self, batch, rate):
        rates.append(rate)
        return Step(float("nan"), 0) if rate > 0.02 else step(self, batch, rate)

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
