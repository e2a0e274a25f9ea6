"""Networks that PyTorch's own exporters have written as ONNX, beside the originals."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from kinds import package_at_hand

import harness
from harness import registry
from harness.maths.query import logits_of
from harness.protocol import GRADIENT, Residual

COUNT, EPSILONS = 200, [0.0, 2 / 255, 4 / 255, 8 / 255]
EXPORTERS = {
    "TorchScript": {"dynamo": False, "dynamic_axes": {"x": {0: "n"}}},
    "TorchScript, one image": {"dynamo": False},
    "dynamo": {"dynamo": True, "dynamic_shapes": ({0: "n"},), "verbose": False},
    "dynamo, one image": {"dynamo": True, "verbose": False},
}


def residual_network():
    """A small ResNet on normalised colour images, whose batch statistics are not trivial."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before, channels, stride):
            super().__init__()
            self.one = nn.Conv2d(before, channels, 3, stride, 1, bias=False)
            self.two = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
            self.norms = nn.ModuleList([nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)])
            self.down = nn.Identity()
            if stride > 1:
                self.down = nn.Sequential(
                    nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
                )

        def forward(self, x):
            inner = torch.relu(self.norms[0](self.one(x)))
            return torch.relu(self.norms[1](self.two(inner)) + self.down(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.5, 0.4, 0.3]).reshape(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor([0.2, 0.25, 0.3]).reshape(1, 3, 1, 1))
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 5, 2, 2, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
                nn.MaxPool2d(3, 2, 1), Block(8, 8, 1), Block(8, 16, 2), Block(16, 16, 1),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
            )  # fmt: skip

        def forward(self, x):
            return self.body((x - self.mean) / self.std)

    torch.manual_seed(0)
    net = Net().train()
    for _ in range(5):
        net(torch.rand(32, 3, 24, 24))
    return net.eval()


@pytest.fixture(scope="module")
def original():
    """The network, and images with labels, a tenth of which it misclassifies."""
    for backend in ("torch", "onnx"):
        at_hand(backend)
    net = residual_network()
    x = np.random.default_rng(0).random((COUNT, 3, 24, 24), dtype=np.float32)
    y = logits_of(harness.wrap(net), x).argmax(axis=1)
    y[: COUNT // 10] = (y[: COUNT // 10] + 1) % 5
    return net, x, y


def exported(net, folder, how):
    import torch

    if how["dynamo"]:
        package_at_hand("onnxscript")
    path = folder / "net.onnx"
    count = 2 if {"dynamic_axes", "dynamic_shapes"} & how.keys() else 1
    images = (torch.rand(count, 3, 24, 24),)
    torch.onnx.export(net, images, str(path), input_names=["x"], output_names=["y"], **how)
    return path


def correct(model, x, y):
    """How many are classified correctly under FGSM, by epsilon."""
    run = harness.evaluate(model, x, y, ["fgsm"], EPSILONS, progress=False)
    return [r.correct for r in run.records if r.check in ("clean", "fgsm")]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_residual_network_is_read_and_agrees_to_the_image(original, exporter, tmp_path):
    net, x, y = original
    path = exported(net, tmp_path, EXPORTERS[exporter])
    expected = correct(harness.wrap(net), x, y)
    assert expected[0] == COUNT - COUNT // 10
    assert len(set(expected)) == len(EPSILONS)  # the sweep tells epsilons apart
    for backend in ("torch", "numpy"):
        read = harness.wrap(path, backend=backend)
        assert GRADIENT in read.capabilities
        assert correct(read, x, y) == expected
    sums = [layer for layer in read.read.network.architecture.layers if isinstance(layer, Residual)]
    assert [bool(layer.shortcut) for layer in sums] == [False, True, False]
    box = harness.wrap(path, backend="onnx")
    assert registry.made_by(box)[0] == "onnx"
    theirs = logits_of(box, x)
    np.testing.assert_allclose(logits_of(read, x), theirs, atol=1e-5 * np.abs(theirs).max())
