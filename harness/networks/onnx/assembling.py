"""Layers one after another, and sums of two branches, found in a graph of operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from harness.networks.onnx.graph import GraphError, Node
from harness.networks.onnx.values import Affine, Part
from harness.protocol import Conv, Dense, FloatArray, Layer, Residual, Scale, Weights

DEEPEST = 20
"""Sums within a branch of a sum, and so on."""


@dataclass(frozen=True)
class After:
    """A value that one operator makes of another.

    Attributes:
        source: Name of the other.
        parts: The layers that do so.
    """

    source: str
    parts: tuple[Part | Affine, ...]


@dataclass(frozen=True)
class Sum:
    """A value that is the sum of two others, by their names."""

    node: Node
    first: str
    second: str


@dataclass(frozen=True)
class Branches:
    """The layers of the two branches of a sum."""

    branch: tuple[Item, ...]
    shortcut: tuple[Item, ...]


Item: TypeAlias = Part | Affine | Branches
Origin: TypeAlias = After | Sum


@dataclass
class Paths:
    """How each value comes of the images.

    Attributes:
        start: Name of the images.
        origins: Of each other value.
        before: The last value through which all ways from the images to a value lead.
        depth: How many such values there are.
        taken: Values whose layers have a place already: no layer has two.
    """

    start: str
    origins: dict[str, Origin] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)
    depth: dict[str, int] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.depth[self.start] = 0

    def add(self, name: str, origin: Origin) -> None:
        """A value, of others that are known."""
        both = (origin.first, origin.second) if isinstance(origin, Sum) else None
        self.origins[name] = origin
        self.before[name] = self.common(*both) if both else origin.source  # type: ignore[union-attr]
        self.depth[name] = self.depth[self.before[name]] + 1

    def common(self, first: str, second: str) -> str:
        """The last value through which all ways to both lead."""
        while first != second:
            if self.depth[first] < self.depth[second]:
                first, second = second, first
            first = self.before[first]
        return first

    def between(self, start: str, end: str, level: int = 0) -> tuple[Item, ...]:
        """All layers that make one value of another, which all ways to it lead through.

        Raises:
            GraphError: They are no layers one after another and sums of two branches.
        """
        found: list[Item] = []
        while end != start:
            origin = self.origins[end]
            if end in self.taken or level > DEEPEST:
                raise GraphError(
                    "its sums are not of two branches that part and meet, one within another"
                )
            self.taken.add(end)
            if isinstance(origin, After):
                found += reversed(origin.parts)
            else:
                found.append(self._sum(origin, self.before[end], level))
            end = self.before[end]
        return tuple(reversed(found))

    def _sum(self, origin: Sum, start: str, level: int) -> Branches:
        branch = self.between(start, origin.first, level + 1)
        shortcut = self.between(start, origin.second, level + 1)
        # The identity is the shortcut, wherever the file has it.
        return Branches(branch, shortcut) if branch else Branches(shortcut, branch)


def layers_of(items: Sequence[Item]) -> tuple[tuple[Layer, ...], list[Part]]:
    """Layers, and those with weights among them in the order of their names.

    What only scales or shifts is folded into the linear layer before it where it belongs to that,
    and is a ``Scale`` elsewhere.
    """
    layers: list[Layer] = []
    weighted: list[Part] = []
    for item in _merged(items):
        if isinstance(item, Branches):
            branch, of_branch = layers_of(item.branch)
            shortcut, of_shortcut = layers_of(item.shortcut)
            layers.append(Residual(branch, shortcut))
            weighted += of_branch + of_shortcut
        else:
            layers.append(item.layer)
            weighted += [item] * (item.weight is not None)
    return tuple(layers), weighted


def named(weighted: Sequence[Part]) -> Weights:
    """Weights under neutral names, in float32.

    Raises:
        GraphError: A number is not finite.
    """
    found: dict[str, FloatArray] = {}
    for index, part in enumerate(weighted):
        for kind, values in (("weight", part.weight), ("bias", part.bias)):
            with np.errstate(all="ignore"):
                numbers = np.ascontiguousarray(values, dtype=np.float32)
            if not np.isfinite(numbers).all():
                raise GraphError(f"weights of its layer {index} are not finite")
            found[f"layers.{index}.{kind}"] = numbers
    return found


def _merged(items: Sequence[Item]) -> list[Part | Branches]:
    merged: list[Part | Branches] = []
    for item in items:
        before = merged[-1] if merged else None
        if not isinstance(item, Affine):
            merged.append(item)
        elif isinstance(before, Part) and _takes(before.layer, item):
            merged[-1] = _scaled(before, item)
        else:
            merged.append(Part(Scale(), item.factor, item.shift))
    return merged


def _takes(layer: Layer, affine: Affine) -> bool:
    """Whether a layer takes up what follows it: a bias, or a batch normalisation."""
    if isinstance(layer, Scale):
        return True
    return isinstance(layer, Dense | Conv) and (affine.folds or bool((affine.factor == 1).all()))


def _scaled(part: Part, affine: Affine) -> Part:
    weight, bias = np.asarray(part.weight), np.asarray(part.bias)
    columns = affine.factor.reshape(-1, *[1] * (weight.ndim - 1))
    with np.errstate(all="ignore"):
        weight, bias = weight * columns, bias * affine.factor + affine.shift
    return replace(part, weight=weight, bias=bias)


def widened(weighted: Sequence[Part], layers: Sequence[Layer]) -> tuple[list[Part], list[Layer]]:
    """A network of one logit as one of two: of a class whose logit is always 0, and of that one.

    Raises:
        GraphError: It does not end in a linear layer.
    """
    last = weighted[-1] if weighted else None
    if last is None or not isinstance(last.layer, Dense) or not isinstance(layers[-1], Dense):
        raise GraphError("it has one output, which is not that of a linear layer")
    parts = (np.asarray(last.weight), np.asarray(last.bias))
    weight, bias = (np.concatenate([np.zeros_like(one), one]) for one in parts)
    return [*weighted[:-1], Part(Dense(2), weight, bias)], [*layers[:-1], Dense(2)]
