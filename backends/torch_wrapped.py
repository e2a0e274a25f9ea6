"""Any PyTorch network as a ``Model``: modules, TorchScript, exported and compiled ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import array_api_compat.torch
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from backends.torch_precision import full_float32
from harness.errors import BatchTooLarge, MeasurementError
from harness.protocol import (
    GRADIENT,
    About,
    Array,
    Bounds,
    Objective,
    one_output,
    require_classes,
    shown,
    two_classes,
)

COMPUTED_IN = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""Dtypes that a network may take its images in."""
ANY = (0, 2**62)
"""Least and most images that most networks take at a time."""
NO_MEMORY = re.compile(r"out of memory|can't allocate memory|not enough memory|bad_alloc", re.I)
"""What the allocators of the CPU and of Metal say, whose errors have no class of their own."""
TRIED, LARGEST = 8, 1024
"""How many numbers in an error's message are tried as the size of a batch, and up to which."""


class TorchModel:
    """A network that returns logits, in inference mode, on the device it is on.

    Args:
        net: What is called.
        bounds: See ``protocol.Model``.
        output: See ``protocol.Wrapping``.
        device: Where images go if the network has no weights that tell.
        rows: Least and most images that it takes at a time; batches are split and padded to that.
        kind: See ``protocol.About``; by default from its class.
    """

    xp = array_api_compat.torch
    capabilities = frozenset({GRADIENT})
    may_work_in_place = True

    def __init__(
        self,
        net: nn.Module,
        bounds: Bounds,
        *,
        output: str | None = None,
        device: torch.device | None = None,
        rows: tuple[int, int] = ANY,
        kind: str = "",
    ) -> None:
        self.net, self.bounds, self.output, self.rows = net, bounds, output, rows
        self.kind = kind or kind_of(net)
        self.image_shape: tuple[int, ...] | None = None
        self.device, self.entry = _entrance(net, device or torch.device("cpu"))
        # Attacks work in this; a network of half precision gets its images cast at its door.
        self.dtype = torch.float64 if self.entry == torch.float64 else torch.float32
        self._made_for_inference = any(value.is_inference() for _, value in tensors_of(net))

    def like(self, net: nn.Module) -> TorchModel:
        """Another network, such as a copy of this one's, called in the same way."""
        return TorchModel(
            net, self.bounds, output=self.output, device=self.device, rows=self.rows, kind=self.kind
        )

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
        with (
            inference_mode(self.net), full_float32(self.device), torch.inference_mode(False),
            torch.no_grad(), self._explained(x),
        ):  # fmt: skip
            return self.answer(self.net, self._entered(x))

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``; autograd computes that gradient alone."""
        with (
            inference_mode(self.net), full_float32(self.device), torch.inference_mode(False),
            torch.enable_grad(),
        ):  # fmt: skip
            # What was made in the caller's inference mode takes no part in autograd; a copy does.
            watched = (x.clone() if x.is_inference() else x.detach()).requires_grad_(True)
            with self._explained(x):
                logits = self.answer(self._differentiable(), self._entered(watched))
            values = logits.detach()
            if y.ndim == 1:
                require_classes(self.numpy(y), values.shape[1])
            true = y if y.ndim == 2 else functional.one_hot(y, values.shape[1]).bool()
            flow = objective.logit_gradient(self.xp, values, true)
            if logits.requires_grad:
                with memory_for(len(x)):
                    gradient = torch.autograd.grad(logits, watched, flow, allow_unused=True)[0]
                if gradient is not None:
                    return values, gradient
        raise MeasurementError(
            "the network gives no gradient: no gradient reaches the input; attack it with square "
            "(is there a detach, no_grad, inference_mode, argmax or NumPy in between?)"
        )

    def footprint(self, x: Array) -> int:
        """Bytes that autograd keeps of each of a few images (n, *shape), n >= 1, for a gradient.

        That is what two of them take up more than one, so that weights do not count.
        """
        unit = max(1, self.rows[0])
        few = self._entered(x[:1].detach()).repeat(2 * unit, *[1] * (x.ndim - 1))
        with inference_mode(self.net), torch.inference_mode(False), torch.enable_grad():
            one, two = (self._kept(few[: count * unit].clone()) for count in (1, 2))
        return max(0, two - one) // unit

    def __repr__(self) -> str:
        return shown(self.kind, self.bounds, self.capabilities)

    def about(self) -> About:
        """What it is; of a frozen network the constants count as its weights."""
        digest = hashlib.sha256()
        for name, value in chain(tensors_of(original(self.net)), _constants(self.net)):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(_bytes_of(value))
        trained = sum(value.numel() for value in self.net.parameters())
        frozen = not trained and isinstance(self.net, torch.jit.ScriptModule)
        return About(
            self.kind, None if frozen else trained, str(self.device), digest.hexdigest()
        )  # fmt: skip

    def answer(self, net: Callable[[Array], Any], x: Array) -> Array:
        """The logits of a batch in the network's dtype, in so many calls as it needs."""
        low, high = self.rows
        if low <= len(x) <= high:
            return self._read(net(x))
        parts = []
        for start in range(0, len(x), high):
            part = x[start : start + high]
            short = max(0, low - len(part))
            padded = torch.cat([part, part[-1:].repeat(short, *[1] * (x.ndim - 1))])
            parts.append(self._read(net(padded))[: len(part)])
        return torch.cat(parts)

    def _shared(self, values: npt.NDArray[Any], dtype: torch.dtype) -> Array:
        """The values as a tensor, in NumPy's own memory where torch can express that."""
        plain = values.dtype.isnative and min(values.strides, default=0) >= 0
        if not (plain and values.flags.writeable):
            values = values.astype(values.dtype.newbyteorder("="), order="C")
        return torch.as_tensor(values, dtype=dtype, device=self.device)

    def _entered(self, x: Array) -> Array:
        """The images as the network takes them: cast, or a copy where it may work in place."""
        self.image_shape = tuple(x.shape[1:])
        if x.dtype != self.entry:
            return x.to(self.entry)
        return x.clone() if self.may_work_in_place else x

    def _read(self, outputs: Any) -> Array:
        """The logits among the network's outputs, in float32 at least."""
        found = one_output(outputs, lambda value: isinstance(value, torch.Tensor), self.output)
        if found.is_complex():
            raise MeasurementError(f"the network returns {found.dtype}, not one tensor of logits")
        if found.is_inference():  # its own inference mode; what is computed of them may need more
            found = found.clone()
        if found.dtype not in (torch.float32, torch.float64):
            found = found.to(self.dtype)
        return two_classes(self.xp, found)

    def _differentiable(self) -> Callable[[Array], Any]:
        """The network; with copies of what in it was made in inference mode."""
        if not self._made_for_inference:
            return self.net
        copies = {name: value.clone() for name, value in tensors_of(self.net)}
        return lambda x: torch.func.functional_call(self.net, copies, (x,))

    def _kept(self, x: Array) -> int:
        """Bytes of all tensors that autograd keeps of a batch, each memory once."""
        kept: dict[int, int] = {}

        def note(value: torch.Tensor) -> torch.Tensor:
            if value.layout == torch.strided:
                storage = value.untyped_storage()
                kept[storage.data_ptr()] = storage.nbytes()
            return value.detach()

        net = original(self.net) if not self._made_for_inference else self._differentiable()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda value: value):
            outputs = self.answer(net, x.requires_grad_(True) * 1)
        found = sum(kept.values())
        del outputs  # until here it has held them, so that no memory was used twice
        return found

    @contextmanager
    def _explained(self, x: Array) -> Iterator[None]:
        """What a network raises is passed on, but where it says how many images it takes."""
        try:
            with memory_for(len(x)):
                yield
        except MeasurementError:
            raise
        except Exception as error:
            if limit := self._limit(x, error):
                raise MeasurementError(limit) from error
            raise

    def _limit(self, x: Array, error: Exception) -> str:
        """How many images the network takes, if a batch has failed for that; else nothing."""
        count = len(x)
        if self._takes(x, 1):
            if count < 2 or self._takes(x, count):
                return ""
            most, fails = 1, count
            while fails - most > 1:
                middle = (most + fails) // 2
                most, fails = (middle, fails) if self._takes(x, middle) else (most, middle)
            return f"the network takes at most {most} images at a time; say batch_size = {most}"
        numbers = dict.fromkeys(int(text) for text in re.findall(r"\b\d{1,4}\b", str(error)))
        for size in [number for number in numbers if 1 < number <= LARGEST][:TRIED]:
            if self._takes(x, size):
                return (
                    f"the network takes batches of exactly {size} images; let its forward take any "
                    "number, or export it with torch.export, whose batches are padded"
                )
        return ""

    def _takes(self, x: Array, count: int) -> bool:
        """Whether the network answers so many images, all of them like the first."""
        try:
            with torch.no_grad():
                images = self._entered(x[:1].detach()).repeat(count, *[1] * (x.ndim - 1))
                return len(self.answer(self.net, images)) == count
        except Exception:  # it raises whatever it likes
            return False


def original(net: nn.Module) -> nn.Module:
    """The module that ``torch.compile`` was given; any other as it is."""
    found = getattr(net, "_orig_mod", None)
    return found if isinstance(found, nn.Module) else net


def tensors_of(net: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Parameters, then buffers, with their names."""
    return chain(net.named_parameters(), net.named_buffers())


def rewrite(net: nn.Module, change: Callable[[Any], Any]) -> None:
    """Put others in the place of arguments that are written in a network's graph, if it is one.

    Assertions of what tensors are like, of which that makes false ones, go.
    """
    for module in net.modules():
        if not isinstance(module, torch.fx.GraphModule):
            continue
        for node in list(module.graph.nodes):
            if "_assert_tensor_metadata" in str(node.target):
                module.graph.erase_node(node)
            elif node.op == "call_function":
                node.args = torch.fx.node.map_aggregate(node.args, change)
                node.kwargs = torch.fx.node.map_aggregate(node.kwargs, change)
        module.recompile()


@contextmanager
def memory_for(count: int) -> Iterator[None]:
    """What says that memory is used up becomes ``BatchTooLarge``."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if known or NO_MEMORY.search(str(error)):
            raise BatchTooLarge(
                f"{count} images do not fit into memory at a time; say a smaller batch_size"
            ) from error
        raise


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


def kind_of(net: nn.Module) -> str:
    """What a module is, for people."""
    if isinstance(net, torch.jit.ScriptModule):
        return "TorchScript"
    return f"torch.nn.Module {type(original(net)).__name__}"


def _entrance(net: nn.Module, device: torch.device) -> tuple[torch.device, torch.dtype]:
    """Device and dtype of the first floating parameter or buffer; else that device and float32.

    Integers and booleans (masks, counters, quantised weights) say nothing of the dtype of images,
    nor do formats in which nothing is computed, such as float8.
    """
    tensors = [value for _, value in tensors_of(net)]
    for value in tensors:
        if value.dtype in COMPUTED_IN:
            return value.device, value.dtype
    return tensors[0].device if tensors else device, torch.float32


def _constants(net: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Tensors that TorchScript has written into its code, as ``torch.jit.freeze`` does."""
    if not isinstance(net, torch.jit.ScriptModule):
        return
    graph = net.inlined_graph  # which owns the nodes
    for number, node in enumerate(graph.findAllNodes("prim::Constant")):
        if node.hasAttribute("value") and node.kindOf("value") == "t":
            yield f"constant {number}", node.t("value")


def _bytes_of(value: torch.Tensor) -> bytes:
    held = value.detach().cpu()
    held = held.int_repr() if held.is_quantized else held.to_dense()
    return held.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
