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
