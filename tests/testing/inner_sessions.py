"""Sessions of the suites inside a session: what they run, and what their runs hold."""

from __future__ import annotations

# An inner session forgets what it was first to import, so that every one would import these anew.
import sklearn.datasets  # noqa: F401

import backends.numpy_backend  # noqa: F401
import harness.evaluation.benchmark
import harness.results.summary
import harness.testing.session  # noqa: F401
from harness.checks.sanity.checks import rules_for
from harness.saliency.analysis import MEASURES
from harness.spec.reading import suites_folder

SANITY = rules_for("gradient")
MAPS = (*MEASURES, *SANITY)
"""What is asked of the maps of a method, besides the occlusion of all images."""
SUITES = suites_folder()
QUICK = (
    "-p", "no:hypothesispytest",  # which takes a second to sum up that there was nothing
    "--ignore-glob=*test_speed.py",  # which takes minutes, and measures no model
)  # fmt: skip


def outcomes(run, *fields):
    return [tuple(getattr(record, field) for field in fields) for record in run.records]


def of(run, check, epsilon=None, backend="numpy"):
    record = run.find(("mlp", backend, check, epsilon))
    assert record is not None
    return record


def comparable(run):
    return {record.key: record for record in run.records}


def one_error_line(result):
    """What a usage error says: one line, after which there is nothing."""
    lines = [line for line in result.stderr.lines if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("ERROR: ")
    return lines[0]
