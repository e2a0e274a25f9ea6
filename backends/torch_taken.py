"""What PyTorch networks are taken, and on which devices."""

from __future__ import annotations

import inspect
import warnings
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from backends.torch_wrapped import ANY, TorchModel, kind_of, original, rewrite, tensors_of
from harness.errors import BackendError, gist
from harness.protocol import Wrapping


def wrapped(net: Any, how: Wrapping) -> TorchModel:
    """See ``protocol.Backend.wrap``."""
    device, kind, rows = device_named(how.device), "", ANY
    if isinstance(net, torch.export.ExportedProgram):
        _check_inputs("the exported program", list(net.graph_signature.user_inputs))
        kind, rows = "torch.export program", _rows_of(net)
        net = net.module()
    if not isinstance(net, nn.Module):
        raise BackendError(
            f"{type(net).__name__}: not a torch.nn.Module, TorchScript or exported program; a "
            "function of images is wrapped with harness.wrap_function"
        )
    if not kind:
        _check_inputs(type(original(net)).__name__, _required(original(net)))
    if any(nn.parameter.is_lazy(value) for _, value in tensors_of(net)):
        raise BackendError(
            f"{type(net).__name__}: has layers whose size is not known yet (such as LazyLinear); "
            "call it with one image before"
        )
    kind = kind or kind_of(net)
    net = _placed(net, device)
    return TorchModel(net, how.bounds, output=how.output, device=device, rows=rows, kind=kind)


def device_named(name: str | None) -> torch.device | None:
    """The device of that name, such as ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        BackendError: It is none, or not here.
    """
    if name is None:
        return None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = ["cpu", *(f"cuda:{index}" for index in range(count))]
    here += ["mps"] if torch.backends.mps.is_available() else []
    if name not in (*here, *["cuda"][:count]):
        raise BackendError(f"device: {name} is not here; there is {', '.join(here)}")
    # With the number that tensors give theirs.
    if name == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps", 0) if name == "mps" else torch.device(name)


def _required(net: nn.Module) -> list[str]:
    """Names of the inputs that a network cannot do without; of one that takes any, that one."""
    if isinstance(net, torch.jit.ScriptModule):
        schema = getattr(getattr(net, "forward", None), "schema", None)
        arguments = [] if schema is None else list(schema.arguments[1:])
        return [a.name for a in arguments if not a.has_default_value()] or ["x"]
    try:
        given = inspect.signature(net.forward).parameters.values()
    except (TypeError, ValueError):
        return ["x"]
    varied = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needed = [one.name for one in given if one.default is one.empty and one.kind not in varied]
    by_place = [one for one in given if one.kind not in (varied[1], inspect.Parameter.KEYWORD_ONLY)]
    return needed or [one.name for one in by_place[:1]]


def _check_inputs(name: str, inputs: list[str]) -> None:
    if len(inputs) != 1:
        listed = f" ({', '.join(inputs)})" if inputs else ""
        raise BackendError(
            f"{name}: takes {len(inputs)} inputs{listed}, and is given the images alone; wrap a "
            "torch.nn.Module whose forward takes them and adds the rest"
        )


def _placed(net: nn.Module, device: torch.device | None) -> nn.Module:
    """The network on a device; a copy if it is elsewhere."""
    if device is None or all(value.device == device for _, value in tensors_of(net)):
        return net
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch about what it copies
            moved = deepcopy(original(net)).to(device)
    except Exception as error:  # whatever an attribute says to being copied
        raise BackendError(
            f"{type(net).__name__}: no copy of it can be made on {device} ({gist(error)}); move it "
            "there before"
        ) from error
    rewrite(moved, lambda given: device if isinstance(given, torch.device) else given)
    return moved


def _rows_of(program: torch.export.ExportedProgram) -> tuple[int, int]:
    """Least and most images that a program was exported for."""
    name = program.graph_signature.user_inputs[0]
    shapes = [
        getattr(node.meta.get("val"), "shape", ()) for node in program.graph.nodes
        if node.name == name
    ]  # fmt: skip
    rows: Any = next((shape[0] for shape in map(list, shapes) if shape), None)
    if rows is None:
        return ANY
    if isinstance(rows, int):
        return max(1, rows), max(1, rows)
    found = program.range_constraints.get(rows.node.expr)
    ends = getattr(found, "lower", None), getattr(found, "upper", None)
    # Infinity is no integer to either of the two libraries that may have written it.
    low, high = (
        int(end) if end is not None and end.is_Integer else default
        for end, default in zip(ends, ANY, strict=True)
    )
    return low, high
