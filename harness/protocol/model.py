"""The one protocol between the harness and a backend: models, trainers, objectives, attacks.

Arrays are the backend's own (``Array`` is ``Any`` on purpose), so nothing leaves the device between
the steps of an attack. ``xp`` is a namespace over them with the names of the Python array API
standard (https://data-apis.org/array-api), as far as they are used here: ``abs``, ``all``,
``clip``, ``exp``, ``isfinite``, ``log``, ``max``, ``maximum``, ``min``, ``minimum``, ``reshape``,
``sign``, ``sort``, ``sqrt``, ``sum``, ``take``, ``where``, with ``axis`` and ``keepdims``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from harness.errors import MeasurementError

Array: TypeAlias = Any
ArrayNamespace: TypeAlias = Any
Bounds: TypeAlias = tuple[float, float]
FloatArray: TypeAlias = npt.NDArray[np.floating]
IntArray: TypeAlias = npt.NDArray[np.integer]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Weights: TypeAlias = Mapping[str, FloatArray]
NormName: TypeAlias = Literal["linf", "l2"]

GRADIENT = "gradient"
"""Capability: the model answers ``logits_and_gradient``. A black box does not."""
WEIGHTS = "weights"
"""Capability: the model's weights have neutral names, so every backend can load them."""
TRAIN = "train"
"""Capability: the backend can train the model (it has a ``Trainer``)."""


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


class Objective(Protocol):
    """What an attack or a map differentiates: a number per example, on logits.

    Each objective states its gradient with respect to the logits itself, so a backend only carries
    that back to the input. It is the same arithmetic in every framework, and the cancellation that
    autodiff of a softmax suffers on confident examples can be avoided.
    """

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def value(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The objective per example, (n,), from logits (n, k) and a boolean one-hot mask (n, k)."""

    def logit_gradient(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """Its gradient with respect to the logits: (n, k)."""


@runtime_checkable
class Model(Protocol):
    """A classifier in inference mode. It never changes its input, nor itself."""

    xp: ArrayNamespace
    bounds: Bounds
    capabilities: frozenset[str]

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """NumPy values on the model's device: floats in the model's dtype, integers as int64."""

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """A backend's array as a NumPy array, detached and on the host."""

    def logits(self, x: Array) -> Array:
        """Scores before softmax, (n, k), of images (n, *input_shape) within ``bounds``."""

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """Logits (n, k), and d(sum over the batch of the objective)/dx in the shape of x.

        The logits are those of the pass that the gradient needed anyway. Gradients are taken for
        the input alone, never for the weights. Labels y are (n,) int64, or a distribution over the
        classes, (n, k), in the model's dtype. Needs the capability ``gradient``. A label that is
        no class is a ``MeasurementError``.
        """

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the weights under neutral names. Needs the capability ``weights``."""


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


class Attack(Protocol):
    """Written once, for all backends, over ``model.xp``."""

    @property
    def name(self) -> str:
        """What the records call it."""

    @property
    def norm(self) -> NormName:
        """The norm that bounds the perturbation."""

    @property
    def requires(self) -> frozenset[str]:
        """The capabilities of a model that it needs."""

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch in the shape of x per epsilon, in that order.

        Args:
            model: The classifier under attack.
            x: Clean images within ``model.bounds``.
            y: Their true labels, (n,) int64, also for attacks that aim at other classes: those
                choose their aims themselves, so the two cannot be mixed up.
            epsilons: Increasing radii in pixel units, each ≥ 0.
            index: Positions of the images in their dataset, (n,). An attack that draws random
                numbers draws each image's own by it, so that batches do not matter.
        """


def require_classes(labels: npt.NDArray[Any], classes: int) -> None:
    """Labels (n,) must be classes of the model; a one-hot row of zeros would be no objective.

    Raises:
        MeasurementError: One is below 0 or not below the number of classes.
    """
    if labels.size and (labels.min() < 0 or labels.max() >= classes):
        raise MeasurementError(
            f"labels span [{labels.min()}, {labels.max()}], but the model has {classes} classes "
            "from 0"
        )


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
