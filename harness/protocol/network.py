"""What a network is made of, in words that every backend knows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.protocol.model import FloatArray, Weights


@dataclass(frozen=True)
class Architecture:
    """A fully connected ReLU network: flatten, hidden layers with dropout, linear logits.

    Attributes:
        input_shape: Shape of one image, such as ``(28, 28)``.
        hidden: Width of each hidden layer, such as ``(512, 256, 128)``.
        classes: Number of classes, the length of a row of logits.
        dropout: Share in [0, 1) of hidden units dropped while training, after each ReLU.
        batch_norm: Whether training normalises before each ReLU (Ioffe & Szegedy 2015). In
            inference that is an affine map, which is folded into the weights of built models.
    """

    input_shape: tuple[int, ...]
    hidden: tuple[int, ...]
    classes: int
    dropout: float = 0.0
    batch_norm: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Width of every layer from the flat input to the logits."""
        return (math.prod(self.input_shape), *self.hidden, self.classes)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Neutral names and shapes: ``layers.I.weight`` (out, in) and ``layers.I.bias`` (out,)."""
        shapes: dict[str, tuple[int, ...]] = {}
        for index, (fan_in, fan_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            shapes[f"layers.{index}.weight"] = (fan_out, fan_in)
            shapes[f"layers.{index}.bias"] = (fan_out,)
        return shapes


@dataclass(frozen=True)
class Network:
    """An architecture with weights.

    Attributes:
        architecture: What the network is made of.
        weights: Its weights under the neutral names of ``architecture.weight_shapes()``.
    """

    architecture: Architecture
    weights: Weights


BN_EPSILON = 1e-5
BN_MOMENTUM = 0.9


def fold_batch_norm(
    weight: FloatArray,
    bias: FloatArray,
    scale: FloatArray,
    shift: FloatArray,
    mean: FloatArray,
    variance: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """The linear layer that does what a linear layer followed by batch normalisation does.

    All but the weight (out, in) have shape (out,); mean and variance are the running statistics.
    """
    factor = scale / np.sqrt(variance + BN_EPSILON)
    return weight * factor[:, None], (bias - mean) * factor + shift
