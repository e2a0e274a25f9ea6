"""The examples run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counted(run):
    """The images left correct, by check and epsilon."""
    return {(r.check, r.epsilon): r.correct for r in run.records if r.total is not None}


def test_each_example_is_run_here():
    text = Path(__file__).read_text(encoding="utf-8")
    for path in FOLDER.glob("*.py"):
        assert f'example("{path.stem}")' in text, path.name


def test_a_classifier_of_scikit_learn_is_attacked_by_its_answers():
    correct = counted(example("sklearn_classifier").attacked())
    assert correct["square", 0.0] == correct["clean", None] > 80
    assert correct["square", 0.1] < correct["noise", 0.1] - 10


def test_a_model_that_has_forgotten_some_weights_does_not_pass_the_gate(tmp_path):
    comparison = example("gate_two_models").gated(tmp_path)
    assert not comparison.passed
    assert {row.verdict for row in comparison.rows} >= {"regressed", "unchanged"}


def test_an_attack_of_ones_own_is_measured_beside_the_others():
    correct = counted(example("own_attack").attacked())
    assert correct["blur", 0.0] == correct["clean", None]
    assert correct["blur", 0.2] < correct["clean", None]


def test_an_http_endpoint_is_attacked_though_it_is_busy_now_and_then():
    module = example("http_endpoint")
    with module.serving() as url:
        run = module.attacked(url)
    accuracies = {(r.check, r.epsilon): r for r in run.records if r.total is not None}
    assert {record.total for record in accuracies.values()} == {20}
    assert accuracies["clean", None].correct == 20
    assert accuracies["noise", 0.0].correct == accuracies["square", 0.0].correct == 20
    # Between the two means of the images there is less than 0.1.
    assert accuracies["square", 0.1].correct < accuracies["noise", 0.1].correct <= 20
    assert module.Server.asked > 10
