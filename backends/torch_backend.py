"""The PyTorch backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from typing import Any

import array_api_compat.torch
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from harness.errors import BackendError, MeasurementError
from harness.protocol import (
    BN_EPSILON,
    BN_MOMENTUM,
    GRADIENT,
    UNIT,
    Array,
    Batch,
    Bounds,
    FloatArray,
    Network,
    Objective,
    Optimizer,
    Step,
    Weights,
    Wrapping,
    check_state,
    fold_batch_norm,
    require_classes,
)

COMPUTED_IN = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Dtypes that a network may take its images in."""


class TorchModel:
    """A ``torch.nn.Module`` that returns logits, in inference mode, on the device it is on."""

    xp = array_api_compat.torch
    capabilities = frozenset({GRADIENT})
    may_work_in_place = True

    def __init__(self, net: nn.Module, bounds: Bounds) -> None:
        self.net = net
        self.bounds = bounds
        self.device, self.entry = _entrance(net)
        # Attacks work in this; a network of half precision gets its images cast at its door.
        self.dtype = torch.float64 if self.entry == torch.float64 else torch.float32
        self._made_for_inference = any(value.is_inference() for _, value in _tensors(net))

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        if values.dtype.kind in "iu":
            return self._shared(values.astype(np.int64, copy=False), torch.int64)
        return self._shared(values, self.dtype)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``; bfloat16, which NumPy lacks, as float32."""
        held = array.detach().cpu()
        return np.asarray(held.float() if held.dtype == torch.bfloat16 else held)

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``; in float32 at least."""
        with inference_mode(self.net), torch.inference_mode(False), torch.no_grad():
            return self._answer(self.net, self._entered(x))

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``; autograd computes that gradient alone."""
        with inference_mode(self.net), torch.inference_mode(False), torch.enable_grad():
            # What was made in the caller's inference mode takes no part in autograd; a copy does.
            watched = (x.clone() if x.is_inference() else x.detach()).requires_grad_(True)
            logits = self._answer(self._differentiable(), self._entered(watched))
            values = logits.detach()
            if y.ndim == 1:
                require_classes(self.numpy(y), values.shape[1])
            true = y if y.ndim == 2 else functional.one_hot(y, values.shape[1]).bool()
            flow = objective.logit_gradient(self.xp, values, true)
            if logits.requires_grad:
                gradient = torch.autograd.grad(logits, watched, flow, allow_unused=True)[0]
                if gradient is not None:
                    return values, gradient
        raise MeasurementError(
            "the network gives no gradient: its logits do not follow from the image by autograd "
            "(a detach, no_grad, argmax or NumPy in between?)"
        )

    def _shared(self, values: npt.NDArray[Any], dtype: torch.dtype) -> Array:
        """The values as a tensor, in NumPy's own memory where torch can express that."""
        plain = values.dtype.isnative and min(values.strides, default=0) >= 0
        if not (plain and values.flags.writeable):
            values = values.astype(values.dtype.newbyteorder("="), order="C")
        return torch.as_tensor(values, dtype=dtype, device=self.device)

    def _entered(self, x: Array) -> Array:
        """The images as the network takes them: cast, or a copy where it may work in place."""
        if x.dtype != self.entry:
            return x.to(self.entry)
        return x.clone() if self.may_work_in_place else x

    def _answer(self, net: Callable[[Array], Any], x: Array) -> Array:
        """The network's outputs, in float32 at least."""
        outputs = net(x)
        if not isinstance(outputs, torch.Tensor) or outputs.is_complex():
            what = getattr(outputs, "dtype", type(outputs).__name__)
            raise MeasurementError(f"the network returns {what}, not one tensor of logits")
        return (
            outputs if outputs.dtype in (torch.float32, torch.float64) else outputs.to(self.dtype)
        )

    def _differentiable(self) -> Callable[[Array], Any]:
        """The network; with copies of what in it was made in inference mode."""
        if not self._made_for_inference:
            return self.net
        copies = {name: value.clone() for name, value in _tensors(self.net)}
        return lambda x: torch.func.functional_call(self.net, copies, (x,))


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
        model = TorchMLP(net.to(getattr(torch, dtype)).eval().requires_grad_(False), how.bounds)
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
        model = TorchMLP(nn.Sequential(*layers, _linear(width, architecture.classes)), how.bounds)
        model.set_weights(network.weights)
        return TorchTrainer(model, self.build(network, how), optimizer)

    def knows(self, net: Any) -> bool:
        """See ``protocol.Backend``."""
        return isinstance(net, nn.Module)

    def wrap(self, net: Any, how: Wrapping) -> TorchModel:
        """See ``protocol.Backend``."""
        if not self.knows(net):
            raise BackendError(f"{type(net).__name__}: not a torch.nn.Module")
        return TorchModel(net, how.bounds)


def _linear(fan_in: int, fan_out: int) -> nn.Linear:
    """A linear layer whose weights are still to be set; drawing them would use global state."""
    return nn.utils.skip_init(nn.Linear, fan_in, fan_out)


def linear_layers(net: nn.Sequential) -> list[nn.Linear]:
    """The linear layers from input to logits."""
    return [layer for layer in net if isinstance(layer, nn.Linear)]


def _tensors(net: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, then buffers, with their names."""
    return chain(net.named_parameters(), net.named_buffers())


def _entrance(net: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of the first floating parameter or buffer; else the CPU and float32.

    Integers and booleans (masks, counters, quantised weights) say nothing of the dtype of images,
    nor do formats in which nothing is computed, such as float8.
    """
    tensors = [value for _, value in _tensors(net)]
    for value in tensors:
        if value.dtype in COMPUTED_IN:
            return value.device, value.dtype
    device = tensors[0].device if tensors else torch.device("cpu")
    return device, torch.float32


@contextmanager
def inference_mode(net: nn.Module) -> Iterator[None]:
    """Dropout and batch norm as in inference; each module gets its own mode back afterwards."""
    # Modules that torch.jit.freeze has made have no mode, for inference is the only one.
    training = [module for module in net.modules() if getattr(module, "training", False)]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
