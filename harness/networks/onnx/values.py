"""What is known of the arrays in an ONNX graph that depend on the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from harness.networks.onnx.graph import Constant
from harness.protocol import FloatArray, IntArray, Layer, Shape

Form: TypeAlias = Literal["flat", "column", "hw", "chw", "hwc"]
"""The axes of one image, or of its maps: of a vector, of a vector that is a column, of grey pixels,
channel first, and channel last."""


@dataclass(frozen=True)
class Value:
    """What is known of an array that depends on the images.

    Attributes:
        maps: Shape of one as the layers of the harness have it: (channels, height, width), or
            (width,).
        form: In which order the file has it.
        columns: Of a vector that the file has in another order than the harness, where each of its
            numbers is in that of the harness.
    """

    maps: Shape
    form: Form
    columns: IntArray | None = None

    @property
    def shape(self) -> Shape:
        """Shape of one in the file."""
        if self.form == "hw":
            return self.maps[1:]
        if self.form == "column":
            return (*self.maps, 1)
        return (*self.maps[1:], self.maps[0]) if self.form == "hwc" else self.maps


@dataclass(frozen=True)
class Part:
    """A layer, with its weights where it has some; see ``protocol.layers`` for their shapes."""

    layer: Layer
    weight: FloatArray | None = None
    bias: FloatArray | None = None


@dataclass(frozen=True)
class Affine:
    """Each channel, or unit, times a factor, plus a shift.

    Attributes:
        factor: Of each, (channels,) float64.
        shift: Likewise.
        folds: Whether it belongs to the linear layer before it, as a batch normalisation does.
    """

    factor: FloatArray
    shift: FloatArray
    folds: bool = False


@dataclass(frozen=True)
class Told:
    """What an operator is given besides the values: its constants, and facts of the whole graph.

    Attributes:
        constants: Of its inputs, in their order; None in the place of the value.
        last: Whether vectors that come of maps have the channel last.
        batch: How many images the graph takes; None for any number.
    """

    constants: tuple[Constant | None, ...]
    last: bool
    batch: int | None

    def others(self) -> list[Constant]:
        """The constants after the value."""
        return [one for one in self.constants[1:] if one is not None]


Made: TypeAlias = tuple[Value, tuple[Part | Affine, ...]]
