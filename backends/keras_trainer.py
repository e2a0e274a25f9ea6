"""Training of Keras networks; see ``protocol.Trainer``.

A step is one graph. It calls the network with its weights as arguments (``stateless_call``), so
that weights can be moved for a gradient without being changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from backends.keras_bounds import margins
from backends.keras_devices import on
from backends.keras_layers import Built
from backends.keras_taken import taken
from backends.keras_wrapped import KerasModel
from harness.protocol import (
    Architecture,
    Array,
    Batch,
    FloatArray,
    Optimizer,
    Step,
    Weights,
    Wrapping,
    check_state,
)

Given: TypeAlias = dict[str, Array]
"""What a step learns from: fields of a ``Batch`` by their names, those that its loss needs."""


class BuiltKerasModel(KerasModel):
    """A network that was built from an ``Architecture``, so its weights have neutral names."""

    def __init__(self, built: Built, how: Wrapping, channel_axis: int | None) -> None:
        super().__init__(taken(built.net), how)
        self.built, self.channel_axis = built, channel_axis

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the weights under neutral names, with batch normalisation folded in."""
        return self.built.weights()

    def set_weights(self, weights: Weights) -> None:
        """Put other weights in their place."""
        self.built.set_weights(weights)


class _Passed(NamedTuple):
    """What a pass leaves: the loss, how many images are right, and what training changes itself."""

    loss: Array
    correct: Array
    others: list[Array]


class KerasTrainer:
    """See ``protocol.Trainer``."""

    def __init__(
        self,
        model: BuiltKerasModel,
        plain: BuiltKerasModel,
        architecture: Architecture,
        optimizer: Optimizer,
    ) -> None:
        self.architecture = architecture
        self.model = model
        self.plain = plain
        self.l2 = optimizer.l2
        self.watched = model.built.watched()
        self.variables: list[keras.Variable] = self.watched.trainable_variables
        self.others: list[keras.Variable] = self.watched.non_trainable_variables
        matrices = {id(matrix) for matrix in model.built.matrices()}
        self.matrices = [id(variable) in matrices for variable in self.variables]
        self.optimizer = keras.optimizers.AdamW(
            beta_1=0.9, beta_2=0.999, epsilon=1e-8, weight_decay=optimizer.decay
        )
        self.optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
        self.optimizer.build(self.variables)
        self._steps: dict[frozenset[str], Any] = {}

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """See ``protocol.Trainer``."""
        with on(self.model.device):
            self.optimizer.learning_rate.assign(learning_rate)
            given = self._given(batch)
            kind = frozenset(given)
            if kind not in self._steps:
                # Batches may be of any size.
                signature = {
                    name: tf.TensorSpec([None, *a.shape[1:]] if a.shape.rank else [], a.dtype)
                    for name, a in given.items()
                }
                self._steps[kind] = tf.function(
                    self._step, input_signature=[signature], autograph=False
                )
            loss, correct = self._steps[kind](given)
            return Step(float(loss), int(correct))

    def _given(self, batch: Batch) -> Given:
        asarray = self.model.asarray
        given = {"x": asarray(batch.x), "targets": asarray(batch.targets)}
        numbers: dict[str, float] = {}
        if batch.perturbed is not None:
            given["perturbed"] = asarray(batch.perturbed)
            name = "mart_lambda" if batch.mart_lambda else "trades_beta"
            numbers[name] = getattr(batch, name)
        for weight, names, pair in (
            ("align_lambda", ("aligned", "noisy"), batch.compared),
            ("certified_weight", ("lower", "upper"), batch.box(self.model.bounds)),
        ):
            if pair is not None:
                given |= {name: asarray(images) for name, images in zip(names, pair, strict=True)}
                numbers[weight] = getattr(batch, weight)
        if batch.weight_gamma:
            numbers["weight_gamma"] = batch.weight_gamma
        return given | {name: asarray(np.asarray(value)) for name, value in numbers.items()}

    def _step(self, given: Given) -> tuple[Array, Array]:
        held = [variable.value for variable in self.variables]
        with tf.GradientTape() as tape:
            first = self._pass(held, given)
            loss = first.loss + self._penalty(held)
        last = first
        if "weight_gamma" in given:
            moved = self._moved(held, tape.gradient(first.loss, held), given["weight_gamma"])
            with tf.GradientTape() as tape:
                tape.watch(moved)
                last = self._pass(moved, given)
                there = last.loss + self._penalty(moved)
            gradients = tape.gradient(there, moved)
        else:
            gradients = tape.gradient(loss, held)
        self.optimizer.apply(gradients, self.variables)
        for other, value in zip(self.others, last.others, strict=True):
            if value is not other.value:
                other.assign(value)
        return loss, first.correct

    def _penalty(self, weights: list[Array]) -> Array | float:
        if not self.l2:
            return 0.0
        pairs = zip(weights, self.matrices, strict=True)
        squares = [tf.reduce_sum(tf.square(weight)) for weight, is_matrix in pairs if is_matrix]
        return self.l2 * tf.add_n(squares)

    def _moved(self, held: list[Array], gradients: list[Array], gamma: Array) -> list[Array]:
        """The weights, matrices a share of their own length along the gradient."""
        moved = []
        for value, gradient, is_matrix in zip(held, gradients, self.matrices, strict=True):
            weight = tf.convert_to_tensor(value)
            if is_matrix:
                share = gamma * tf.norm(weight)
                weight += gradient * tf.math.divide_no_nan(share, tf.norm(gradient))
            moved.append(weight)
        return moved

    def _pass(self, weights: list[Array], given: Given) -> _Passed:
        """A pass of a batch with some weights; statistics and generators are left alone."""
        net = self.watched
        before: list[Array] = [variable.value for variable in self.others]
        others = before

        def ask(x: Array) -> dict[str, Array]:
            nonlocal others
            found, others = net.stateless_call(weights, others, x, training=True)
            return dict(found)

        targets, passed = given["targets"], ask(given["x"])
        logits = passed["logits"]
        if "mart_lambda" in given:
            loss = mart(logits, ask(given["perturbed"])["logits"], targets, given["mart_lambda"])
        else:
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, logits))
        if "trades_beta" in given:
            theirs = tf.nn.log_softmax(ask(given["perturbed"])["logits"])
            divergence = _divergence(tf.nn.log_softmax(logits), theirs)
            loss += given["trades_beta"] * tf.reduce_mean(divergence)
        if "align_lambda" in given:

            def infer(x: Array) -> Array:
                return net.stateless_call(weights, before, x, training=False)[0]["logits"]

            apart = misalignment(infer, given["aligned"], given["noisy"], targets)
            loss += given["align_lambda"] * apart
        if "certified_weight" in given:
            share = given["certified_weight"]
            held = {id(v): w for v, w in zip(self.variables, weights, strict=True)}
            held |= {id(v): w for v, w in zip(self.others, before, strict=True)}
            folded = self.model.built.folded(held, passed)
            loss = (1 - share) * loss + share * self._certified(folded, given)
        hits = tf.equal(tf.argmax(logits, axis=1), tf.argmax(targets, axis=1))
        return _Passed(loss, tf.reduce_sum(tf.cast(hits, tf.int64)), others)

    def _certified(self, weights: Mapping[str, tuple[Array, Array]], given: Given) -> Array:
        """The mean certified loss of a batch."""
        targets, box = given["targets"], (given["lower"], given["upper"])
        least = margins(self.architecture, weights, box, tf.argmax(targets, axis=1))
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(targets, -least))

    def weights(self) -> dict[str, FloatArray]:
        """See ``protocol.Trainer``."""
        return self.model.weights()

    def inference(self, weights: Weights) -> BuiltKerasModel:
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


def mart(logits: Array, perturbed: Array, targets: Array, weight: Array) -> Array:
    """The mean loss of MART (Wang et al. 2020, eq. 11); see ``Batch``.

    Args:
        logits: Of the images, (n, k).
        perturbed: Of their perturbed versions, (n, k).
        targets: A distribution over the classes per image, (n, k).
        weight: Its λ.
    """
    true = _likely(targets)
    rival = _likely(tf.where(true, perturbed.dtype.min, perturbed))
    boosted = tf.nn.softmax_cross_entropy_with_logits(targets, perturbed)
    boosted += tf.reduce_logsumexp(perturbed, axis=1) - _without(rival, perturbed)
    ours = tf.nn.log_softmax(logits)
    # Of the other classes, for the difference to one is rounded where the network is sure.
    doubt = tf.reduce_sum(tf.where(true, 0.0, tf.exp(ours)), axis=1)
    divergence = _divergence(ours, tf.nn.log_softmax(perturbed))
    return tf.reduce_mean(boosted + weight * divergence * doubt)


def misalignment(
    logits_of: Callable[[Array], Array], first: Array, second: Array, targets: Array
) -> Array:
    """One less the cosine of the loss's gradients at two sets of images, the mean over these."""
    true = _likely(targets)
    ours, theirs = (_ascent(logits_of, images, true) for images in (first, second))
    lengths = [tf.reduce_sum(tf.square(side), axis=1) for side in (ours, theirs)]
    alive = (lengths[0] > 0) & (lengths[1] > 0)
    # Roots of zeros would have no derivative, and zero times that is no number.
    safe = [tf.sqrt(tf.where(alive, length, 1.0)) for length in lengths]
    cosines = tf.reduce_sum(ours * theirs, axis=1) / (safe[0] * safe[1])
    return tf.reduce_mean(tf.where(alive, 1 - cosines, 0.0))


def _ascent(logits_of: Callable[[Array], Array], x: Array, true: Array) -> Array:
    """Gradients of the log-odds against the true classes: (n, numbers of an image)."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        logits = logits_of(x)
        odds = _without(true, logits) - tf.reduce_sum(tf.where(true, logits, 0.0), axis=1)
    return tf.reshape(tape.gradient(odds, x), [tf.shape(x)[0], -1])


def _likely(scores: Array) -> Array:
    """Which class of each image has the largest score: a mask (n, k)."""
    largest = tf.argmax(scores, axis=1)
    return tf.one_hot(largest, scores.shape[1], on_value=True, off_value=False, dtype=tf.bool)


def _without(left_out: Array, logits: Array) -> Array:
    """Logarithm of the sum of the exponentials of logits but for those of a mask, (n,)."""
    return tf.reduce_logsumexp(tf.where(left_out, logits.dtype.min, logits), axis=1)


def _divergence(ours: Array, theirs: Array) -> Array:
    """KL(ours || theirs) of each image, (n,), from logarithms of probabilities (n, k)."""
    return tf.reduce_sum(tf.exp(ours) * (ours - theirs), axis=1)
