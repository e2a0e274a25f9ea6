"""An ONNX file as a graph of nodes and constants; nothing in it is trusted."""

from __future__ import annotations

import hashlib
import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError, one_line
from harness.files import read_bounded

Constant: TypeAlias = npt.NDArray[Any]
LARGEST = 1 << 30
"""Bytes of a file, and of all files of weights beside it, that are read at most."""
MOST = 5000
"""Nodes of a graph; a residual network of 152 layers has about 500."""
OLDEST = 7
"""Of the operators' versions; before it they are other operators under the same names."""
FLOAT = 1
DTYPES = {FLOAT: "<f4", 11: "<f8", 6: "<i4", 7: "<i8", 9: "?"}
"""Of numbers that are read, by their codes in ``TensorProto``."""
LISTS = {FLOAT: "float_data", 11: "double_data", 6: "int32_data", 7: "int64_data", 9: "int32_data"}
"""Where they are if not in bytes."""
EXTERNAL = 1
DEFAULT_DOMAINS = ("", "ai.onnx")


class GraphError(HarnessError):
    """An ONNX file that is no network of the harness; the message names the operator."""


@dataclass(frozen=True)
class Node:
    """An operator in its place.

    Attributes:
        kind: Its name, with its domain before it where that is not ONNX's own.
        name: Of the node; often empty.
        inputs: Names of what it is given; empty where something is left out.
        outputs: Names of what it makes.
        attributes: By name: numbers, texts, lists, and arrays.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def refused(self, why: str = "") -> GraphError:
        """What is said of an operator that is not read."""
        named = f" (node {self.name})" if self.name else ""
        return GraphError(
            one_line(f"operator {self.kind}{named}: {why or 'it is no layer of the harness'}")
        )


@dataclass(frozen=True)
class Graph:
    """What an ONNX file holds.

    Attributes:
        nodes: Those that the scores need, in the order of the file.
        constants: Arrays by their names.
        input: Name of the images.
        shape: Of one image.
        batch: How many images it takes; None for any number.
        output: Name of the scores.
        opset: Version of the operators.
        identity: SHA-256 over the file, and those of weights beside it.
    """

    nodes: tuple[Node, ...]
    constants: dict[str, Constant]
    input: str
    shape: tuple[int, ...]
    batch: int | None
    output: str
    opset: int
    identity: str


def read_graph(path: Path, output: str | None = None) -> Graph:
    """The graph of a file, as far as one of its outputs needs it.

    Args:
        path: The file.
        output: Name of the output; if None ``logits``, or the first.

    Raises:
        GraphError: It cannot be read, or is not one array of images to one of scores.
    """
    try:
        model = importlib.import_module("onnx").ModelProto()
    except ImportError as error:
        raise GraphError(
            "onnx is not installed, which reads the file; pip install 'robustness-harness[onnx]'"
        ) from error
    try:
        raw = read_bounded(path, LARGEST)
        model.ParseFromString(raw)
    except Exception as error:  # a file that is no protobuf: whatever its parser raises
        raise GraphError(one_line(f"not readable as ONNX ({error})")) from error
    try:
        return _Reading(model, path.parent, raw).graph(output)
    except GraphError:
        raise
    except Exception as error:  # fields that contradict each other in a way nobody foresaw
        raise GraphError(one_line(f"not readable as ONNX ({type(error).__name__})")) from error


class _Reading:
    """Reads the parts of a ``ModelProto``."""

    def __init__(self, model: Any, folder: Path, raw: bytes) -> None:
        self.model, self.proto, self.folder = model, model.graph, folder
        self.digest = hashlib.sha256(raw)
        self.beside: dict[Path, bytes] = {}

    def graph(self, output: str | None) -> Graph:
        """See ``read_graph``."""
        if not self.proto.node:
            raise GraphError("it holds no graph")
        if len(self.proto.node) > MOST:
            raise GraphError(f"it has {len(self.proto.node)} nodes, more than {MOST}")
        if self.proto.sparse_initializer:
            raise GraphError("its weights are sparse")
        name, shape, batch = self.images()
        scores = self.scores(output)
        nodes = self.needed(scores)
        wanted = {one for node in nodes for one in node.inputs}
        constants = {t.name: self.array(t) for t in self.proto.initializer if t.name in wanted}
        return Graph(
            nodes, constants, name, shape, batch, scores, self.opset, self.digest.hexdigest()
        )

    @cached_property
    def opset(self) -> int:
        """Version of ONNX's own operators."""
        versions = [o.version for o in self.model.opset_import if o.domain in DEFAULT_DOMAINS]
        found = int(max(versions, default=0))
        if found < OLDEST:
            raise GraphError(f"its operators are of version {found}; from {OLDEST} they are read")
        return found

    def images(self) -> tuple[str, tuple[int, ...], int | None]:
        """Name of the input, the shape of one image, and how many it takes."""
        held = {tensor.name for tensor in self.proto.initializer}
        inputs = [one for one in self.proto.input if one.name not in held]
        if len(inputs) != 1:
            raise GraphError(f"it has {len(inputs)} inputs, not images alone")
        kind = inputs[0].type.tensor_type
        if kind.elem_type != FLOAT:
            raise GraphError(one_line(f"its input {inputs[0].name} is not float32"))
        sides = [int(dim.dim_value) for dim in kind.shape.dim]
        if len(sides) < 2:
            raise GraphError(one_line(f"its input {inputs[0].name} has no batch of images"))
        if min(sides[1:]) < 1:
            raise GraphError(one_line(f"its input {inputs[0].name} has sides of any length"))
        return inputs[0].name, tuple(sides[1:]), sides[0] if sides[0] > 0 else None

    def scores(self, wanted: str | None) -> str:
        """Name of the output that holds the scores."""
        names = [o.name for o in self.proto.output if o.type.tensor_type.elem_type == FLOAT]
        asked = "logits" if wanted is None and "logits" in names else wanted
        if not names or (asked is not None and asked not in names):
            raise GraphError(one_line(f"it has no output {asked or 'of float32'}"))
        return asked or names[0]

    def needed(self, output: str) -> tuple[Node, ...]:
        """The nodes that an output needs, in their order."""
        makers = {name: node for node in self.proto.node for name in node.output if name}
        names, reached = [output], {output}
        while names:
            node = makers.get(names.pop())
            fresh = [one for one in (node.input if node else ()) if one and one not in reached]
            reached.update(fresh)
            names += fresh
        return tuple(
            self.node(node) for node in self.proto.node if reached.intersection(node.output)
        )

    def node(self, proto: Any) -> Node:
        """A node with its attributes."""
        domain = "" if proto.domain in DEFAULT_DOMAINS else f"{proto.domain}."
        return Node(
            f"{domain}{proto.op_type}",
            proto.name,
            tuple(proto.input),
            tuple(proto.output),
            {one.name: self.attribute(one) for one in proto.attribute},
        )

    def attribute(self, proto: Any) -> Any:
        """An attribute's value; None of kinds that no layer has, such as graphs."""
        kinds: dict[int, Callable[[], Any]] = {
            1: lambda: float(proto.f), 2: lambda: int(proto.i),
            3: lambda: proto.s.decode("utf-8", "replace"),
            4: lambda: self.array(proto.t),
            6: lambda: tuple(map(float, proto.floats)), 7: lambda: tuple(map(int, proto.ints)),
        }  # fmt: skip
        return kinds[proto.type]() if proto.type in kinds else None

    def array(self, tensor: Any) -> Constant:
        """The numbers of a tensor, as many as it says that it has."""
        name = f"weights {tensor.name}" if tensor.name else "a constant"
        if tensor.data_type not in DTYPES:
            raise GraphError(one_line(f"{name}: of type {tensor.data_type}, not float32"))
        dtype, shape = np.dtype(DTYPES[tensor.data_type]), tuple(map(int, tensor.dims))
        if min(shape, default=0) < 0:
            raise GraphError(one_line(f"{name}: a side is negative"))
        if tensor.data_location == EXTERNAL:
            found = np.frombuffer(self.external(tensor, name), dtype)
        elif tensor.HasField("raw_data"):
            raw = tensor.raw_data
            found = np.frombuffer(raw[: len(raw) - len(raw) % dtype.itemsize], dtype)
        else:
            found = np.array(getattr(tensor, LISTS[tensor.data_type]), dtype)
        if len(found) != math.prod(shape):
            raise GraphError(
                one_line(f"{name}: holds {len(found)} numbers, and says {math.prod(shape)}")
            )
        return found.reshape(shape)

    def external(self, tensor: Any, name: str) -> bytes:
        """The bytes of weights in a file beside, which must be in the same folder, or below."""
        said = {one.key: one.value for one in tensor.external_data}
        where = Path(said.get("location", ""))
        folder = self.folder.resolve()
        path = (folder / where).resolve()
        # Links are resolved by now, so that none leads out of the folder.
        if where.is_absolute() or not path.is_relative_to(folder) or not path.is_file():
            raise GraphError(one_line(f"{name}: in a file {where} that is not beside the graph"))
        if path not in self.beside:
            left = LARGEST - sum(map(len, self.beside.values()))
            self.beside[path] = read_bounded(path, left)
            self.digest.update(self.beside[path])
        held = self.beside[path]
        start = int(said.get("offset", 0))
        count = int(said.get("length", len(held) - start))
        if start < 0 or count < 0 or start + count > len(held):
            raise GraphError(one_line(f"{name}: beyond the end of {where}"))
        return held[start : start + count]
