"""How many threads frameworks start, which they read from the environment when imported."""

from __future__ import annotations

from collections.abc import Mapping

THREADS = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC",
)  # fmt: skip
"""By which NumPy, PyTorch, ONNX Runtime, TensorFlow and at last XLA know how many to start."""


def threads(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that keep a worker's frameworks to one thread each.

    Args:
        environment: What is set already, and stays. Its ``OMP_NUM_THREADS``, if it is a number,
            is the number of threads of all frameworks.

    Returns:
        Only those that are not set.
    """
    given = environment.get("OMP_NUM_THREADS", "")
    number = given if given.isdecimal() and int(given) else "1"
    return {name: number for name in THREADS if name not in environment}
