"""What a model provides, the arrays that it returns, and objectives on its logits.

Arrays are the backend's own (``Array`` is ``Any`` on purpose), so nothing leaves the device between
the steps of an attack but booleans, one an image: whether it is still to be attacked, and, where
proposals are drawn on the host, whether this one is kept. ``xp`` is a namespace over the arrays
with the names of the Python array API standard (https://data-apis.org/array-api), as far as they
are used here: ``abs``, ``all``, ``clip``, ``concat``, ``exp``, ``log``, ``max``, ``maximum``,
``min``, ``minimum``, ``reshape``, ``sign``, ``sort``, ``sqrt``, ``sum``, ``take``, ``where``,
``zeros_like``, with ``axis`` and ``keepdims``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeGuard, cast

import numpy as np
import numpy.typing as npt

from harness.errors import MeasurementError, printable

Array: TypeAlias = Any
ArrayNamespace: TypeAlias = Any
Bounds: TypeAlias = tuple[float, float]
FloatArray: TypeAlias = npt.NDArray[np.floating]
IntArray: TypeAlias = npt.NDArray[np.integer]
BoolArray: TypeAlias = npt.NDArray[np.bool_]
Weights: TypeAlias = Mapping[str, FloatArray]
NormName: TypeAlias = Literal["linf", "l2"]

Capability: TypeAlias = str
"""Something that an attack or a check may require of a model."""
GRADIENT: Capability = "gradient"
"""The model is a ``DifferentiableModel``. A black box is not."""


class Objective(Protocol):
    """What an attack or a map differentiates: a number per example, on logits.

    Each objective states its gradient with respect to the logits itself, so a backend only carries
    that back to the input. It is the same arithmetic in every framework, and the cancellation that
    autodiff of a softmax suffers on confident examples can be avoided. What it says of an example
    depends on that row alone, since a batch may be asked in several calls.
    """

    @property
    def name(self) -> str:
        """What it is called in messages."""

    def value(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """The objective per example, (n,), from logits (n, k) and a boolean one-hot mask (n, k)."""

    def logit_gradient(self, xp: ArrayNamespace, logits: Array, true: Array) -> Array:
        """Its gradient with respect to the logits: (n, k)."""


@dataclass(frozen=True)
class About:
    """What there is to say of a network, for people, and to identify it.

    Attributes:
        kind: What it is, such as ``torch.nn.Module ResNet``.
        parameters: How many numbers have been trained; None where that is not known.
        device: Where it is computed.
        identity: SHA-256 over its weights; empty where they are not known.
    """

    kind: str
    parameters: int | None = None
    device: str = "cpu"
    identity: str = ""


class Model(Protocol):
    """A classifier in inference mode; a black box is one too.

    It never changes its input, nor itself. It may have more, which is asked for where it is there:
    ``about() -> About``; ``footprint(x) -> int``, the bytes that each of a few images (n, *shape)
    takes up in a forward and a backward pass; ``channel_axis: int | None``, the axis of one image
    that holds its channels; and ``batch_size: int | None``, how many images it takes at a time.

    Attributes:
        xp: The namespace of its arrays.
        bounds: Lowest and highest pixel value; epsilon is in these units.
        capabilities: What it has of what attacks and checks require.
    """

    xp: ArrayNamespace
    bounds: Bounds
    capabilities: frozenset[Capability]

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """NumPy values on the model's device: floats in the model's dtype, integers as int64."""

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """A backend's array as a NumPy array, detached and on the host."""

    def logits(self, x: Array) -> Array:
        """Scores before softmax, (n, k), of images (n, *input_shape) within ``bounds``."""


class DifferentiableModel(Model, Protocol):
    """A model with the capability ``gradient``."""

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """Logits (n, k), and d(sum over the batch of the objective)/dx in the shape of x.

        The logits are those of the pass that the gradient needed anyway. Gradients are taken for
        the input alone, never for the weights. Labels y are (n,) int64, or a distribution over the
        classes, (n, k), in the model's dtype.

        Raises:
            MeasurementError: A label is no class.
        """


def shown(kind: str, bounds: Bounds, capabilities: frozenset[Capability]) -> str:
    """The ``repr`` of a model: ``<torch.nn.Module Net, pixels in [0, 1], with gradients>``.

    Args:
        kind: What it is: see ``About``.
        bounds: See ``Model``.
        capabilities: Likewise.
    """
    low, high = bounds
    gradients = "with" if GRADIENT in capabilities else "without"
    return f"<{printable(kind)}, pixels in [{low:g}, {high:g}], {gradients} gradients>"


MEMBERS = ("xp", "bounds", "capabilities", "asarray", "numpy", "logits")
"""What every ``Model`` has."""


def is_model(thing: object) -> TypeGuard[Model]:
    """Whether an object has all that a ``Model`` has, be it handed on from another by ``getattr``.

    From Python 3.12 on ``isinstance`` with a protocol does not see what is handed on.
    """
    return not isinstance(thing, type) and all(hasattr(thing, name) for name in MEMBERS)


def differentiable(model: Model) -> DifferentiableModel:
    """The same model, as one that gives gradients.

    Raises:
        MeasurementError: It lacks the capability ``gradient``.
    """
    if GRADIENT not in model.capabilities:
        raise MeasurementError("the model gives no gradient")
    return cast("DifferentiableModel", model)


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
