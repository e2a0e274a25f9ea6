"""Whether the published numbers are measured again; collected only where this folder is named."""

import os
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.evaluation.published import Reproduction, missing_files
from harness.spec.published import load_table, table_paths

TABLES = {path.stem: load_table(path) for path in table_paths()}
NUMBERS = [(name, number) for name, table in TABLES.items() for number in table.numbers]


@pytest.fixture(scope="session")
def reproduced(pytestconfig):
    """Gives the reproduction of a table, which measures each number once."""
    named = pytestconfig.getoption("robustness_backend", None) or [None]
    results = pytestconfig.getoption("robustness_results", None) or "results"
    # Processes of one session must not write one run.
    part = os.environ.get("PYTEST_XDIST_WORKER", "")
    opened = {}

    def open_once(name):
        if name not in opened:
            out = Path(pytestconfig.invocation_params.dir, results, "published", name, part)
            opened[name] = Reproduction(TABLES[name], out, named[0])
        return opened[name]

    return open_once


@pytest.mark.parametrize(
    ("name", "number"), NUMBERS, ids=[f"{name}-{number.label}" for name, number in NUMBERS]
)
def test_reproduced(reproduced, name, number):
    for _, reason in missing_files(TABLES[name]):
        # In CI, where the weights should be there, they must be.
        demanded = os.environ.get("HARNESS_MODELS_DIR") and os.environ.get("CI") == "true"
        (pytest.fail if demanded else pytest.skip)(reason)
    try:
        outcome = reproduced(name).measured(number)
    except HarnessError as error:
        pytest.fail(str(error), pytrace=False)
    if outcome.record.status == "skipped":
        pytest.skip(outcome.said)
    if outcome.failed:
        pytest.fail(f"{name} {number.label}: {outcome.said}", pytrace=False)
