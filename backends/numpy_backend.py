"""The NumPy backend, the oracle: hand-written gradients, in need of no framework."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from backends.numpy_layers import Back, Pass
from harness.errors import BackendError
from harness.protocol import (
    GRADIENT,
    UNIT,
    Architecture,
    Array,
    Batch,
    BatchNorm,
    Bounds,
    Conv,
    FloatArray,
    IntArray,
    Model,
    Network,
    Objective,
    Optimizer,
    Placed,
    Step,
    Weights,
    Wrapping,
    check_state,
    require_classes,
    shown,
    walk,
)


class NumpyModel:
    """The network in inference mode."""

    xp = np
    capabilities = frozenset({GRADIENT})

    def __init__(
        self, architecture: Architecture, weights: Weights, bounds: Bounds, dtype: str
    ) -> None:
        self.architecture = architecture.inference
        self.channel_axis = architecture.channel_axis
        self.bounds = bounds
        self.dtype = np.dtype(dtype)
        shapes = architecture.weight_shapes()
        self.named = {name: np.empty(shape, self.dtype) for name, shape in shapes.items()}
        self.set_weights(weights)

    def __repr__(self) -> str:
        return shown(
            f"network in NumPy of {len(self.architecture.layers)} layers",
            self.bounds,
            self.capabilities,
        )

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        return np.asarray(values, dtype=np.int64 if values.dtype.kind in "iu" else self.dtype)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``."""
        return np.asarray(array)

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        return self.through(np.asarray(x))[0]

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``; the chain rule, layer by layer."""
        logits, back = self.through(np.asarray(x))
        if y.ndim == 1:
            require_classes(y, logits.shape[1])
        true = y if y.ndim == 2 else one_hot(y, logits.shape[1])
        return logits, back(objective.logit_gradient(np, logits, true))

    def through(self, x: FloatArray) -> tuple[FloatArray, Back]:
        """Logits (n, k) of images, and what carries a gradient (n, k) back to the images."""
        return Pass(self.named).network(self.architecture, x)

    def footprint(self, x: Array) -> int:
        """Bytes that a pass takes up for each of a few images, in whichever values are given."""
        places = list(walk(self.architecture.placed))
        numbers = sum(math.prod(place.after) for place in places)
        windows = [_window_of(place) * math.prod(place.after[1:]) for place in places]
        return int((numbers + 2 * max(windows)) * self.dtype.itemsize)

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the weights under neutral names."""
        return {name: value.copy() for name, value in self.named.items()}

    def set_weights(self, weights: Weights) -> None:
        """Put other weights in their place."""
        for name, value in self.named.items():
            value[...] = weights[name]


class NumpyTrainer:
    """Adam (Kingma & Ba 2015, algorithm 1) with inverted dropout, by hand."""

    decay = (0.9, 0.999)
    stabiliser = 1e-8

    def __init__(
        self, model: NumpyModel, architecture: Architecture, optimizer: Optimizer, seed: int
    ) -> None:
        self.model = model
        self.architecture = architecture
        self.optimizer = optimizer
        self.seed = seed
        self.steps = 0
        self.means = {name: np.zeros_like(value) for name, value in model.named.items()}
        self.squares = {name: np.zeros_like(value) for name, value in model.named.items()}

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """See ``protocol.Trainer``; what looks at other images, too, is left to the frameworks.

        Raises:
            BackendError: The loss is more than the cross-entropy of the images.
        """
        if batch.beyond_cross_entropy:
            raise BackendError(
                "the numpy backend trains with cross-entropy alone; use a framework for the rest"
            )
        # A generator per step, so that the step alone is what a restored trainer must know.
        random = np.random.default_rng([self.seed, self.steps])
        forward = Pass(self.model.named, random, learns=True)
        logits, back = forward.network(self.architecture, self.model.asarray(batch.x))
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        loss = -(batch.targets * logs).sum(axis=1).mean()
        back((np.exp(logs) - batch.targets) / len(batch.x))
        gradients = forward.gradients
        for name, value in self.model.named.items():
            if value.ndim >= 2:
                loss += self.optimizer.l2 * float(np.sum(value * value))
                gradients[name] = gradients[name] + 2 * self.optimizer.l2 * value
        self._adam(gradients, learning_rate)
        correct = (logits.argmax(axis=1) == batch.targets.argmax(axis=1)).sum()
        return Step(float(loss), int(correct))

    def weights(self) -> dict[str, FloatArray]:
        """See ``protocol.Trainer``."""
        return self.model.weights()

    def inference(self, weights: Weights) -> NumpyModel:
        """See ``protocol.Trainer``."""
        return NumpyModel(self.architecture, weights, self.model.bounds, self.model.dtype.name)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """See ``protocol.Trainer``."""
        return {key: value.copy() for key, value in self._slots().items()} | {
            "steps": np.array(self.steps)
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See ``protocol.Trainer``."""
        check_state(state, self.state())
        for key, value in self._slots().items():
            value[...] = state[key]
        self.steps = int(state["steps"])

    def _slots(self) -> dict[str, FloatArray]:
        groups = {"parameter": self.model.named, "mean": self.means, "square": self.squares}
        return {f"{name}/{key}": v for name, group in groups.items() for key, v in group.items()}

    def _adam(self, gradients: Mapping[str, FloatArray], learning_rate: float) -> None:
        self.steps += 1
        first, second = self.decay
        first_unbias, second_unbias = 1 - first**self.steps, 1 - second**self.steps
        for name, parameter in self.model.named.items():
            gradient = gradients[name]
            mean, square = self.means[name], self.squares[name]
            mean[...] = first * mean + (1 - first) * gradient
            square[...] = second * square + (1 - second) * gradient * gradient
            step = mean / first_unbias / (np.sqrt(square / second_unbias) + self.stabiliser)
            decay = self.optimizer.decay if parameter.ndim >= 2 else 0.0
            parameter[...] = parameter * (1 - learning_rate * decay) - learning_rate * step


class NumpyBackend:
    """See ``protocol.Backend``."""

    name = "numpy"

    def versions(self) -> dict[str, str]:
        """See ``protocol.Backend``."""
        return {"numpy": np.__version__}

    def build(self, network: Network, how: Wrapping = UNIT, dtype: str = "float32") -> NumpyModel:
        """See ``protocol.Builder``."""
        return NumpyModel(network.architecture, network.weights, how.bounds, dtype)

    def trainer(
        self, network: Network, how: Wrapping, optimizer: Optimizer, seed: int
    ) -> NumpyTrainer:
        """See ``protocol.Builder``; batch normalisation is left to the frameworks.

        Raises:
            BackendError: The architecture has batch normalisation.
        """
        if any(isinstance(p.layer, BatchNorm) for p in walk(network.architecture.placed)):
            raise BackendError("the numpy backend trains no batch normalisation; use a framework")
        return NumpyTrainer(self.build(network, how), network.architecture, optimizer, seed)

    def knows(self, net: Any) -> bool:
        """Nothing: NumPy has no networks of its own."""
        return False

    def wrap(self, net: Any, how: Wrapping) -> Model:
        """NumPy has no networks of its own: a ``Model`` is passed as it is, not wrapped."""
        raise BackendError(f"{type(net).__name__}: the numpy backend has no networks to wrap")


def one_hot(y: IntArray, classes: int) -> npt.NDArray[np.bool_]:
    """Boolean mask (n, classes), true at each label."""
    return np.arange(classes) == np.asarray(y)[:, None]


def _window_of(place: Placed) -> int:
    """How many numbers a convolution looks at for one of its own; 0 of any other layer."""
    layer = place.layer
    return place.before[0] * math.prod(layer.kernel) if isinstance(layer, Conv) else 0
