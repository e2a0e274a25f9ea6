"""Copies of Keras networks: in float64, with layers that are random, or to be trained anew.

A random or a learning copy is the network's own code, called with other weights
(``stateless_call``), so that it is had of every network, and the network never changes. Only for
float64, layers have to be made again, from their configurations.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from backends.keras_devices import on
from backends.keras_taken import taken
from backends.keras_wrapped import STATISTICS, KerasModel, compiled, last_part
from harness.errors import MeasurementError, NotApplicable, gist
from harness.protocol import Array, Batch, Step, Wrapping

STAGES = 8
NORMS = ("Normalization", "Norm")
"""Ends of the names of layers that go with the layer before them."""
SEED = "seed_generator_state"
DOUBLE = "float64"
AGREE = {"float16": 0.1, "bfloat16": 0.3}
"""How far, relative to the largest, logits in a precision may be off those in float64."""
CLOSE = 1e-3


class KerasCopies:
    """See ``protocol.Copies``; of a model that was wrapped."""

    def __init__(self, model: KerasModel) -> None:
        self.model, self.net = model, model.net
        self.how = Wrapping(model.bounds, model.output, model.device)

    def stages(self) -> int:
        """See ``protocol.Copies``."""
        return len(self._staged())

    def float64(self) -> KerasModel:
        """See ``protocol.Copies``."""
        self._require_keras()
        shape = self.model.image_shape
        if shape is None:
            raise NotApplicable("it is not known which shape its images have")
        images = np.random.default_rng(0).uniform(*self.model.bounds, (2, *shape))
        try:
            with _in_doubles(self.net), on(self.model.device):
                net = _remade(self.net)
                net(tf.zeros([self.model.fixed or 1, *shape], DOUBLE), training=False)
                net.set_weights([_float64(weight) for weight in self.net.weights])
            copy = KerasModel(replace(taken(net, self.how.output), doubles=True), self.how)
            theirs = copy.numpy(copy.logits(copy.asarray(images)))
        except Exception as error:  # whatever the code of layers raises
            raise NotApplicable(f"no copy of it in float64 can be made: {gist(error)}") from error
        precisions = {tf.as_dtype(weight.dtype).name for weight in net.weights}
        if precisions & {"float32", *AGREE}:
            raise NotApplicable(
                "layers of its copy are not in float64: they set a dtype themselves"
            )
        ours = self.model.numpy(self.model.logits(self.model.asarray(images)))
        worst = max([CLOSE, *(AGREE.get(name, 0.0) for name in _policies(self.net))])
        if not np.allclose(theirs, ours, rtol=0, atol=worst * max(1e-6, np.abs(ours).max())):
            raise NotApplicable(
                "its copy in float64 answers otherwise; give it a get_config that tells all that "
                "it is made of"
            )
        return copy

    def randomised(self, stages: int, seed: int) -> KerasModel:
        """See ``protocol.Copies``; of the same seed, more stages hold the same weights and more."""
        return self._holding(_Weights(self.net, self._random(stages, seed)))

    def learner(self, seed: int) -> KerasLearner:
        """See ``protocol.Copies``."""
        if self.model.fixed is not None:
            raise NotApplicable(f"it takes batches of {self.model.fixed} images only")
        with on(self.model.device):
            weights = _Weights(self.net, self._random(self.stages(), seed), seed)
            return KerasLearner(self._holding(weights), weights)

    def _holding(self, weights: _Weights) -> KerasModel:
        """The network with other weights, as a model."""
        held = [weights.held[id(own)] for own in self.net.weights]
        return KerasModel(replace(self.model.taken, call=weights.call, variables=held), self.how)

    def _random(self, stages: int, seed: int) -> dict[int, npt.NDArray[Any]]:
        """New values of the weights in the last stages, by the identity of the weight."""
        chosen = {id(weight) for stage in self._staged()[:stages] for weight in stage}
        return {
            id(weight): _fresh(weight, np.random.default_rng([seed, place]))
            for place, weight in enumerate(self.net.weights)
            if id(weight) in chosen and tf.as_dtype(weight.dtype).is_floating
        }

    def _staged(self) -> list[list[Any]]:
        """The weights of each stage, from the last one to the first."""
        self._require_keras()
        layers: list[list[Any]] = []
        for layer, weights in _owners(self.net):
            if type(layer).__name__.endswith(NORMS) and layers:
                layers[-1] += weights
            else:
                layers.append(list(weights))
        if not layers:
            raise NotApplicable("no layer of it has weights that Keras knows")
        parts = np.array_split(np.arange(len(layers))[::-1], min(STAGES, len(layers)))
        return [[weight for layer in part for weight in layers[layer]] for part in parts]

    def _require_keras(self) -> None:
        if not isinstance(self.net, keras.layers.Layer):
            raise NotApplicable(f"a {self.model.taken.kind} cannot be copied; wrap the keras.Model")


class _Weights:
    """Other weights of a network, with which it is called.

    Args:
        net: The network.
        fresh: New values, by the identity of the weight; of others there are copies.
        seed: Of the masks of dropout; None for none.
    """

    def __init__(
        self, net: Any, fresh: Mapping[int, npt.NDArray[Any]], seed: int | None = None
    ) -> None:
        self.net = net
        self.held: dict[int, keras.Variable] = {}
        for place, own in enumerate(net.variables):
            value = fresh.get(id(own))
            if value is None:
                value = np.array(own.numpy())
            if seed is not None and own.name == SEED:
                value = np.random.default_rng([seed, place]).integers(0, 2**31, 2) * [1, 0]
            self.held[id(own)] = keras.Variable(value, dtype=own.dtype, name=own.name)

    def call(self, x: Array) -> Any:
        """What the network answers in inference mode."""
        return self.ask(x, training=False)[0]

    def ask(self, x: Array, training: bool) -> tuple[Any, list[Array]]:
        """What it answers, and what then becomes of all that is not trained."""
        trainable, others = (
            [self.held[id(own)].value for own in part]
            for part in (self.net.trainable_variables, self.net.non_trainable_variables)
        )
        outputs, after = self.net.stateless_call(trainable, others, x, training=training)
        return outputs, after

    def trained(self) -> list[keras.Variable]:
        """The weights that learn; those of frozen layers, too, for they are random now."""
        found = []
        for own in self.net.weights:
            if tf.as_dtype(own.dtype).is_floating and last_part(own) not in STATISTICS:
                found.append(self.held[id(own)])
        return found


class KerasLearner:
    """See ``protocol.Learner``."""

    def __init__(self, model: KerasModel, weights: _Weights) -> None:
        self.model, self.weights = model, weights
        self.variables, self.momenta = weights.trained(), _momenta(weights.net)
        self.optimizer = keras.optimizers.Adam(epsilon=1e-8)
        self.optimizer.build(self.variables)
        self._steps: dict[tuple[int, ...], Any] = {}

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """See ``protocol.Learner``.

        Raises:
            MeasurementError: The targets are of another number of classes than the network has.
        """
        with on(self.model.device):
            self.optimizer.learning_rate.assign(learning_rate)
            images, wanted = self.model.asarray(batch.x), self.model.asarray(batch.targets)
            shape = tuple(batch.x.shape[1:])
            if shape not in self._steps:
                specs = [tf.TensorSpec([None, *a.shape[1:]], a.dtype) for a in (images, wanted)]
                self._steps[shape] = compiled(self._step, specs)
            loss, correct = self._steps[shape](images, wanted)
        return Step(float(loss), int(correct))

    def _step(self, x: Array, targets: Array) -> tuple[Array, Array]:
        with tf.GradientTape() as tape:
            taken = self.model.taken
            outputs, after = self.weights.ask(tf.cast(x, taken.entry), training=True)
            logits = self.model.logits_among(taken.choose(outputs))
            if logits.shape[1] != targets.shape[1]:
                raise MeasurementError(
                    f"the network has {logits.shape[1]} classes, and the labels are of "
                    f"{targets.shape[1]}"
                )
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
        zero = tf.UnconnectedGradients.ZERO
        inner = [variable.value for variable in self.variables]
        gradients = tape.gradient(loss, inner, unconnected_gradients=zero)
        self._keep(after)
        self.optimizer.apply(gradients, self.variables)
        hits = tf.equal(tf.argmax(logits, axis=1), tf.argmax(targets, axis=1))
        return loss, tf.reduce_sum(tf.cast(hits, tf.int64))

    def _keep(self, after: list[Array]) -> None:
        """Hold what a step has made of statistics and generators.

        Moving averages with the usual momentum of 0.99 are still near their beginning after a short
        training; so they are plain averages over the steps, until these are more than the momentum
        looks back on.
        """
        learning = {id(variable) for variable in self.variables}
        steps = tf.cast(self.optimizer.iterations + 1, tf.float64)
        for own, value in zip(self.weights.net.non_trainable_variables, after, strict=True):
            held = self.weights.held[id(own)]
            if id(held) in learning:
                continue
            momentum = self.momenta.get(id(own))
            if momentum is not None and momentum < 1:
                share = tf.cast(tf.maximum(1 / steps, 1 - momentum) / (1 - momentum), value.dtype)
                held.assign(held.value + share * (value - held.value))
            else:
                held.assign(value)


def _momenta(net: Any) -> dict[int, float]:
    """The momentum of each moving average of batch statistics, by the identity of the weight."""
    return {
        id(weight): float(layer.momentum)
        for layer, weights in _owners(net)
        for weight in weights
        if last_part(weight) in STATISTICS and hasattr(layer, "momentum")
    }


def _owners(net: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Each layer that has weights itself, with these, in the order of the graph or of creation.

    What a Normalization layer has is measured from data before any training, and is left out.
    """
    seen: set[int] = set()

    def walk(layer: Any) -> Iterator[tuple[Any, list[Any]]]:
        if id(layer) in seen or isinstance(layer, keras.layers.Normalization):
            return
        seen.add(id(layer))
        parts = layer._flatten_layers(include_self=False, recursive=False)
        theirs = {id(weight) for part in parts for weight in part.weights}
        own = [w for w in layer.weights if id(w) not in theirs and id(w) not in seen]
        seen.update(map(id, own))
        if own:
            yield layer, own
        for part in parts:
            yield from walk(part)

    yield from walk(net)


def _fresh(weight: Any, generator: np.random.Generator) -> npt.NDArray[Any]:
    """A random value by the rule that Keras has for most layers.

    Kernels, and whatever else has two axes or more, are uniform with the variance of Glorot and
    Bengio (2010), so that activations and gradients keep their size; biases and means are 0; scales
    and variances are 1, and so is a vector of any other name, lest it shuts off what it scales.
    """
    shape, name = tuple(weight.shape), last_part(weight)
    if len(shape) >= 2:
        limit = math.sqrt(6 / max(1, math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        return generator.uniform(-limit, limit, shape)
    return np.zeros(shape) if name.endswith(("bias", "beta", "mean", "alpha")) else np.ones(shape)


def _float64(weight: Any) -> npt.NDArray[Any]:
    value = np.array(weight.numpy())
    return value.astype(np.float64) if tf.as_dtype(weight.dtype).is_floating else value


def _policies(net: Any) -> set[str]:
    """The dtypes that its layers compute in."""
    found = net._flatten_layers()
    return {str(layer.compute_dtype) for layer in found}


@contextmanager
def _in_doubles(net: Any) -> Iterator[None]:
    """What Keras makes within is in float64, from classes that the network is made of.

    Layers draw seeds from Python's generator when they are made; it is as before afterwards.
    """
    policy, floats, state = keras.config.dtype_policy(), keras.config.floatx(), random.getstate()
    live = {type(layer).__name__: type(layer) for layer in net._flatten_layers()}
    keras.config.set_floatx(DOUBLE)
    keras.config.set_dtype_policy(DOUBLE)
    try:
        with keras.saving.custom_object_scope(live):
            yield
    finally:
        keras.config.set_floatx(floats)
        keras.config.set_dtype_policy(policy)
        random.setstate(state)


def _remade(part: Any) -> Any:
    """A network or a layer of it, made again in float64."""
    if isinstance(part, keras.Sequential) and part.built:
        ends = keras.Input(batch_shape=part.inputs[0].shape, dtype=_double(part.inputs[0].dtype))
        return keras.Sequential([ends, *map(_remade, part.layers)], name=part.name)
    if isinstance(part, keras.Model) and getattr(part, "inputs", None):
        entry = keras.tree.map_structure(
            lambda end: keras.Input(batch_shape=end.shape, dtype=_double(end.dtype)), part.input
        )
        # A plain model on the same graph: it is not compiled, and of no class of its own.
        plain = keras.Model(part.input, part.output, name=part.name)
        return keras.models.clone_model(plain, input_tensors=entry, clone_function=_remade)
    return type(part).from_config(_retyped(part.get_config()))


def _retyped(config: Any) -> Any:
    """A configuration with float64 wherever it names a dtype, or a policy of some."""
    if isinstance(config, Mapping):
        return {
            key: _double(value) if key == "dtype" else _retyped(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(map(_retyped, config))
    return config


def _double(dtype: Any) -> Any:
    """Float64 in place of another floating dtype, or of a policy; integers as they are."""
    if isinstance(dtype, str) and "float" not in dtype:
        return dtype
    return dtype if dtype is None else DOUBLE
