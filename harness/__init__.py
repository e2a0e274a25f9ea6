"""Measure and judge the adversarial robustness of image classifiers, in any framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.evaluation.api import evaluate, wrap

__all__ = ["evaluate", "wrap"]


def __getattr__(name: str) -> Any:
    """Load the library on first use, so that ``harness --help`` need not wait for NumPy."""
    if name in __all__:
        from harness.evaluation import api as library

        return getattr(library, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("robustness-harness")
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
