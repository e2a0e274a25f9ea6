"""Measure and judge the adversarial robustness of image classifiers, in any framework.

Example:
    >>> import harness, numpy as np
    >>> x, y = np.array([[[0.45, 0.55]], [[0.9, 0.1]]]), np.array([1, 0])
    >>> model = harness.wrap_function(lambda images: images[:, 0], outputs="logits")
    >>> run = harness.evaluate(model, x, y, attacks="square", epsilons=0.1, progress=False)
    >>> [(record.check, record.accuracy) for record in run.records if record.total]
    [('clean', 1.0), ('square', 0.5)]
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness import attacks
    from harness.errors import HarnessError
    from harness.evaluation.api import InterruptedRun, evaluate
    from harness.evaluation.perturbing import Perturbed, perturb
    from harness.evaluation.wrapping import wrap, wrap_function
    from harness.results.run import Run, load_run

__all__ = [
    "HarnessError",
    "InterruptedRun",
    "Perturbed",
    "Run",
    "attacks",
    "evaluate",
    "load_run",
    "perturb",
    "wrap",
    "wrap_function",
]
_HOMES = {
    "HarnessError": "harness.errors",
    "InterruptedRun": "harness.evaluation.api",
    "Perturbed": "harness.evaluation.perturbing",
    "Run": "harness.results.run",
    "evaluate": "harness.evaluation.api",
    "load_run": "harness.results.run",
    "perturb": "harness.evaluation.perturbing",
    "wrap": "harness.evaluation.wrapping",
    "wrap_function": "harness.evaluation.wrapping",
}

# Who wants to read what the library does says so: logging.basicConfig(level="INFO").
logging.getLogger("harness").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    """Load the library on first use, so that ``harness --help`` need not wait for NumPy."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "attacks":
        return import_module("harness.attacks")
    if name == "__version__":
        from importlib.metadata import version

        return version("robustness-harness")
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is meant to be used."""
    return sorted([*__all__, "__version__"])
