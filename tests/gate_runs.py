"""Runs made up for the gate: a model's outcome on each image, as it is wanted."""

from __future__ import annotations

import numpy as np

from harness.results.records import Record, counted
from harness.results.run import Run

SIZE = 1000
MODEL = 1.0
"""Signature of the model that is mostly asked; any other number is another model."""


def right(correct, total=SIZE):
    """Outcomes of which the first are right."""
    return np.arange(total) < correct


def changed(outcomes, lost=0, gained=0):
    """The same outcomes with so many lost, and so many gained."""
    after = outcomes.copy()
    after[np.flatnonzero(outcomes)[:lost]] = False
    after[np.flatnonzero(~outcomes)[:gained]] = True
    return after


def run_of(
    checks=(), *records, backend="torch", model="mlp", signature=MODEL, status="passed", **changes
):
    """A finished run. Checks are outcomes by name, ``clean`` or ``fgsm@0.1``, of one model."""
    fields = {
        "spec": {"name": "digits", "seed": 0, "attacks": {"pgd": {"epsilons": [0.1], "steps": 40}}},
        "spec_sha256": "a" * 64, "data_sha256": "b" * 64, "commit": "c0ffee", "finished": True,
        "created": "2024-05-01T12:00:00+00:00", "versions": {"torch": "2.6.0", "numpy": "2.1.0"},
    }  # fmt: skip
    run = Run(**(fields | changes))
    for record in records:
        run.put(record)
    return measured(run, checks, backend=backend, model=model, signature=signature, status=status)


def measured(run, checks, *, backend="torch", model="mlp", signature=MODEL, status="passed"):
    """The run with the checks of one more model."""
    checks = dict(checks)
    longest = max([len(o) for o in checks.values()] + [len(run.arrays.get("labels", []))])
    run.arrays["labels"] = np.zeros(longest, np.int16)
    for name, outcomes in checks.items():
        check, _, epsilon = name.partition("@")
        record = counted(
            model, backend, check, int(outcomes.sum()), len(outcomes),
            float(epsilon) if epsilon else None,
        )  # fmt: skip
        run.put(record.judged(status))
        run.arrays[f"{backend}/{model}/{name}/predictions"] = (~outcomes).astype(np.int16)
    if checks and signature is not None:
        random = np.random.default_rng(int(signature * 1000))
        run.arrays[f"{backend}/{model}/signature"] = random.random(64).astype(np.float32)
    return run


def status_record(status, reason="", check="conformance/batch-split"):
    return Record(model="mlp", backend="torch", check=check, status=status, reason=reason)


def row_of(comparison, label):
    """The row of a comparison with that label."""
    (row,) = [row for row in comparison.rows if row.label == label]
    return row
