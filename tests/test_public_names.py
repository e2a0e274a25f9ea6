"""What ``harness`` offers to who imports it: names, short reprs, docstrings that hold, a log."""

from __future__ import annotations

import doctest
import importlib
import inspect
import logging
import subprocess
import sys

import numpy as np
import pytest

import harness
from harness import attacks
from harness.maths.around import Laid, Limited

OFFERED = {
    "HarnessError", "InterruptedRun", "Perturbed", "Run", "attacks", "evaluate", "load_run",
    "perturb", "wrap", "wrap_function",
}  # fmt: skip
EXAMPLES = (
    "harness", "harness.evaluation.api", "harness.evaluation.perturbing",
    "harness.evaluation.wrapping", "harness.results.run", "harness.attacks",
)  # fmt: skip


def test_tab_shows_what_is_offered():
    assert set(dir(harness)) == OFFERED | {"__version__"}
    assert set(harness.__all__) == OFFERED
    for name in OFFERED:
        assert getattr(harness, name) is not None


def test_looking_at_the_names_imports_nothing_heavy():
    code = (
        "import sys, harness; dir(harness); harness.__all__; "
        "print(sorted({'numpy', 'pandas', 'pydantic', 'matplotlib', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(OFFERED - {"attacks"}))
def test_every_public_name_is_described(name):
    thing = getattr(harness, name)
    told = inspect.getdoc(thing)
    assert told
    if inspect.isfunction(thing):
        wanted = inspect.signature(thing).parameters
        assert {arg for arg in wanted if f"\n    {arg}: " in told} == set(wanted)
        assert "Example:" in told
        assert "Raises:" in told


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples_of_docstrings_hold(module):
    tests, failures = 0, 0
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    found = doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
    runner = doctest.DocTestRunner(optionflags=flags)
    for test in found:
        result = runner.run(test)
        tests, failures = tests + result.attempted, failures + result.failed
    assert tests
    assert not failures


def test_a_model_says_what_it_is_in_a_line():
    model = harness.wrap_function(lambda images: images, (0, 255))
    assert repr(model) == "<function <lambda>, pixels in [0, 255], without gradients>"
    assert repr(Limited(Laid(model, 0), 5)) == f"Limited(Laid({model!r}))"


def test_the_attacks_are_at_hand():
    assert {"FGSM", "PGD", "make_attack", "ATTACKS"} <= set(attacks.__all__)
    assert harness.attacks.PGD(steps=3).steps == 3
    for name in attacks.__all__:
        assert hasattr(attacks, name)


def test_the_library_logs_what_it_does_to_who_listens(caplog):
    model = harness.wrap_function(lambda images: images.reshape(len(images), -1), outputs="logits")
    with caplog.at_level(logging.DEBUG, logger="harness"):
        harness.evaluate(model, np.eye(2), [0, 1], "noise", 0.1, progress=False)
        harness.perturb(model, np.eye(2), [0, 1], "noise", 0.1)
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert {name.partition(".")[0] for name in (record.name for record in caplog.records)} == {
        "harness"
    }
    assert any(level == "INFO" and "evaluating model" in line for level, line in told)
    assert any(level == "DEBUG" and "noise@0.1" in line for level, line in told)
    assert any("perturbing 2 images by noise" in line for _, line in told)


def test_the_library_is_silent_to_who_does_not():
    code = (
        "import numpy as np, harness\n"
        "model = harness.wrap_function(lambda x: x.reshape(len(x), -1), outputs='logits')\n"
        "harness.evaluate(model, np.eye(2), [0, 1], 'noise', 0.1, progress=False)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
