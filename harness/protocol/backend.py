"""Backends: frameworks whose networks are wrapped, and those in which networks are built, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from harness.protocol.model import Bounds, DifferentiableModel, FloatArray, Model, Weights
from harness.protocol.network import Network


@dataclass(frozen=True)
class Wrapping:
    """How a network is to be called.

    Attributes:
        bounds: Lowest and highest pixel value that it takes.
    """

    bounds: Bounds = (0.0, 1.0)


UNIT = Wrapping()
"""Pixels in [0, 1]."""


@dataclass(frozen=True)
class Batch:
    """What one optimizer step learns from.

    Attributes:
        x: Images, (n, *shape).
        targets: A distribution over the classes per image, (n, k) float32.
        perturbed: Perturbed versions of the images, for TRADES (Zhang et al. 2019).
        trades_beta: Weight β of KL(softmax f(x) || softmax f(perturbed)) in the loss; the paper
            calls it 1/λ.
    """

    x: FloatArray
    targets: FloatArray
    perturbed: FloatArray | None = None
    trades_beta: float = 0.0


class Step(NamedTuple):
    """What an optimizer step returns.

    Attributes:
        loss: Mean loss of the batch before the step: cross-entropy, divergence and L2 penalty.
        correct: How many of its images the training-mode forward pass classified correctly.
    """

    loss: float
    correct: int


class Trainer(Protocol):
    """A model in training and its optimizer; the loop is ``harness.training.loop``."""

    @property
    def model(self) -> DifferentiableModel:
        """The network in training, as a model in inference mode."""

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """One optimizer step on a batch, with dropout."""

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the present weights under neutral names, with batch normalisation folded in."""

    def inference(self, weights: Weights) -> DifferentiableModel:
        """A model with other weights, such as averaged ones; the next call reuses it."""

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """All that changes in training: weights, statistics, optimizer, random generators."""

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on exactly where another trainer of the same recipe was.

        Raises:
            ValueError: The state is of another network or optimizer; nothing has been changed.
        """


def check_state(
    state: Mapping[str, npt.NDArray[Any]], wanted: Mapping[str, npt.NDArray[Any]]
) -> None:
    """Refuse a trainer's state whose arrays have other names, shapes or dtypes than wanted.

    Raises:
        ValueError: They have; the message names one.
    """
    for name in sorted({*state, *wanted}):
        have, want = (
            (a[name].shape, a[name].dtype) if name in a else None for a in (state, wanted)
        )
        if have != want:
            raise ValueError(f"the state's {name} is {have}, not {want}")


@dataclass(frozen=True)
class Optimizer:
    """Adam (Kingma & Ba 2015), and what keeps weights (not biases) small.

    Attributes:
        l2: The loss gains ``l2`` times the sum of squared weights.
        decay: Each step shrinks weights by the factor 1 - learning rate × decay, outside of the
            gradient (Loshchilov & Hutter 2019, AdamW).
    """

    l2: float = 0.0
    decay: float = 0.0


class Backend(Protocol):
    """Wraps and calls networks of a framework. One object, made when first used."""

    name: str

    def versions(self) -> dict[str, str]:
        """Packages and versions that the numbers depend on."""

    def knows(self, net: Any) -> bool:
        """Whether it can wrap an object of this kind."""

    def wrap(self, net: Any, how: Wrapping) -> Model:
        """A user's own network as a ``Model``; the network is not changed.

        Raises:
            BackendError: It cannot be wrapped; the message says what can be done.
        """


class Builder(Backend, Protocol):
    """A framework in which the harness builds and trains networks of its own."""

    def build(
        self, network: Network, how: Wrapping = UNIT, dtype: str = "float32"
    ) -> DifferentiableModel:
        """A model of that network, in ``float32`` or ``float64``."""

    def trainer(self, network: Network, how: Wrapping, optimizer: Optimizer, seed: int) -> Trainer:
        """A trainer that starts from the network's weights.

        Args:
            network: With its dropout and batch normalisation.
            how: The pixel range of the data.
            optimizer: How steps are made.
            seed: Seed of the dropout masks.

        Raises:
            BackendError: The backend cannot train such a network.
        """
