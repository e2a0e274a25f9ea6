"""Networks of the harness as files of PyTorch."""

from __future__ import annotations

from pathlib import Path

import torch

from backends.torch_layers import Built
from backends.torch_triton import why_no_triton
from harness.errors import BackendError
from harness.protocol import Network


def saved(network: Network, path: Path) -> None:
    """Write a network as an exported program, ``.pt2``, in float32.

    It takes any number of images in the layout of the data.

    Raises:
        BackendError: Exporting would end the process.
    """
    if reason := why_no_triton():
        raise BackendError(reason)
    architecture = network.architecture.inference
    net = Built(architecture).eval().requires_grad_(False)
    net.set_weights(network.weights)
    # Two images: a program that is traced with one is one for one image.
    images = torch.zeros(2, *architecture.input_shape)
    many = ({0: torch.export.Dim("images")},)
    with torch.no_grad():
        torch.export.save(torch.export.export(net, (images,), dynamic_shapes=many), path)
