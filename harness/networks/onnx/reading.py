"""A network out of an ONNX file, where it is made of layers that the harness knows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.errors import one_line
from harness.maths.channels import guessed_axis
from harness.networks.onnx.assembling import After, Paths, Sum, layers_of, named, widened
from harness.networks.onnx.folding import BATCH, folded
from harness.networks.onnx.graph import Constant, Graph, GraphError, Node, read_graph
from harness.networks.onnx.operators import EITHER, applied
from harness.networks.onnx.values import Form, Made, Told, Value
from harness.protocol import Architecture, ArchitectureError, FloatArray, Network

ENDS = ("Softmax", "LogSoftmax", "Sigmoid")
"""Operators that make probabilities of logits, or their logarithms."""
PASSED = (*EITHER, "Identity", "Cast", "Relu", "Dropout")
"""Operators that leave the axes of images as they are."""
TO_FRONT = (0, 3, 1, 2)
"""How the axes of images with the channel last are turned before a convolution."""
LARGEST = 1 << 28
"""Numbers of one layer's output, for one image; and of all constants that are computed."""


@dataclass(frozen=True)
class Read:
    """A network that has been read.

    Attributes:
        network: Its layers and weights; batch normalisation is folded.
        end: The operator at the end of the file that makes probabilities of the network's logits,
            and is left out; empty if there is none.
        identity: SHA-256 over all that was read.
    """

    network: Network
    end: str
    identity: str

    def outputs(self, logits: FloatArray) -> FloatArray:
        """What the file itself makes of images with these logits (n, k), in float64."""
        logits = logits.astype(np.float64)
        logs = logits - logits.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        if not self.end:
            return logits
        found: FloatArray = logs if self.end == "LogSoftmax" else np.exp(logs)
        return found


def read_network(path: Path, output: str | None = None, *, ends: bool = True) -> Read:
    """The network of an ONNX file.

    Args:
        path: The file.
        output: Name of the output that holds the logits; if None ``logits``, or the first.
        ends: Whether a softmax or sigmoid at the end is left out, so that logits are.

    Raises:
        GraphError: It is not made of layers that the harness knows; the message names the operator.
    """
    graph = read_graph(path, output)
    try:
        return _Walk(graph, _channel_axis(graph)).read(ends)
    except ArchitectureError as error:
        raise GraphError(f"its layers do not fit together: {error}") from error


class _Walk:
    """Goes through the nodes of a graph, from the images to the scores."""

    def __init__(self, graph: Graph, channel_axis: int | None) -> None:
        self.graph, self.channel_axis = graph, channel_axis
        self.constants = dict(graph.constants)
        self.values = {graph.input: _images(graph.shape, channel_axis)}
        self.paths = Paths(graph.input)
        self.room = LARGEST  # for constants that are computed

    def read(self, ends: bool) -> Read:
        """See ``read_network``."""
        graph = self.graph
        nodes, scores, end = graph.nodes, graph.output, ""
        if ends and nodes and nodes[-1].kind in ENDS and nodes[-1].outputs[0] == scores:
            *rest, last = nodes
            nodes, scores, end = tuple(rest), last.inputs[0], last.kind
            _require_over_classes(last, graph)
        for node in nodes:
            self.visit(node)
        value = self.values.get(scores)
        if value is None:
            raise GraphError(one_line(f"its output {scores} does not depend on the images"))
        if value.form != "flat" or value.columns is not None:
            raise GraphError(f"it ends in {value.shape}, not in a vector of logits")
        if end == "Sigmoid" and value.maps != (1,):
            raise GraphError(f"operator Sigmoid: at the end of {value.maps[0]} outputs")
        if end and end != "Sigmoid" and value.maps == (1,):
            raise GraphError(f"operator {end}: at the end of one output")
        layers, weighted = layers_of(self.paths.between(graph.input, scores))
        if not weighted:
            raise GraphError("it has no layer with weights")
        if value.maps == (1,):
            weighted, widened_layers = widened(weighted, layers)
            layers = tuple(widened_layers)
        classes = max(2, value.maps[0])
        architecture = Architecture(graph.shape, layers, classes, self.channel_axis)
        return Read(Network(architecture, named(weighted)), end, graph.identity)

    def visit(self, node: Node) -> None:
        """Find out what one node makes."""
        inputs = [name for name in node.inputs if name]
        for name in inputs:
            if name not in self.values and name not in self.constants:
                raise node.refused(
                    one_line(f"its input {name} is made by no node before it: a cycle, or a gap")
                )
        made = node.outputs[0] if node.outputs else ""
        if made in self.values or made in self.constants or not made:
            raise node.refused("its output has the name of another")
        depends = [name for name in inputs if name in self.values]
        if not depends:
            found = folded(node, [self.constants[name] for name in inputs], self.room)
            self.room -= found.size
            self.constants[made] = found
        elif node.kind == "Shape":
            self.constants[made] = _shape(node, self.values[depends[0]])
        elif len(depends) == 1:
            told = Told(
                tuple(self.constants.get(name) for name in node.inputs),
                self.channel_axis == 2,
                self.graph.batch,
            )
            value, parts = _applied(node, self.values[depends[0]], told)
            if math.prod(value.maps) > LARGEST:
                raise node.refused(f"it makes {value.shape} of an image, which is too large")
            self.values[made] = value
            self.paths.add(made, After(depends[0], parts))
        else:
            self.values[made] = self.summed(node, depends)
            self.paths.add(made, Sum(node, depends[0], depends[1]))

    def summed(self, node: Node, names: Sequence[str]) -> Value:
        """The sum of two values of the same shape."""
        if node.kind != "Add" or len(names) != 2:
            raise node.refused("it is given the images, or what is made of them, more than once")
        first, second = (self.values[name] for name in names)
        orders = [None if one.columns is None else one.columns.tolist() for one in (first, second)]
        if (first.maps, first.form, orders[0]) != (second.maps, second.form, orders[1]):
            raise node.refused(f"it adds {first.shape} and {second.shape}")
        return first


def _applied(node: Node, value: Value, told: Told) -> Made:
    """What an operator makes of a value; whatever its attributes are."""
    try:
        with np.errstate(all="ignore"):  # weights that are not finite are refused at the end
            return applied(node, value, told)
    except GraphError:
        raise
    except Exception as error:  # attributes and constants of kinds that nobody foresaw
        raise node.refused(f"its attributes or constants are none ({error})") from error


def _images(shape: tuple[int, ...], channel_axis: int | None) -> Value:
    if len(shape) == 1:
        return Value(shape, "flat")
    if len(shape) == 2:
        return Value((1, *shape), "hw")
    if len(shape) != 3:
        raise GraphError(f"its images have the shape {shape}, with more than three axes")
    form: Form = "hwc" if channel_axis == 2 else "chw"
    return Value((shape[2], *shape[:2]) if channel_axis == 2 else shape, form)


def _channel_axis(graph: Graph) -> int | None:
    """The axis of one image that holds its channels: that which the first operators take it for."""
    if len(graph.shape) != 3:
        return None
    names = {graph.input}
    for node in graph.nodes:
        if not names.intersection(node.inputs):
            continue
        if node.kind in PASSED:
            names.update(node.outputs)
        elif node.kind == "Transpose":
            return 2 if node.attributes.get("perm") == TO_FRONT else 0
        elif node.kind in ("Flatten", "Reshape"):
            return guessed_axis(graph.shape) or 0
        elif node.kind != "Shape":
            return 0
    return 0


def _shape(node: Node, value: Value) -> Constant:
    """The shape of a value, in which a sign stands for the number of images."""
    sides = np.array([BATCH, *value.shape], np.int64)
    return sides[node.attributes.get("start", 0) : node.attributes.get("end")]


def _require_over_classes(node: Node, graph: Graph) -> None:
    """Refuse a softmax over another axis than that of the classes."""
    axis = node.attributes.get("axis", -1 if graph.opset >= 13 else 1)
    if node.kind != "Sigmoid" and axis not in (1, -1):
        raise node.refused(f"axis {axis} is not that of the classes")
