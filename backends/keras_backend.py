"""The Keras backend, on the TensorFlow engine."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

from harness.errors import BackendError, MeasurementError
from harness.protocol import (
    BN_EPSILON,
    BN_MOMENTUM,
    GRADIENT,
    UNIT,
    Array,
    Batch,
    Bounds,
    FloatArray,
    Network,
    Objective,
    Optimizer,
    Step,
    Weights,
    Wrapping,
    check_state,
    fold_batch_norm,
    require_classes,
)


class KerasModel:
    """A ``keras.Model`` that returns logits, in inference mode, compiled to graphs."""

    xp = keras.ops
    capabilities = frozenset({GRADIENT})

    def __init__(self, net: keras.Model, bounds: Bounds) -> None:
        self.net = net
        self.bounds = bounds
        entry = net.inputs[0]
        self.entry = tf.as_dtype(entry.dtype)
        # Attacks work in this; a network of another precision gets its images cast at its door.
        doubles = tf.float64 in (self.entry, tf.as_dtype(net.outputs[0].dtype))
        self.dtype = tf.float64 if doubles else tf.float32
        self.signature = tf.TensorSpec(entry.shape, self.dtype)
        self._logits = tf.function(self._answer, input_signature=[self.signature])
        self._gradients: dict[
            tuple[Objective, int], Callable[[Array, Array], tuple[Array, Array]]
        ] = {}

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        dtype = tf.int64 if values.dtype.kind in "iu" else self.dtype
        return tf.convert_to_tensor(values.astype(dtype.as_numpy_dtype, copy=False))

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``."""
        return np.asarray(array)

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        self._require_taken(x)
        return self._logits(x)

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``; one graph per objective."""
        self._require_taken(x)
        key = (objective, len(y.shape))
        if key not in self._gradients:
            soft = tf.TensorSpec([None, None], self.dtype)
            labels = soft if len(y.shape) == 2 else tf.TensorSpec([None], tf.int64)
            self._gradients[key] = tf.function(
                lambda x, y: self._differentiate(x, y, objective),
                input_signature=[self.signature, labels],
            )
        logits, gradient = self._gradients[key](x, y)
        if gradient is None:
            raise MeasurementError(
                "the network gives no gradient: its logits do not follow from the image by "
                "differentiable steps (a stop_gradient, argmax or NumPy in between?)"
            )
        if len(y.shape) == 1:
            require_classes(self.numpy(y), logits.shape[1])
        return logits, gradient

    def _require_taken(self, x: Array) -> None:
        taken = self.signature.shape
        if taken.is_compatible_with(x.shape):
            return
        if not taken[1:].is_compatible_with(x.shape[1:]):
            raise MeasurementError(
                f"the network takes images of shape {tuple(taken[1:])}, not {tuple(x.shape[1:])}"
            )
        raise MeasurementError(
            f"the network takes batches of {taken[0]} images only; build it without a batch size"
        )

    def _answer(self, x: Array) -> Array:
        return tf.cast(self.net(tf.cast(x, self.entry), training=False), self.dtype)

    def _differentiate(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = self._answer(x)
        true = y
        if len(y.shape) == 1:
            true = tf.one_hot(y, logits.shape[1], on_value=True, off_value=False, dtype=tf.bool)
        flow = objective.logit_gradient(self.xp, logits, true)
        return logits, tape.gradient(logits, x, output_gradients=flow)


class KerasMLP(KerasModel):
    """A network that was built from an ``Architecture``, so its weights have neutral names."""

    capabilities = frozenset({GRADIENT})

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
        architecture = network.architecture
        layers: list[keras.layers.Layer] = [
            keras.layers.Input(architecture.input_shape, dtype=dtype),
            keras.layers.Flatten(dtype=dtype),
        ]
        for width in architecture.hidden:
            layers.append(keras.layers.Dense(width, activation="relu", dtype=dtype))
        layers.append(keras.layers.Dense(architecture.classes, dtype=dtype))
        model = KerasMLP(keras.Sequential(layers), how.bounds)
        model.set_weights(network.weights)
        return model

    def trainer(
        self, network: Network, how: Wrapping, optimizer: Optimizer, seed: int
    ) -> KerasTrainer:
        """See ``protocol.Builder``."""
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
        model = KerasMLP(keras.Sequential(layers), how.bounds)
        model.set_weights(network.weights)
        return KerasTrainer(model, self.build(network, how), optimizer)

    def knows(self, net: Any) -> bool:
        """See ``protocol.Backend``."""
        return isinstance(net, keras.Model)

    def wrap(self, net: Any, how: Wrapping) -> KerasModel:
        """See ``protocol.Backend``."""
        if not self.knows(net):
            raise BackendError(f"{type(net).__name__}: not a keras.Model")
        if not _inputs(net):
            raise BackendError(
                f"{type(net).__name__}: has no declared input; begin it with keras.Input(shape), "
                "or put it behind one: keras.Sequential([keras.Input(shape), net])"
            )
        name, ends = type(net).__name__, (len(net.inputs), len(net.outputs))
        if ends != (1, 1):
            raise BackendError(f"{name}: has {ends[0]} inputs and {ends[1]} outputs, not 1 and 1")
        if not tf.as_dtype(net.inputs[0].dtype).is_floating:
            raise BackendError(
                f"{name}: its input is {net.inputs[0].dtype}, through which no gradient flows; "
                "rebuild it on floats: keras.models.clone_model(keras.Model(net.inputs, "
                "net.outputs), [keras.Input(shape)]), and set_weights(net.get_weights()) of it"
            )
        return KerasModel(net, how.bounds)


def _inputs(net: keras.Model) -> list[Any]:
    """The declared inputs; of a Sequential without any, early releases of Keras 3 raise."""
    try:
        return list(getattr(net, "inputs", None) or ())
    except ValueError:
        return []


def dense_layers(net: keras.Model) -> list[keras.layers.Dense]:
    """The dense layers from input to logits."""
    return [layer for layer in net.layers if isinstance(layer, keras.layers.Dense)]
