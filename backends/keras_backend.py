"""The Keras backend, on the TensorFlow engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from backends.keras_copies import KerasCopies
from backends.keras_devices import on
from backends.keras_loading import loaded
from backends.keras_taken import is_taken, taken
from backends.keras_wrapped import KerasModel
from harness.errors import BackendError
from harness.protocol import (
    BN_EPSILON,
    BN_MOMENTUM,
    UNIT,
    Array,
    Batch,
    Copies,
    FloatArray,
    Model,
    Network,
    Optimizer,
    Step,
    Weights,
    Wrapping,
    check_state,
    fold_batch_norm,
)


class KerasMLP(KerasModel):
    """A network that was built from an ``Architecture``, so its weights have neutral names."""

    def __init__(self, net: keras.Model, how: Wrapping) -> None:
        super().__init__(taken(net), how)
        self.signature = tf.TensorSpec(net.inputs[0].shape, self.dtype)

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the weights under neutral names, with batch normalisation folded in."""
        named: dict[str, FloatArray] = {}
        norms = [x for x in self.net.layers if isinstance(x, keras.layers.BatchNormalization)]
        for index, layer in enumerate(dense_layers(self.net)):
            weight, bias = np.ascontiguousarray(layer.kernel.numpy().T), layer.bias.numpy().copy()
            if index < len(norms):
                weight, bias = fold_batch_norm(weight, bias, *norms[index].get_weights())
            named[f"layers.{index}.weight"], named[f"layers.{index}.bias"] = weight, bias
        return named

    def set_weights(self, weights: Weights) -> None:
        """Put other weights in their place."""
        for index, layer in enumerate(dense_layers(self.net)):
            kernel, bias = weights[f"layers.{index}.weight"].T, weights[f"layers.{index}.bias"]
            layer.set_weights([kernel, bias])


class KerasTrainer:
    """See ``protocol.Trainer``."""

    def __init__(self, model: KerasMLP, plain: KerasMLP, optimizer: Optimizer) -> None:
        self.model = model
        self.plain = plain
        self.l2 = optimizer.l2
        self.optimizer = keras.optimizers.AdamW(
            beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=optimizer.decay
        )
        self.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        self.optimizer.build(model.net.trainable_variables)
        targets = tf.TensorSpec([None, *model.net.output_shape[1:]], model.dtype)
        beta = tf.TensorSpec([], model.dtype)
        self._plainly = tf.function(self._step, input_signature=[model.signature, targets])
        self._trades = tf.function(
            self._step, input_signature=[model.signature, targets, model.signature, beta]
        )

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """See ``protocol.Trainer``."""
        with on(self.model.device):
            return self._stepped(batch, learning_rate)

    def _stepped(self, batch: Batch, learning_rate: float) -> Step:
        self.optimizer.learning_rate.assign(learning_rate)
        images, wanted = self.model.asarray(batch.x), self.model.asarray(batch.targets)
        if batch.perturbed is None:
            loss, correct = self._plainly(images, wanted)
        else:
            perturbed = self.model.asarray(batch.perturbed)
            loss, correct = self._trades(images, wanted, perturbed, batch.trades_beta)
        return Step(float(loss), int(correct))

    def _step(
        self, x: Array, targets: Array, perturbed: Array | None = None, beta: Array | float = 0.0
    ) -> tuple[Array, Array]:
        net = self.model.net
        with tf.GradientTape() as tape:
            logits = net(x, training=True)
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
            if perturbed is not None:
                ours = tf.nn.log_softmax(logits)
                theirs = tf.nn.log_softmax(net(perturbed, training=True))
                divergence = tf.reduce_sum(tf.exp(ours) * (ours - theirs), axis=1)
                loss += beta * tf.reduce_mean(divergence)
            if self.l2:
                squares = [tf.reduce_sum(tf.square(layer.kernel)) for layer in dense_layers(net)]
                loss += self.l2 * tf.add_n(squares)
        variables = net.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        hits = tf.equal(tf.argmax(logits, axis=1), tf.argmax(targets, axis=1))
        return loss, tf.reduce_sum(tf.cast(hits, tf.int64))

    def weights(self) -> dict[str, FloatArray]:
        """See ``protocol.Trainer``."""
        return self.model.weights()

    def inference(self, weights: Weights) -> KerasMLP:
        """See ``protocol.Trainer``."""
        self.plain.set_weights(weights)
        return self.plain

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """See ``protocol.Trainer``."""
        return {str(i): np.array(v.value.numpy()) for i, v in enumerate(self._variables())}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See ``protocol.Trainer``."""
        check_state(state, self.state())
        for index, variable in enumerate(self._variables()):
            variable.assign(state[str(index)])

    def _variables(self) -> list[keras.Variable]:
        """The network's variables, with those of its dropout generators, and the optimizer's."""
        return [*self.model.net.variables, *self.optimizer.variables]


class KerasBackend:
    """See ``protocol.Backend``."""

    name = "keras"
    suffixes = (".keras",)

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

    def build(self, network: Network, how: Wrapping = UNIT, dtype: str = "float32") -> KerasMLP:
        """See ``protocol.Builder``."""
        with on(how.device):
            return self._built(network, how, dtype)

    def _built(self, network: Network, how: Wrapping, dtype: str) -> KerasMLP:
        architecture = network.architecture
        layers: list[keras.layers.Layer] = [
            keras.layers.Input(architecture.input_shape, dtype=dtype),
            keras.layers.Flatten(dtype=dtype),
        ]
        for width in architecture.hidden:
            layers.append(keras.layers.Dense(width, activation="relu", dtype=dtype))
        layers.append(keras.layers.Dense(architecture.classes, dtype=dtype))
        model = KerasMLP(keras.Sequential(layers), how)
        model.set_weights(network.weights)
        return model

    def trainer(
        self, network: Network, how: Wrapping, optimizer: Optimizer, seed: int
    ) -> KerasTrainer:
        """See ``protocol.Builder``."""
        with on(how.device):
            model = KerasMLP(self._in_training(network, seed), how)
            model.set_weights(network.weights)
            return KerasTrainer(model, self.build(network, how), optimizer)

    def _in_training(self, network: Network, seed: int) -> keras.Sequential:
        """The network with its dropout and batch normalisation."""
        architecture = network.architecture
        layers: list[keras.layers.Layer] = [
            keras.layers.Input(architecture.input_shape),
            keras.layers.Flatten(),
        ]
        for index, width in enumerate(architecture.hidden):
            layers.append(keras.layers.Dense(width))
            if architecture.batch_norm:
                layers.append(
                    keras.layers.BatchNormalization(epsilon=BN_EPSILON, momentum=BN_MOMENTUM)
                )
            layers.append(keras.layers.ReLU())
            if architecture.dropout:
                layers.append(keras.layers.Dropout(architecture.dropout, seed=seed + index))
        layers.append(keras.layers.Dense(architecture.classes))
        return keras.Sequential(layers)

    def knows(self, net: Any) -> bool:
        """See ``protocol.Backend``."""
        return is_taken(net)

    def wrap(self, net: Any, how: Wrapping) -> KerasModel:
        """See ``protocol.Backend``."""
        return KerasModel(taken(net, how.output), how)

    def load(self, path: Path, how: Wrapping) -> KerasModel:
        """See ``protocol.Backend``; ``.keras`` files, and folders of SavedModels."""
        with on(how.device):
            return self.wrap(loaded(path), how)

    def save(self, network: Network, path: Path) -> None:
        """Write a network as a ``.keras`` file."""
        self.build(network).net.save(path)

    def copies(self, model: Model) -> Copies | None:
        """See ``protocol.Backend``."""
        return KerasCopies(model) if isinstance(model, KerasModel) else None


def dense_layers(net: keras.Model) -> list[keras.layers.Dense]:
    """The dense layers from input to logits."""
    return [layer for layer in net.layers if isinstance(layer, keras.layers.Dense)]
