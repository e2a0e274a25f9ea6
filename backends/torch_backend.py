"""The PyTorch backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from backends.torch_copies import TorchCopies
from backends.torch_loading import loaded
from backends.torch_taken import device_named, wrapped
from backends.torch_wrapped import TorchModel
from harness.protocol import (
    BN_EPSILON,
    BN_MOMENTUM,
    GRADIENT,
    UNIT,
    Batch,
    FloatArray,
    Model,
    Network,
    Optimizer,
    Step,
    Weights,
    Wrapping,
    check_state,
    fold_batch_norm,
)


class TorchMLP(TorchModel):
    """A network that was built from an ``Architecture``, so its weights have neutral names."""

    capabilities = frozenset({GRADIENT})
    may_work_in_place = False
    net: nn.Sequential

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the weights under neutral names, with batch normalisation folded in."""
        named: dict[str, FloatArray] = {}
        norms = [layer for layer in self.net if isinstance(layer, nn.BatchNorm1d)]
        for index, layer in enumerate(linear_layers(self.net)):
            weight, bias = self.numpy(layer.weight).copy(), self.numpy(layer.bias).copy()
            if index < len(norms):
                norm = norms[index]
                parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
                weight, bias = fold_batch_norm(weight, bias, *map(self.numpy, parts))
            named[f"layers.{index}.weight"], named[f"layers.{index}.bias"] = weight, bias
        return named

    def set_weights(self, weights: Weights) -> None:
        """Put other weights in their place."""
        with torch.no_grad():
            for index, layer in enumerate(linear_layers(self.net)):
                layer.weight.copy_(torch.tensor(weights[f"layers.{index}.weight"]))
                layer.bias.copy_(torch.tensor(weights[f"layers.{index}.bias"]))


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

    def __init__(self, model: TorchMLP, plain: TorchMLP, optimizer: Optimizer) -> None:
        self.model = model
        self.plain = plain
        self.l2 = optimizer.l2
        matrices = [layer.weight for layer in linear_layers(model.net)]
        others = [p for p in model.net.parameters() if all(p is not m for m in matrices)]
        groups = [
            {"params": matrices, "weight_decay": optimizer.decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """See ``protocol.Trainer``."""
        net = self.model.net.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        wanted = self.model.asarray(batch.targets)
        logits = net(self.model.asarray(batch.x))
        loss = functional.cross_entropy(logits, wanted)
        if batch.perturbed is not None:
            theirs = functional.log_softmax(net(self.model.asarray(batch.perturbed)), dim=1)
            ours = functional.log_softmax(logits, dim=1)
            loss = loss + batch.trades_beta * functional.kl_div(
                theirs, ours, log_target=True, reduction="batchmean"
            )
        if self.l2:
            loss = loss + self.l2 * sum(layer.weight.square().sum() for layer in linear_layers(net))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        correct = (logits.detach().argmax(1) == wanted.argmax(1)).sum()
        return Step(float(loss.detach()), int(correct))

    def weights(self) -> dict[str, FloatArray]:
        """See ``protocol.Trainer``."""
        return self.model.weights()

    def inference(self, weights: Weights) -> TorchMLP:
        """See ``protocol.Trainer``."""
        self.plain.set_weights(weights)
        return self.plain

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """See ``protocol.Trainer``."""
        named = {f"net/{key}": value for key, value in self.model.net.state_dict().items()}
        for place, slots in self.optimizer.state_dict()["state"].items():
            named |= {f"adam/{place}/{key}": value for key, value in slots.items()}
        for index, dropout in enumerate(self._dropouts()):
            named[f"dropout/{index}"] = dropout.generator.get_state()
        return {key: value.cpu().numpy().copy() for key, value in named.items()}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See ``protocol.Trainer``."""
        check_state(state, self._complete())
        tensors = {key: torch.tensor(value) for key, value in state.items()}
        net = {key[4:]: value for key, value in tensors.items() if key.startswith("net/")}
        self.model.net.load_state_dict(net)
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("adam/"):
                _, place, name = key.split("/")
                moments.setdefault(int(place), {})[name] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        for index, dropout in enumerate(self._dropouts()):
            dropout.generator.set_state(tensors[f"dropout/{index}"])

    def _complete(self) -> dict[str, npt.NDArray[Any]]:
        """A state with what the optimizer only has after its first step, as zeros."""
        groups = self.optimizer.param_groups
        slots: dict[str, npt.NDArray[Any]] = {}
        for place, parameter in enumerate(p for group in groups for p in group["params"]):
            like = np.zeros_like(parameter.detach().cpu().numpy())
            slots |= {f"adam/{place}/step": np.zeros((), np.float32)}
            slots |= {f"adam/{place}/exp_avg": like, f"adam/{place}/exp_avg_sq": like}
        return slots | self.state()

    def _dropouts(self) -> list[SeededDropout]:
        return [layer for layer in self.model.net if isinstance(layer, SeededDropout)]


class TorchBackend:
    """See ``protocol.Backend``."""

    name = "torch"
    suffixes = (".pt2", ".pt")

    def versions(self) -> dict[str, str]:
        """See ``protocol.Backend``."""
        return {"torch": torch.__version__}

    def build(self, network: Network, how: Wrapping = UNIT, dtype: str = "float32") -> TorchMLP:
        """See ``protocol.Builder``."""
        architecture = network.architecture
        layers: list[nn.Module] = [nn.Flatten()]
        width = architecture.sizes[0]
        for hidden in architecture.hidden:
            layers += [_linear(width, hidden), nn.ReLU(inplace=True)]
            width = hidden
        net = nn.Sequential(*layers, _linear(width, architecture.classes))
        net.to(device=device_named(how.device), dtype=getattr(torch, dtype))
        model = TorchMLP(net.eval().requires_grad_(False), how.bounds)
        model.set_weights(network.weights)
        return model

    def trainer(
        self, network: Network, how: Wrapping, optimizer: Optimizer, seed: int
    ) -> TorchTrainer:
        """See ``protocol.Builder``."""
        architecture = network.architecture
        layers: list[nn.Module] = [nn.Flatten()]
        width = architecture.sizes[0]
        for index, hidden in enumerate(architecture.hidden):
            layers.append(_linear(width, hidden))
            if architecture.batch_norm:
                layers.append(nn.BatchNorm1d(hidden, eps=BN_EPSILON, momentum=1 - BN_MOMENTUM))
            layers += [nn.ReLU(), SeededDropout(architecture.dropout, seed + index)]
            width = hidden
        net = nn.Sequential(*layers, _linear(width, architecture.classes))
        model = TorchMLP(net.to(device=device_named(how.device)), how.bounds)
        model.set_weights(network.weights)
        return TorchTrainer(model, self.build(network, how), optimizer)

    def knows(self, net: Any) -> bool:
        """See ``protocol.Backend``."""
        return isinstance(net, nn.Module | torch.export.ExportedProgram)

    def wrap(self, net: Any, how: Wrapping) -> TorchModel:
        """See ``protocol.Backend``."""
        return wrapped(net, how)

    def load(self, path: Path, how: Wrapping) -> TorchModel:
        """See ``protocol.Backend``."""
        return loaded(path, how)

    def copies(self, model: Model) -> TorchCopies | None:
        """See ``protocol.Backend``."""
        return TorchCopies(model) if isinstance(model, TorchModel) else None


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    """A linear layer whose weights are still to be set; drawing them would use global state."""
    return nn.utils.skip_init(nn.Linear, fan_in, fan_out)


def linear_layers(net: nn.Sequential) -> list[nn.Linear]:
    """The linear layers from input to logits."""
    return [layer for layer in net if isinstance(layer, nn.Linear)]
