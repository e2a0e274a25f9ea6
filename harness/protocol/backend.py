"""Backends: frameworks in which networks are built, trained, and wrapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt

from harness.protocol.model import Bounds, FloatArray, Model, Weights
from harness.protocol.network import Architecture


class Trainer(Protocol):
    """A model in training and its optimizer; the loop is ``harness.training.loop``."""

    @property
    def model(self) -> Model:
        """The network in training, as a model in inference mode; its weights have BN folded in."""

    def step(
        self,
        x: FloatArray,
        targets: FloatArray,
        learning_rate: float,
        twin: FloatArray | None = None,
        pull: float = 0.0,
    ) -> tuple[float, int]:
        """One optimizer step on a batch, with dropout.

        Args:
            x: Images, (n, *shape).
            targets: A distribution over the classes per image, (n, k) float32.
            learning_rate: Of this step.
            twin: Perturbed versions of the images, for TRADES (Zhang et al. 2019).
            pull: Weight of KL(softmax f(x) || softmax f(twin)) in the loss.

        Returns:
            The mean loss of the batch (cross-entropy, pull and L2 penalty) before the step, and for
            how many of its images the training-mode forward pass was right.
        """

    def inference(self, weights: Weights) -> Model:
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
class Penalties:
    """What keeps weights (not biases) small.

    Attributes:
        l2: The loss gains ``l2`` times the sum of squared weights.
        decay: Each step shrinks weights by the factor 1 - learning rate × decay, outside of the
            gradient (Loshchilov & Hutter 2019, AdamW).
    """

    l2: float = 0.0
    decay: float = 0.0


class Backend(Protocol):
    """A framework. One object, made when the backend is first asked for."""

    name: str

    def versions(self) -> dict[str, str]:
        """Packages and versions that the numbers depend on."""

    def build(
        self,
        architecture: Architecture,
        weights: Weights,
        *,
        bounds: Bounds = (0.0, 1.0),
        dtype: str = "float32",
    ) -> Model:
        """A model of that architecture with these weights, in ``float32`` or ``float64``."""

    def trainer(
        self,
        architecture: Architecture,
        weights: Weights,
        *,
        bounds: Bounds,
        penalties: Penalties,
        seed: int,
    ) -> Trainer:
        """An Adam trainer (Kingma & Ba 2015) starting from these weights.

        Args:
            architecture: The network, with its dropout and batch normalisation.
            weights: Initial weights under neutral names.
            bounds: Pixel range of the data.
            penalties: What keeps the weights small.
            seed: Seed of the dropout masks.
        """

    def wrap(self, net: Any, *, bounds: Bounds) -> Model:
        """A user's own network of this framework as a ``Model``; the network is not changed."""
