"""On a GPU float32 is computed as float32, and whatever the process had set comes back."""

from __future__ import annotations

import subprocess
import sys

import pytest
from backends_at_hand import at_hand

SETTINGS = """
import torch
from backends.torch_precision import full_float32
{before}
def told():
    return torch.backends.cudnn.{conv}, torch.backends.cuda.matmul.{product}
was = told()
with full_float32(torch.device("cpu")):
    print(told() == was)
try:
    with full_float32(torch.device("cuda")):
        print(told())
        raise ValueError
except ValueError:
    print(told() == was, was)
"""
NEWER = 'torch.backends.cudnn.conv.fp32_precision = "tf32"; torch.backends.cudnn.rnn.fp32_precision = "ieee"'  # noqa: E501


@pytest.mark.parametrize(
    ("before", "conv", "product", "within", "was"),
    [
        ("", "allow_tf32", "allow_tf32", "(False, False)", "(True, False)"),
        ("torch.backends.cuda.matmul.allow_tf32 = True", "allow_tf32", "allow_tf32",
         "(False, False)", "(True, True)"),
        (NEWER, "conv.fp32_precision", "fp32_precision", "('ieee', 'ieee')", "('tf32', 'none')"),
    ],
    ids=["as PyTorch has it", "faster products", "in newer words"],
)  # fmt: skip
def test_it_is_so_within_the_call_alone(before, conv, product, within, was):
    at_hand("torch")
    import torch

    if "fp32" in conv and not hasattr(torch.backends.cudnn, "conv"):
        pytest.skip(f"PyTorch {torch.__version__} has no such words yet")
    code = SETTINGS.format(before=before, conv=conv, product=product)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True", within, f"True {was}"]
