"""Measure and judge the adversarial robustness of image classifiers, in any framework."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.evaluation.api import InterruptedRun, evaluate
    from harness.evaluation.wrapping import wrap, wrap_function

__all__ = ["InterruptedRun", "evaluate", "wrap", "wrap_function"]
_HOMES = {"wrap": "harness.evaluation.wrapping", "wrap_function": "harness.evaluation.wrapping"}


def __getattr__(name: str) -> Any:
    """Load the library on first use, so that ``harness --help`` need not wait for NumPy."""
    if name in __all__:
        return getattr(import_module(_HOMES.get(name, "harness.evaluation.api")), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("robustness-harness")
    raise AttributeError(f"module 'harness' has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is meant to be used."""
    return sorted(__all__)
