"""Float32 that is float32: on GPUs PyTorch convolves in TensorFloat-32 unless it is told not to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Products and convolutions of float32 keep its 23 bits of mantissa; settings come back after.

    TensorFloat-32 keeps 10. Logits then differ by some 1e-4 from what the same weights give on a
    CPU, and counts of correct predictions by several images.
    """
    if device.type != "cuda":
        yield
        return
    before = [(place, key, getattr(place, key)) for place, key, _ in _settings()]
    try:
        for place, key, value in _settings():
            setattr(place, key, value)
        yield
    finally:
        for place, key, value in before:
            setattr(place, key, value)


def _settings() -> list[tuple[Any, str, Any]]:
    """Where it is said, and what says full precision: in the words that the process uses."""
    convolutions, products = torch.backends.cudnn, torch.backends.cuda.matmul
    try:
        _ = convolutions.allow_tf32, products.allow_tf32
    except RuntimeError:  # somebody has used the newer words, and the two do not mix
        newer: Any = convolutions.conv
        return [(newer, "fp32_precision", "ieee"), (products, "fp32_precision", "ieee")]
    return [(convolutions, "allow_tf32", False), (products, "allow_tf32", False)]
