"""The files of a search: search.json, best.toml, and which search is that of a run."""

from __future__ import annotations

import json

import pytest
from small_searches import spec_of
from synthetic import synthetic_run

from harness.errors import RunError
from harness.results.search import SearchResult, search_beside
from harness.spec.reading import load_spec


def test_search_json_holds_everything_and_is_read_back(done):
    folder, result = done
    document = json.loads((folder / "search.json").read_text())
    assert document["schema"] == 2
    assert (document["spec"], document["backend"], document["model"]) == ("tiny", "numpy", "mlp")
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
    model = best.models["mlp"]
    won = result.winner.parameters
    assert (tuple(model.options["hidden"]), model.training.learning_rate) == (
        won.hidden,
        won.learning_rate,
    )
    assert model.training.batch_size == won.batch_size
    assert model.training.epochs == spec.models["mlp"].training.epochs == 2  # not the grid's
    assert best.model_copy(update={"models": spec.models, "home": spec.home}) == spec
    assert best.sha256 != spec.sha256
    text = (folder / "best.toml").read_text(encoding="utf-8")
    assert "patience" not in text  # what the spec leaves to defaults
    assert f"hidden = {list(won.hidden)}" in text


def test_the_search_beside_a_run_is_that_of_its_spec(done, tmp_path):
    folder, result = done
    run = synthetic_run(name="tiny")
    assert search_beside(run, tmp_path) is None
    assert search_beside(run, folder) is None  # of other data
    run.data_sha256 = result.data_sha256
    assert search_beside(run, folder) == result
    assert search_beside(synthetic_run(name="other"), folder) is None
