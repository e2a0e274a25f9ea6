"""The Keras backend, on the TensorFlow engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from harness.errors import BackendError
from harness.protocol import (
    GRADIENT,
    TRAIN,
    WEIGHTS,
    Architecture,
    Array,
    Bounds,
    FloatArray,
    IntArray,
    Objective,
    Weights,
)


class KerasModel:
    """A ``keras.Model`` that returns logits, in inference mode, compiled to graphs."""

    xp = keras.ops
    capabilities = frozenset({GRADIENT})

    def __init__(self, net: keras.Model, bounds: Bounds) -> None:
        self.net = net
        self.bounds = bounds
        entry = net.inputs[0]
        self.dtype = tf.as_dtype(entry.dtype)
        self.signature = tf.TensorSpec(entry.shape, self.dtype)
        self._logits = tf.function(
            lambda x: net(x, training=False), input_signature=[self.signature]
        )
        self._gradients: dict[Objective, Callable[[Array, Array], tuple[Array, Array]]] = {}

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        dtype = tf.int64 if values.dtype.kind in "iu" else self.dtype
        return tf.convert_to_tensor(values.astype(dtype.as_numpy_dtype, copy=False))

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``."""
        return np.asarray(array)

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        return self._logits(x)

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.Model``; one graph per objective."""
        if objective not in self._gradients:
            labels = tf.TensorSpec([None], tf.int64)
            self._gradients[objective] = tf.function(
                lambda x, y: self._differentiate(x, y, objective),
                input_signature=[self.signature, labels],
            )
        return self._gradients[objective](x, y)

    def _differentiate(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = self.net(x, training=False)
        true = tf.one_hot(y, logits.shape[1], on_value=True, off_value=False, dtype=tf.bool)
        flow = objective.logit_gradient(self.xp, logits, true)
        return logits, tape.gradient(logits, x, output_gradients=flow)

    def weights(self) -> dict[str, FloatArray]:
        """See ``protocol.Model``; a wrapped network has no neutral names."""
        raise BackendError("a wrapped network's weights have no neutral names")


class KerasMLP(KerasModel):
    """A network that was built from an ``Architecture``, so its weights have neutral names."""

    capabilities = frozenset({GRADIENT, TRAIN, WEIGHTS})

    def weights(self) -> dict[str, FloatArray]:
        """See ``protocol.Model``; Keras keeps kernels as (in, out)."""
        named: dict[str, FloatArray] = {}
        for index, layer in enumerate(dense_layers(self.net)):
            named[f"layers.{index}.weight"] = np.ascontiguousarray(layer.kernel.numpy().T)
            named[f"layers.{index}.bias"] = layer.bias.numpy().copy()
        return named


class KerasTrainer:
    """See ``protocol.Trainer``."""

    def __init__(self, model: KerasMLP, l2: float) -> None:
        self.model = model
        self.l2 = l2
        self.optimizer = keras.optimizers.Adam(beta_1=0.9, beta_2=0.999, epsilon=1e-8)
        self.optimizer.build(model.net.trainable_variables)
        labels = tf.TensorSpec([None], tf.int64)
        self._compiled = tf.function(self._step, input_signature=[model.signature, labels])

    def step(self, x: FloatArray, y: IntArray, learning_rate: float) -> tuple[float, int]:
        """See ``protocol.Trainer``."""
        self.optimizer.learning_rate.assign(learning_rate)
        loss, correct = self._compiled(self.model.asarray(x), self.model.asarray(y))
        return float(loss), int(correct)

    def _step(self, x: Array, y: Array) -> tuple[Array, Array]:
        net = self.model.net
        with tf.GradientTape() as tape:
            logits = net(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
            if self.l2:
                squares = [tf.reduce_sum(tf.square(layer.kernel)) for layer in dense_layers(net)]
                loss += self.l2 * tf.add_n(squares)
        variables = net.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        hits = tf.equal(tf.argmax(logits, axis=1), y)
        return loss, tf.reduce_sum(tf.cast(hits, tf.int64))


class KerasBackend:
    """See ``protocol.Backend``."""

    name = "keras"

    def __init__(self) -> None:
        engine = keras.backend.backend()
        if engine != "tensorflow":
            raise BackendError(
                f"keras runs on the engine {engine!r}, but this backend needs TensorFlow: "
                "set KERAS_BACKEND=tensorflow"
            )

    def versions(self) -> dict[str, str]:
        """See ``protocol.Backend``."""
        return {"keras": keras.__version__, "tensorflow": tf.__version__}

    def build(
        self,
        architecture: Architecture,
        weights: Weights,
        *,
        bounds: Bounds = (0.0, 1.0),
        dtype: str = "float32",
    ) -> KerasMLP:
        """See ``protocol.Backend``."""
        return self._build(architecture, weights, bounds, dtype, seed=0)

    def _build(
        self, architecture: Architecture, weights: Weights, bounds: Bounds, dtype: str, seed: int
    ) -> KerasMLP:
        dropout = architecture.dropout
        layers: list[keras.layers.Layer] = [
            keras.layers.Input(architecture.input_shape, dtype=dtype),
            keras.layers.Flatten(dtype=dtype),
        ]
        for index, width in enumerate(architecture.hidden):
            layers.append(keras.layers.Dense(width, activation="relu", dtype=dtype))
            layers.append(keras.layers.Dropout(dropout, seed=seed + index, dtype=dtype))
        layers.append(keras.layers.Dense(architecture.classes, dtype=dtype))
        net = keras.Sequential(layers)
        for index, layer in enumerate(dense_layers(net)):
            kernel, bias = weights[f"layers.{index}.weight"].T, weights[f"layers.{index}.bias"]
            layer.set_weights([kernel, bias])
        return KerasMLP(net, bounds)

    def trainer(
        self, architecture: Architecture, weights: Weights, *, bounds: Bounds, l2: float, seed: int
    ) -> KerasTrainer:
        """See ``protocol.Backend``."""
        return KerasTrainer(self._build(architecture, weights, bounds, "float32", seed), l2)

    def wrap(self, net: Any, *, bounds: Bounds) -> KerasModel:
        """See ``protocol.Backend``."""
        if not isinstance(net, keras.Model):
            raise BackendError(f"{type(net).__name__}: not a keras.Model")
        if not getattr(net, "inputs", None):
            raise BackendError(
                f"{type(net).__name__}: has no declared input; begin it with keras.Input(shape), "
                "or put it behind one: keras.Sequential([keras.Input(shape), net])"
            )
        return KerasModel(net, bounds)


def dense_layers(net: keras.Model) -> list[keras.layers.Dense]:
    """The dense layers from input to logits."""
    return [layer for layer in net.layers if isinstance(layer, keras.layers.Dense)]
