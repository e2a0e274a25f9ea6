"""Triton, which PyTorch's builds for CUDA load with their first optimizer or exported program."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec

OF_LLVM = "LLVMContextCreate"
"""A function of LLVM, which is found in a process by this name only if it is everybody's."""


def why_no_triton() -> str:
    """Why nothing that loads Triton can be used in this process; empty if it can.

    TensorFlow (2.20 and 2.21) makes its LLVM that of whatever is loaded behind it. Triton (3.7)
    has another, and then ends the process. In the other order both work.
    (https://github.com/tensorflow/tensorflow/issues/124205)
    """
    if os.name != "posix" or "triton" in sys.modules or find_spec("triton") is None:
        return ""
    if not hasattr(ctypes.CDLL(None), OF_LLVM):
        return ""
    return (
        "TensorFlow was imported first, and would end the process once PyTorch loads Triton; "
        "import triton before tensorflow"
    )
