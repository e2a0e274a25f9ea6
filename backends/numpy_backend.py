"""The NumPy backend, the oracle: an MLP with hand-written gradients, in need of no framework."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import BackendError
from harness.protocol import (
    GRADIENT,
    UNIT,
    Architecture,
    Array,
    Batch,
    Bounds,
    FloatArray,
    IntArray,
    Model,
    Network,
    Objective,
    Optimizer,
    Step,
    Weights,
    Wrapping,
    check_state,
    require_classes,
)


class NumpyModel:
    """The network in inference mode."""

    xp = np
    capabilities = frozenset({GRADIENT})

    def __init__(
        self, architecture: Architecture, weights: Weights, bounds: Bounds, dtype: str
    ) -> None:
        self.bounds = bounds
        self.dtype = np.dtype(dtype)
        self.matrices: list[FloatArray] = []
        self.biases: list[FloatArray] = []
        for name, shape in architecture.weight_shapes().items():
            group = self.matrices if name.endswith("weight") else self.biases
            group.append(np.empty(shape, dtype=self.dtype))
        self.set_weights(weights)

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        return np.asarray(values, dtype=np.int64 if values.dtype.kind in "iu" else self.dtype)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``."""
        return np.asarray(array)

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        return self.layers(x)[-1]

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``; the chain rule, layer by layer."""
        layers = self.layers(x)
        if y.ndim == 1:
            require_classes(y, layers[-1].shape[1])
        true = y if y.ndim == 2 else one_hot(y, layers[-1].shape[1])
        flow = objective.logit_gradient(np, layers[-1], true)
        for index in reversed(range(len(self.matrices))):
            flow = flow @ self.matrices[index]
            if index > 0:
                flow = flow * (layers[index] > 0)
        return layers[-1], flow.reshape(x.shape)

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the weights under neutral names."""
        named: dict[str, FloatArray] = {}
        for index, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            named[f"layers.{index}.weight"] = matrix.copy()
            named[f"layers.{index}.bias"] = bias.copy()
        return named

    def set_weights(self, weights: Weights) -> None:
        """Put other weights in their place."""
        for index, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            matrix[...] = weights[f"layers.{index}.weight"]
            bias[...] = weights[f"layers.{index}.bias"]

    def layers(self, x: Array, masks: list[FloatArray] | None = None) -> list[FloatArray]:
        """The flat input, each hidden activation (times its dropout mask), and the logits."""
        values = [np.asarray(x).reshape(len(x), -1)]
        last = len(self.matrices) - 1
        for index, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            value = values[-1] @ matrix.T + bias
            if index < last:
                value = np.maximum(value, 0)
                if masks is not None:
                    value = value * masks[index]
            values.append(value)
        return values


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
        self.parameters = [*model.matrices, *model.biases]
        self.means = [np.zeros_like(p) for p in self.parameters]
        self.squares = [np.zeros_like(p) for p in self.parameters]

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """See ``protocol.Trainer``; TRADES is left to the frameworks.

        Raises:
            BackendError: Perturbed images were given.
        """
        if batch.perturbed is not None:
            raise BackendError("the numpy backend has no TRADES training; use torch or keras")
        # A generator per step, so that the step alone is what a restored trainer must know.
        random = np.random.default_rng([self.seed, self.steps])
        masks = [self._mask(random, len(batch.x), width) for width in self.architecture.hidden]
        layers = self.model.layers(self.model.asarray(batch.x), masks)
        logits = layers[-1]
        shifted = logits - logits.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        loss = -(batch.targets * logs).sum(axis=1).mean()
        loss += self.optimizer.l2 * sum(float(np.sum(m * m)) for m in self.model.matrices)
        flow = (np.exp(logs) - batch.targets) / len(batch.x)
        self._adam(self._gradients(layers, masks, flow), learning_rate)
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
        groups = {"parameter": self.parameters, "mean": self.means, "square": self.squares}
        return {f"{name}/{i}": v for name, group in groups.items() for i, v in enumerate(group)}

    def _mask(self, random: np.random.Generator, rows: int, width: int) -> FloatArray:
        """Zero for dropped units, 1 / (1 - dropout) for kept ones."""
        keep = 1 - self.architecture.dropout
        kept = random.random((rows, width)) < keep
        return kept.astype(self.model.dtype) / self.model.dtype.type(keep)

    def _gradients(
        self, layers: list[FloatArray], masks: list[FloatArray], flow: FloatArray
    ) -> list[FloatArray]:
        """Gradients of the loss for the matrices, then for the biases."""
        matrices: list[FloatArray] = []
        biases: list[FloatArray] = []
        for index in reversed(range(len(self.model.matrices))):
            matrix = self.model.matrices[index]
            matrices.insert(0, flow.T @ layers[index] + 2 * self.optimizer.l2 * matrix)
            biases.insert(0, flow.sum(axis=0))
            if index > 0:
                flow = (flow @ matrix) * masks[index - 1] * (layers[index] > 0)
        return [*matrices, *biases]

    def _adam(self, gradients: list[FloatArray], learning_rate: float) -> None:
        self.steps += 1
        first, second = self.decay
        first_unbias, second_unbias = 1 - first**self.steps, 1 - second**self.steps
        for index, (parameter, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            mean = first * self.means[index] + (1 - first) * gradient
            self.means[index] = mean
            square = second * self.squares[index] + (1 - second) * gradient * gradient
            self.squares[index] = square
            step = mean / first_unbias / (np.sqrt(square / second_unbias) + self.stabiliser)
            decay = self.optimizer.decay if parameter.ndim == 2 else 0.0
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
        if network.architecture.batch_norm:
            raise BackendError("the numpy backend trains no batch_norm; use torch or keras")
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
