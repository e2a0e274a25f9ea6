"""Backends: frameworks whose networks are wrapped, and those in which networks are built, too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from harness.protocol.model import Bounds, DifferentiableModel, FloatArray, Model, Weights
from harness.protocol.network import Architecture, Network


@dataclass(frozen=True)
class Wrapping:
    """How a network is to be called.

    Attributes:
        bounds: Lowest and highest pixel value of the images.
        output: Name of the output that holds the logits, of a network that returns several by name.
        device: Where it is to be computed: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; None for where
            the network is, or the framework's choice.
    """

    bounds: Bounds = (0.0, 1.0)
    output: str | None = None
    device: str | None = None


@dataclass(frozen=True)
class Calls(Wrapping):
    """How a Python function of NumPy images is to be called.

    Attributes:
        batch_size: Images a call, at most; None for as many as there are.
        retries: How often a call that raises is made again.
        wait: Seconds before the first of these, doubled before each further one.
    """

    batch_size: int | None = None
    retries: int = 0
    wait: float = 0.1


UNIT = Wrapping()
"""Pixels in [0, 1]."""


@dataclass(frozen=True)
class Batch:
    """What one optimizer step learns from, and by which loss.

    By default that is the cross-entropy of f(x), the mean over the batch. Of what follows,
    ``trades_beta`` and ``mart_lambda`` exclude each other, and need ``perturbed``; the others go
    with any. f is the network in training, but for the gradients that are aligned. What is
    said of a class y is said of the most likely class of the target.

    Attributes:
        x: Images, (n, *shape).
        targets: A distribution over the classes per image, (n, k) float32.
        perturbed: Perturbed versions of the images.
        trades_beta: Weight β of KL(softmax f(x) || softmax f(perturbed)), which TRADES adds (Zhang
            et al. 2019, eq. 5); the paper calls it 1/λ.
        mart_lambda: Weight λ of MART (Wang et al. 2020, eq. 11 and algorithm 1). With p = softmax
            f(x) and q = softmax f(perturbed), the loss is then the mean of
            -log q_y - log(1 - max over k ≠ y of q_k) + λ KL(p || q) (1 - p_y); the first term is
            the cross-entropy with the target, and of x itself there is none. The second is best
            computed as logsumexp(f) less the logsumexp without the largest k ≠ y, which is finite
            where that q_k rounds to one. Gradients pass through p, too, in both of its places.
        weight_gamma: Size γ of an adversarial perturbation of the weights (Wu et al. 2020, AWP):
            the gradient of the step is taken where each weight array of two axes or more (a matrix,
            a kernel) has been moved along the gradient of the same loss, without the L2 penalty, by
            γ times its own L2 norm (not at all where that gradient is zero); then they are moved
            back, before the optimizer's step. 0 for none. As in the authors' code, running
            statistics of batch normalisation are updated by the pass with the moved weights alone.
        aligned: Images, (n, *shape), at which GradAlign compares gradients: those that ``x`` was
            made from; and ``noisy`` beside them.
        noisy: The same with uniform noise from the ball.
        align_lambda: Weight λ of 1 - cos(∇ℓ(aligned), ∇ℓ(noisy)), the mean over the batch, ℓ the
            cross-entropy with y and ∇ with respect to the images (Andriushchenko & Flammarion 2020,
            eq. 5); gradients of that with respect to the weights pass through ∇ℓ(noisy) and
            ∇ℓ(aligned) alike. The log-odds against y have gradients of the same direction, and so
            the same cosine; they do not vanish where the network is sure. An image with a gradient
            of zero counts as aligned. These gradients are the adversary's, so f is in inference
            mode here: without dropout, and with the running statistics that batch normalisation
            has before the step, which they leave as they are.
        radius: L∞ radius ε of the ball around each of ``x``, cut off at the pixel range, in which
            predictions are to be certified; None in a training that certifies nothing.
        certified_weight: Weight w of the certified loss, in [0, 1]: what is minimised is (1 - w)
            times all of the above and w times this (Gowal et al. 2018, eq. 8; w is the paper's
            1 - κ). Where it is 0 no bounds are computed. The certified loss is the cross-entropy of
            the target with the worst-case logits -m_k, the mean over the batch. m_k is a lower
            bound on f_y - f_k over the ball by interval bound propagation, m_y = 0: each layer is
            given bounds [c - r, c + r]; an affine one makes c W + b and r |W| of them, and all
            others are monotone. A ``Dense`` that comes last gives m_k by the difference of its rows
            y and k ("elision of the last layer"); any other, as the lower bound of f_y less the
            upper one of f_k. Nothing is dropped out of bounds. A batch normalisation is the affine
            map that it is in the training-mode pass of ``x``, by the mean and the (biased) variance
            of its input there, through which gradients pass, too; bounds leave its running
            statistics alone.
    """

    x: FloatArray
    targets: FloatArray
    perturbed: FloatArray | None = None
    trades_beta: float = 0.0
    mart_lambda: float = 0.0
    weight_gamma: float = 0.0
    aligned: FloatArray | None = None
    noisy: FloatArray | None = None
    align_lambda: float = 0.0
    radius: float | None = None
    certified_weight: float = 0.0

    @property
    def beyond_cross_entropy(self) -> bool:
        """Whether the loss is more than the cross-entropy of the images, or will be."""
        beside = (self.perturbed, self.aligned, self.radius)
        return any(one is not None for one in beside) or self.weight_gamma > 0

    @property
    def compared(self) -> tuple[FloatArray, FloatArray] | None:
        """``aligned`` and ``noisy``; None where nothing is to be aligned."""
        if self.aligned is None or self.noisy is None or not self.align_lambda:
            return None
        return self.aligned, self.noisy

    def box(self, bounds: Bounds) -> tuple[FloatArray, FloatArray] | None:
        """The lowest and the highest image of each ball; None where nothing is to be certified.

        Args:
            bounds: Lowest and highest pixel value.
        """
        if self.radius is None or not self.certified_weight:
            return None
        lower, upper = (np.clip(self.x + side, *bounds) for side in (-self.radius, self.radius))
        return lower, upper


class Step(NamedTuple):
    """What an optimizer step returns.

    Attributes:
        loss: Mean loss of the batch before the step, with all that it is made of, and with the L2
            penalty; where weights are moved, that before they are.
        correct: How many images ``x`` the training-mode forward pass of that loss classified
            correctly.
    """

    loss: float
    correct: int


class Trainer(Protocol):
    """A model in training and its optimizer; the loop is ``harness.training.loop``.

    Attributes:
        architecture: Of the network, with its dropout and batch normalisation.
    """

    architecture: Architecture

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


class Learner(Protocol):
    """A copy of a network that learns: enough of a ``Trainer`` for a short training."""

    @property
    def model(self) -> Model:
        """The network as it is now, in inference mode."""

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """One optimizer step on a batch; see ``Trainer.step``."""


class Copies(Protocol):
    """Copies of a user's network, with which checks compare it. The network is not changed.

    Each raises ``NotApplicable`` with the reason where such a copy cannot be made. There may be
    ``oracle() -> Model``, too: the network in float64 in NumPy.
    """

    def stages(self) -> int:
        """In how many stages its layers become random, from the last to the first; at least 1."""

    def float64(self) -> Model:
        """The network with its own weights, in float64."""

    def randomised(self, stages: int, seed: int) -> Model:
        """The network with so many of its last stages random; all of them if there are no more."""

    def learner(self, seed: int) -> Learner:
        """One with all its layers random, to be trained with cross-entropy."""


class Backend(Protocol):
    """Wraps and calls networks of a framework. One object, made when first used.

    ``suffixes``, ``load`` and ``copies`` may be absent: then it loads no files, and its networks
    are compared with no others.
    """

    name: str
    suffixes: tuple[str, ...]
    """Of the files that it loads, such as ``.onnx``."""

    def versions(self) -> dict[str, str]:
        """Packages and versions that the numbers depend on."""

    def knows(self, net: Any) -> bool:
        """Whether it can wrap an object of this kind."""

    def wrap(self, net: Any, how: Wrapping) -> Model:
        """A user's own network as a ``Model``; the network is not changed.

        Raises:
            BackendError: It cannot be wrapped; the message says what can be done.
        """

    def load(self, path: Path, how: Wrapping) -> Model:
        """The network of a file, wrapped. No code in the file is run.

        Raises:
            BackendError: It cannot be loaded; the message names the file, and what can be done.
        """

    def copies(self, model: Model) -> Copies | None:
        """What makes copies of the network of a model that ``wrap`` or ``load`` returned."""


class Builder(Backend, Protocol):
    """A framework in which the harness builds and trains networks of its own.

    There may be ``save(network: Network, path: Path) -> None``, which writes a network in inference
    mode as a file of the framework.
    """

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
