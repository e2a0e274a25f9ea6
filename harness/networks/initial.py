"""The weights that a training begins with."""

from harness.maths.initial import initial_weights

__all__ = ["initial_weights"]
