"""The PyTorch backend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import array_api_compat.torch
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from harness.errors import BackendError
from harness.protocol import (
    GRADIENT,
    TRAIN,
    WEIGHTS,
    Architecture,
    Array,
    Bounds,
    FloatArray,
    IntArray,
    Objective,
    Weights,
)


class TorchModel:
    """A ``torch.nn.Module`` that returns logits, in inference mode, on the device it is on."""

    xp = array_api_compat.torch
    capabilities = frozenset({GRADIENT})

    def __init__(self, net: nn.Module, bounds: Bounds) -> None:
        self.net = net
        self.bounds = bounds
        parameter = next(net.parameters(), torch.empty(0))
        self.device, self.dtype = parameter.device, parameter.dtype

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        dtype = torch.int64 if values.dtype.kind in "iu" else self.dtype
        # A copy where NumPy's memory is read-only, which torch cannot express.
        shared = values if values.flags.writeable else values.copy()
        return torch.as_tensor(shared, dtype=dtype, device=self.device)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``."""
        return np.asarray(array.detach().cpu())

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        with inference_mode(self.net), torch.no_grad():
            return self.net(x)

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.Model``; autograd computes only the gradient that is asked for."""
        with inference_mode(self.net), torch.enable_grad():
            watched = x.detach().requires_grad_(True)
            logits = self.net(watched)
            values = logits.detach()
            true = functional.one_hot(y, values.shape[1]).bool()
            flow = objective.logit_gradient(self.xp, values, true)
            (gradient,) = torch.autograd.grad(logits, watched, grad_outputs=flow)
        return values, gradient

    def weights(self) -> dict[str, FloatArray]:
        """See ``protocol.Model``; a wrapped network has no neutral names."""
        raise BackendError("a wrapped network's weights have no neutral names")


class TorchMLP(TorchModel):
    """A network that was built from an ``Architecture``, so its weights have neutral names."""

    capabilities = frozenset({GRADIENT, TRAIN, WEIGHTS})
    net: nn.Sequential

    def weights(self) -> dict[str, FloatArray]:
        """See ``protocol.Model``."""
        named: dict[str, FloatArray] = {}
        for index, layer in enumerate(linear_layers(self.net)):
            named[f"layers.{index}.weight"] = self.numpy(layer.weight).copy()
            named[f"layers.{index}.bias"] = self.numpy(layer.bias).copy()
        return named


class SeededDropout(nn.Module):
    """Inverted dropout with a generator of its own, so that the global one is left alone."""

    def __init__(self, share: float, seed: int) -> None:
        super().__init__()
        self.share = share
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero a share of the units while training, and scale the others up."""
        if not self.training or self.share == 0:
            return x
        kept = torch.rand(x.shape, generator=self.generator) >= self.share
        return x * kept.to(x.device) / (1 - self.share)


class TorchTrainer:
    """See ``protocol.Trainer``."""

    def __init__(self, model: TorchMLP, l2: float) -> None:
        self.model = model
        self.l2 = l2
        self.optimizer = torch.optim.Adam(model.net.parameters(), betas=(0.9, 0.999), eps=1e-8)

    def step(self, x: FloatArray, y: IntArray, learning_rate: float) -> tuple[float, int]:
        """See ``protocol.Trainer``."""
        net = self.model.net.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        images, labels = self.model.asarray(x), self.model.asarray(y)
        logits = net(images)
        loss = functional.cross_entropy(logits, labels)
        if self.l2:
            loss = loss + self.l2 * sum(layer.weight.square().sum() for layer in linear_layers(net))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach()), int((logits.detach().argmax(1) == labels).sum())


class TorchBackend:
    """See ``protocol.Backend``."""

    name = "torch"

    def versions(self) -> dict[str, str]:
        """See ``protocol.Backend``."""
        return {"torch": torch.__version__}

    def build(
        self,
        architecture: Architecture,
        weights: Weights,
        *,
        bounds: Bounds = (0.0, 1.0),
        dtype: str = "float32",
    ) -> TorchMLP:
        """See ``protocol.Backend``."""
        return self._build(architecture, weights, bounds, dtype, seed=0)

    def _build(
        self, architecture: Architecture, weights: Weights, bounds: Bounds, dtype: str, seed: int
    ) -> TorchMLP:
        layers: list[nn.Module] = [nn.Flatten()]
        width = architecture.sizes[0]
        for index, hidden in enumerate(architecture.hidden):
            dropout = SeededDropout(architecture.dropout, seed + index)
            layers += [_linear(width, hidden), nn.ReLU(), dropout]
            width = hidden
        net = nn.Sequential(*layers, _linear(width, architecture.classes))
        net = net.to(getattr(torch, dtype))
        with torch.no_grad():
            for index, layer in enumerate(linear_layers(net)):
                layer.weight.copy_(torch.tensor(weights[f"layers.{index}.weight"]))
                layer.bias.copy_(torch.tensor(weights[f"layers.{index}.bias"]))
        return TorchMLP(net.eval(), bounds)

    def trainer(
        self, architecture: Architecture, weights: Weights, *, bounds: Bounds, l2: float, seed: int
    ) -> TorchTrainer:
        """See ``protocol.Backend``."""
        return TorchTrainer(self._build(architecture, weights, bounds, "float32", seed), l2)

    def wrap(self, net: Any, *, bounds: Bounds) -> TorchModel:
        """See ``protocol.Backend``."""
        if not isinstance(net, nn.Module):
            raise BackendError(f"{type(net).__name__}: not a torch.nn.Module")
        return TorchModel(net, bounds)


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    """A linear layer whose weights are still to be set; drawing them would use global state."""
    return nn.utils.skip_init(nn.Linear, fan_in, fan_out)


def linear_layers(net: nn.Sequential) -> list[nn.Linear]:
    """The linear layers from input to logits."""
    return [layer for layer in net if isinstance(layer, nn.Linear)]


@contextmanager
def inference_mode(net: nn.Module) -> Iterator[None]:
    """Dropout and batch norm as in inference; each module gets its own mode back afterwards."""
    training = [module for module in net.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
