"""Copies of a user's PyTorch network, with which checks compare it."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cached_property
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional

from backends.torch_triton import why_no_triton
from backends.torch_wrapped import (
    COMPUTED_IN,
    TorchModel,
    inference_mode,
    memory_for,
    original,
    rewrite,
    tensors_of,
)
from harness.errors import NotApplicable, gist
from harness.protocol import Batch, Step

STAGES = 8
"""Groups of layers, at most, that become random one after another."""
STATISTICS = {"running_mean": 0, "running_var": 1, "num_batches_tracked": 0}
"""Buffers of batch normalisation, and their values before any training."""


class TorchCopies:
    """See ``protocol.Copies``. Layers are the modules that own parameters or running statistics.

    They come in the order of the forward pass, where one image has been seen or the network is a
    graph; else, and where a module computes with the weights of one within it, as attention does,
    in that of their registration. One that owns vectors alone, as norms do, goes with the layer
    before it. The norms of a stage lose their running statistics, too: those of the trained layers
    before them do not fit what random ones compute, and small variances would multiply that in each
    layer until it overflows, while with mean 0 and variance 1 a norm leaves it as it is.
    """

    def __init__(self, model: TorchModel) -> None:
        self._model = model
        self._net = original(model.net)

    def stages(self) -> int:
        """See ``protocol.Copies``."""
        return len(self._stages)

    def float64(self) -> TorchModel:
        """See ``protocol.Copies``."""
        _check_weights(
            [name for name, value in tensors_of(self._net) if value.dtype in COMPUTED_IN]
        )
        net = self._copy().double()
        # A graph may say in which precision to compute.
        rewrite(net, lambda given: torch.float64 if given in COMPUTED_IN else given)
        return self._model.like(net)

    def randomised(self, stages: int, seed: int) -> TorchModel:
        """See ``protocol.Copies``; a layer's weights depend on its name and the seed alone."""
        net = self._copy()
        modules = dict(net.named_modules())
        device = self._model.device
        net.cpu()  # where each device draws the same numbers
        layers = [name for stage in self._stages[-stages:] for name in stage] if stages > 0 else []
        for name in layers:  # a module before those within it, which it may reset, too
            with _drawing(f"{seed}/{name}"), torch.no_grad():
                _reset(modules[name])
        return self._model.like(net.to(device))

    def learner(self, seed: int) -> TorchLearner:
        """See ``protocol.Copies``."""
        return TorchLearner(self.randomised(self.stages(), seed), seed)

    def _copy(self) -> nn.Module:
        """One that shares nothing with the network, without gradients."""
        try:
            with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of PyTorch about what it copies
                net = deepcopy(self._net)
        except Exception as error:  # whatever an attribute says to being copied
            raise NotApplicable(f"the network cannot be copied ({gist(error)})") from error
        for parameter in net.parameters():
            parameter.grad = None
        return net

    @cached_property
    def _stages(self) -> list[list[str]]:
        """Names of the layers of each stage, from input to output."""
        modules = dict(self._net.named_modules())
        layers = [name for name in modules if _owned(modules[name])]
        _check_weights(layers)
        units: list[list[str]] = []
        for name in self._in_order(layers):
            vectors = all(value.ndim < 2 for value in _owned(modules[name]).values())
            if vectors and units:
                units[-1].append(name)
            else:
                units.append([name])
        count = min(STAGES, len(units))
        # From the output back, so that what does not divide evenly is with the input.
        ends = [len(units) - len(units) * back // count for back in range(count, -1, -1)]
        return [[name for unit in units[low:high] for name in unit] for low, high in pairwise(ends)]

    def _in_order(self, names: list[str]) -> list[str]:
        """Layers in the order in which they are first used."""
        used = _used_in_graph(self._net) or self._called(set(names))
        order: list[str] = [name for name in used if name in names]
        for name in names:  # one that was not seen comes after what was registered before it
            if name not in order:
                before = names[: names.index(name)]
                order.insert(order.index(before[-1]) + 1 if before else 0, name)
        return order

    def _called(self, names: set[str]) -> list[str]:
        """Layers in the order in which they are called with one image; none if that fails."""
        shape, called = self._model.image_shape, dict[str, None]()
        if shape is None or isinstance(self._net, torch.jit.ScriptModule):
            return []
        net = self._copy()

        def note(name: str) -> Callable[..., None]:
            return lambda module, given: called.setdefault(name)

        for name, module in net.named_modules():
            if name in names:
                module.register_forward_pre_hook(note(name))
        try:
            image = torch.full((1, *shape), sum(self._model.bounds) / 2, dtype=self._model.entry)
            with inference_mode(net), torch.inference_mode(False), _drawing("order"):
                self._model.answer(net, image.to(self._model.device))
        except Exception:  # what is wrong with the network, a measurement says
            return []
        return list(called)


class TorchLearner:
    """See ``protocol.Learner``: Adam on the cross-entropy, in float32 at least."""

    def __init__(self, model: TorchModel, seed: int) -> None:
        if reason := why_no_triton():
            raise NotApplicable(reason)
        net = model.net
        if model.entry in (torch.float16, torch.bfloat16):
            net = net.float()
        self.model = model.like(net)
        self._seed, self._steps = seed, 0
        trained = [value for value in net.parameters() if value.is_floating_point()]
        self._optimizer = torch.optim.Adam([value.requires_grad_(True) for value in trained])

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """See ``protocol.Learner``."""
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        # Of one image batch normalisation has no variance.
        rows = slice(None) if len(batch.x) > 1 else [0, 0]
        wanted = self.model.asarray(batch.targets[rows])
        x = self.model.asarray(batch.x[rows]).clone()
        self._steps += 1
        drawn = _drawing(f"{self._seed}/step/{self._steps}", self.model.device)
        with drawn, _training(self.model.net), torch.inference_mode(False), torch.enable_grad():
            with memory_for(len(batch.x)):
                logits = self.model.answer(self.model.net, x)
                loss = functional.cross_entropy(logits, wanted)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
            self._optimizer.step()
        right = logits.detach().argmax(1) == wanted.argmax(1)
        return Step(float(loss.detach()), int(right[: len(batch.x)].sum()))


def _check_weights(found: list[str]) -> None:
    if not found:
        raise NotApplicable(
            "the network has no weights that a copy could change: they are constants of a frozen "
            "or quantised network, or outside of it"
        )


def _owned(module: nn.Module) -> dict[str, torch.Tensor]:
    """What of a module becomes random: its own parameters and running statistics."""
    named = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    buffers = {name for name, _ in module.named_buffers(recurse=False)} - STATISTICS.keys()
    found = {name: value for name, value in named if name not in buffers}
    if not any(value.dtype in COMPUTED_IN for value in found.values()):
        return {}
    return found


def _reset(module: nn.Module) -> None:
    """Draw a layer's own weights anew, in place.

    By its ``reset_parameters`` where it has that. What that leaves, such as class tokens, position
    embeddings, and weights of exported graphs and TorchScript, is drawn from a normal distribution
    of standard deviation 1/√(fan-in); vectors become 0 if they are biases, else 1.
    """
    own = _owned(module)
    before = {name: value.clone() for name, value in own.items()}
    found = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    if callable(found):
        found()
    for name, value in own.items():
        if name in STATISTICS:
            value.fill_(STATISTICS[name])
        elif value.dtype in COMPUTED_IN and torch.equal(value, before[name]):
            if value.ndim < 2:
                value.fill_(0 if "bias" in name or "beta" in name else 1)
            else:
                value.normal_(std=1 / math.sqrt(max(1, math.prod(value.shape[1:]))))


@contextmanager
def _drawing(key: str, device: torch.device | None = None) -> Iterator[None]:
    """Random numbers from a seed of that name; the global generators stay as they were."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big")
    here = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=here):
        torch.default_generator.manual_seed(seed)
        for each in here:
            with torch.cuda.device(each):
                torch.cuda.manual_seed(seed)
        yield


@contextmanager
def _training(net: nn.Module) -> Iterator[None]:
    """Training mode; that of an exported graph is in the graph, and cannot be changed."""
    modules = [
        module for module in net.modules()
        if hasattr(module, "training") and not isinstance(module, torch.fx.GraphModule)
    ]  # fmt: skip
    modes = [module.training for module in modules]
    try:
        for module in modules:
            module.training = True
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _used_in_graph(net: nn.Module) -> list[str]:
    """Modules whose weights a traced or exported graph uses, in order; none of other networks."""
    if not isinstance(net, torch.fx.GraphModule):
        return []
    reads: dict[torch.fx.Node, str] = {}
    used: dict[str, None] = {}
    for node in net.graph.nodes:
        if node.op == "get_attr":
            reads[node] = str(node.target).rpartition(".")[0]
        elif node.op == "call_module":
            used[str(node.target)] = None
        for given in node.all_input_nodes:
            if given in reads:
                used[reads[given]] = None
    return list(used)
