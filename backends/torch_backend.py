"""The PyTorch backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from backends.torch_copies import TorchCopies
from backends.torch_layers import Built
from backends.torch_loading import loaded
from backends.torch_robust import RobustBatch, moved_weights
from backends.torch_saving import saved
from backends.torch_taken import device_named, wrapped
from backends.torch_triton import why_no_triton
from backends.torch_wrapped import TorchModel
from harness.errors import BackendError
from harness.protocol import (
    GRADIENT,
    UNIT,
    Architecture,
    Batch,
    Bounds,
    FloatArray,
    Model,
    Network,
    Optimizer,
    Step,
    Weights,
    Wrapping,
    check_state,
)


class BuiltTorchModel(TorchModel):
    """A network that was built from an ``Architecture``, so its weights have neutral names."""

    capabilities = frozenset({GRADIENT})
    may_work_in_place = False
    net: Built

    def __init__(self, net: Built, bounds: Bounds, channel_axis: int | None) -> None:
        super().__init__(net, bounds)
        self.channel_axis = channel_axis

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the weights under neutral names, with batch normalisation folded in."""
        return self.net.weights()

    def set_weights(self, weights: Weights) -> None:
        """Put other weights in their place."""
        self.net.set_weights(weights)


class TorchTrainer:
    """See ``protocol.Trainer``."""

    def __init__(
        self,
        model: BuiltTorchModel,
        plain: BuiltTorchModel,
        architecture: Architecture,
        optimizer: Optimizer,
    ) -> None:
        self.architecture = architecture
        self.model = model
        self.plain = plain
        self.l2 = optimizer.l2
        matrices = list(model.net.matrices())
        others = [
            p for p in model.net.parameters()
            if p.requires_grad and all(p is not m for m in matrices)
        ]  # fmt: skip
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
        given = RobustBatch.of(batch, self.model)
        self.optimizer.zero_grad(set_to_none=True)
        if batch.weight_gamma:
            with moved_weights(net, given, batch.weight_gamma) as (logits, first):
                self._penalised(given.loss(net)[1]).backward()
            # With the weights where they were again.
            loss = self._penalised(first)
        else:
            logits, loss = given.loss(net)
            loss = self._penalised(loss)
            loss.backward()
        self.optimizer.step()
        correct = (logits.detach().argmax(1) == given.targets.argmax(1)).sum()
        return Step(float(loss.detach()), int(correct))

    def _penalised(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss with the L2 penalty."""
        if not self.l2:
            return loss
        squares = (matrix.square().sum() for matrix in self.model.net.matrices())
        return loss + self.l2 * sum(squares)

    def weights(self) -> dict[str, FloatArray]:
        """See ``protocol.Trainer``."""
        return self.model.weights()

    def inference(self, weights: Weights) -> BuiltTorchModel:
        """See ``protocol.Trainer``."""
        self.plain.set_weights(weights)
        return self.plain

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """See ``protocol.Trainer``."""
        named = {f"net/{key}": value for key, value in self.model.net.state_dict().items()}
        for place, slots in self.optimizer.state_dict()["state"].items():
            named |= {f"adam/{place}/{key}": value for key, value in slots.items()}
        for index, dropout in enumerate(self.model.net.dropouts()):
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
        for index, dropout in enumerate(self.model.net.dropouts()):
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


class TorchBackend:
    """See ``protocol.Backend``."""

    name = "torch"
    suffixes = (".pt2", ".pt")

    def versions(self) -> dict[str, str]:
        """See ``protocol.Backend``."""
        return {"torch": torch.__version__}

    def build(
        self, network: Network, how: Wrapping = UNIT, dtype: str = "float32"
    ) -> BuiltTorchModel:
        """See ``protocol.Builder``."""
        net = Built(network.architecture.inference)
        net.to(device=device_named(how.device), dtype=getattr(torch, dtype))
        model = BuiltTorchModel(
            net.eval().requires_grad_(False), how.bounds, network.architecture.channel_axis
        )
        model.set_weights(network.weights)
        return model

    def trainer(
        self, network: Network, how: Wrapping, optimizer: Optimizer, seed: int
    ) -> TorchTrainer:
        """See ``protocol.Builder``."""
        if reason := why_no_triton():
            raise BackendError(reason)
        architecture = network.architecture
        net = Built(architecture, seed).to(device=device_named(how.device))
        model = BuiltTorchModel(net, how.bounds, architecture.channel_axis)
        model.set_weights(network.weights)
        return TorchTrainer(model, self.build(network, how), architecture, optimizer)

    def knows(self, net: Any) -> bool:
        """See ``protocol.Backend``."""
        return isinstance(net, nn.Module | torch.export.ExportedProgram)

    def wrap(self, net: Any, how: Wrapping) -> TorchModel:
        """See ``protocol.Backend``."""
        return wrapped(net, how)

    def load(self, path: Path, how: Wrapping) -> TorchModel:
        """See ``protocol.Backend``."""
        return loaded(path, how)

    def save(self, network: Network, path: Path) -> None:
        """Write a network as an exported program, ``.pt2``."""
        saved(network, path)

    def copies(self, model: Model) -> TorchCopies | None:
        """See ``protocol.Backend``."""
        return TorchCopies(model) if isinstance(model, TorchModel) else None
