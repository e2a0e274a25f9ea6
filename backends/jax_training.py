"""The trainer of the harness's own networks in JAX, and the losses of ``protocol.Batch``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from backends.jax_bounds import margins
from backends.jax_layers import Arrays, Training, folded, frozen_of, logits_of, norms_of
from backends.jax_wrapped import Compiled, JaxModel
from harness.protocol import (
    Architecture,
    Array,
    Batch,
    Bounds,
    FloatArray,
    Optimizer,
    Step,
    Weights,
    Wrapping,
    check_state,
)

Tree: TypeAlias = dict[str, Array]
DECAY, STABILISER = (0.9, 0.999), 1e-8
"""Of Adam: of the averages of gradients and of their squares, and what is added to the root."""


@lru_cache(maxsize=64)
def compiled(architecture: Architecture) -> Compiled:
    """The function of all networks of an architecture, without what only training has."""
    return Compiled(lambda weights, x: logits_of(architecture, weights, x))


class BuiltJaxModel(JaxModel):
    """A network that was built from an ``Architecture``, so its weights have neutral names."""

    def __init__(
        self, architecture: Architecture, weights: Weights, how: Wrapping, device: jax.Device,
        dtype: str = "float32",
    ) -> None:  # fmt: skip
        held = {name: np.array(value, dtype) for name, value in weights.items()}
        kind = "robustness-harness network"
        super().__init__(compiled(architecture.inference), held, how, kind, device)
        self.channel_axis = architecture.channel_axis
        self.names = list(architecture.weight_shapes())  # JAX sorts them

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the weights under neutral names."""
        return {name: np.array(self.held[name]) for name in self.names}

    def set_weights(self, weights: Weights) -> None:
        """Put other weights in their place."""
        self.hold({name: np.array(weights[name], self.dtype) for name in self.names})


@dataclass(frozen=True)
class Losses:
    """The loss of a batch, and a step of AdamW on it, as functions of arrays alone.

    Attributes:
        architecture: With its dropout and batch normalisations.
        optimizer: How steps are made.
        kinds: What of a ``Batch`` there is: ``trades``, ``mart``, ``moved``, ``aligned``,
            ``certified``.
    """

    architecture: Architecture
    optimizer: Optimizer
    kinds: frozenset[str]

    def step(self, held: dict[str, Tree], batch: Tree, rate: Array, key: Array) -> Any:
        """What a step makes of all that learns, the loss before it, and how many were right.

        The key is the training's; each step's own follows from its number.
        """
        learning, fixed, statistics = held["learning"], held["fixed"], held["statistics"]
        key = jax.random.fold_in(key, held["steps"]["steps"])
        steps = held["steps"]["steps"] + 1
        loss_of = partial(self._loss, fixed=fixed, statistics=statistics, batch=batch, key=key)
        found = jax.value_and_grad(self._penalised(loss_of), has_aux=True)
        (loss, (logits, statistics)), gradients = found(learning)
        if "moved" in self.kinds:
            aside = self._moved(learning, jax.grad(loss_of, has_aux=True)(learning)[0], batch)
            (_, (_, statistics)), gradients = found(aside)
        right = jnp.sum(logits.argmax(1) == batch["targets"].argmax(1))
        moments = held["means"], held["squares"]
        made = adam(learning, gradients, *moments, rate, steps, self.optimizer.decay)
        after = dict(zip(("learning", "means", "squares"), made, strict=True)) | {
            "fixed": fixed, "statistics": statistics, "steps": {"steps": steps},
        }  # fmt: skip
        return after, loss, right

    def _penalised(self, loss_of: Any) -> Any:
        def penalised(learning: Tree) -> Any:
            loss, beside = loss_of(learning)
            if self.optimizer.l2:
                squares = [jnp.sum(v * v) for v in learning.values() if v.ndim >= 2]
                loss = loss + self.optimizer.l2 * sum(squares)
            return loss, beside

        return penalised

    def _loss(
        self, learning: Tree, fixed: Tree, statistics: Tree, batch: Tree, key: Array
    ) -> tuple[Array, tuple[Array, Tree]]:
        """The mean loss without penalty; and logits, and the running statistics afterwards."""
        norms = {name: value for name, value in learning.items() if is_norm(name)}
        weights = fixed | {name: v for name, v in learning.items() if not is_norm(name)}
        first = Training(norms, jax.random.fold_in(key, 0), dict(statistics))
        logits = logits_of(self.architecture, weights, batch["x"], first)
        targets, ours = batch["targets"], jax.nn.log_softmax(logits)
        loss, after = cross_entropy(ours, targets), first.statistics
        if self.kinds & {"trades", "mart"}:
            second = Training(norms, jax.random.fold_in(key, 1), dict(after))
            perturbed = logits_of(self.architecture, weights, batch["perturbed"], second)
            after = second.statistics
            if "mart" in self.kinds:
                loss = _mart(logits, perturbed, targets, batch["mart"])
            else:
                apart = jnp.exp(ours) * (ours - jax.nn.log_softmax(perturbed))
                loss += batch["trades"] * apart.sum(1).mean()
        if "aligned" in self.kinds:
            plain = folded(weights, norms, statistics)
            loss += batch["align"] * self._misalignment(plain, batch)
        if "certified" in self.kinds:
            plain = folded(weights, norms, first.moments)
            box = batch["lower"], batch["upper"]
            least = margins(self.architecture, plain, box, targets.argmax(1))
            certified = cross_entropy(jax.nn.log_softmax(-least), targets)
            loss = (1 - batch["certified"]) * loss + batch["certified"] * certified
        return loss, (logits, after)

    def _misalignment(self, weights: Arrays, batch: Tree) -> Array:
        """One less the cosine of the loss's gradients at two sets of images, their mean.

        Along log-odds, which have the direction of the cross-entropy and do not vanish.
        """
        labels = batch["targets"].argmax(1)

        def odds(x: Array) -> Array:
            logits = logits_of(self.architecture.inference, weights, x)
            true = labels[:, None] == jnp.arange(logits.shape[1])
            others = jax.nn.logsumexp(jnp.where(true, -jnp.inf, logits), axis=1)
            return jnp.sum(others - jnp.sum(jnp.where(true, logits, 0), axis=1))

        ours, theirs = (
            jax.grad(odds)(batch[name]).reshape(len(labels), -1) for name in ("aligned", "noisy")
        )
        squares = jnp.stack([(ours * ours).sum(1), (theirs * theirs).sum(1)])
        alive = (squares > 0).all(0)
        # Roots of zeros would have no derivative, and zero times that is no number.
        lengths = jnp.sqrt(jnp.where(alive, squares, 1)).prod(0)
        return jnp.where(alive, 1 - (ours * theirs).sum(1) / lengths, 0).mean()

    def _moved(self, learning: Tree, gradients: Tree, batch: Tree) -> Tree:
        """Each matrix moved along its gradient, by a share of its L2 norm."""

        def moved(value: Array, gradient: Array) -> Array:
            if value.ndim < 2:
                return value
            length = jnp.linalg.norm(gradient.ravel())
            size = jnp.linalg.norm(value.ravel()) / jnp.where(length > 0, length, 1)
            return value + batch["gamma"] * size * gradient

        return {name: moved(value, gradients[name]) for name, value in learning.items()}


@lru_cache(maxsize=64)
def stepping(architecture: Architecture, optimizer: Optimizer, kinds: frozenset[str]) -> Any:
    """The compiled step of a loss."""
    return jax.jit(Losses(architecture, optimizer, kinds).step)


class JaxTrainer:
    """See ``protocol.Trainer``."""

    def __init__(
        self, architecture: Architecture, weights: Weights, how: Wrapping, device: jax.Device,
        optimizer: Optimizer, seed: int,
    ) -> None:  # fmt: skip
        self.architecture, self.optimizer, self.device = architecture, optimizer, device
        self._model = BuiltJaxModel(architecture, weights, how, device)
        self._plain = BuiltJaxModel(architecture, weights, how, device)
        self._key = jax.device_put(jax.random.key(seed, impl="threefry2x32"), device)
        self._stale = True
        self._held = self._placed(_at_first(architecture, weights))

    @property
    def model(self) -> BuiltJaxModel:
        """See ``protocol.Trainer``."""
        if self._stale:
            self._model.hold(self._folded)
            self._stale = False
        return self._model

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """See ``protocol.Trainer``."""
        kinds, given = _given(batch, self._model.bounds)
        step = stepping(self.architecture, self.optimizer, kinds)
        self._held, loss, right = step(self._held, given, np.float32(learning_rate), self._key)
        self._changed()
        return Step(float(loss), int(right))

    def weights(self) -> dict[str, FloatArray]:
        """See ``protocol.Trainer``."""
        return self.model.weights()

    def inference(self, weights: Weights) -> BuiltJaxModel:
        """See ``protocol.Trainer``."""
        self._plain.set_weights(weights)
        return self._plain

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """See ``protocol.Trainer``; the dropout masks of a step follow from its number."""
        return {
            f"{group}/{name}": np.array(value)
            for group, tree in self._held.items() for name, value in tree.items()
        }  # fmt: skip

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See ``protocol.Trainer``."""
        check_state(state, self.state())
        self._held = self._placed({
            group: {name: np.array(state[f"{group}/{name}"]) for name in tree}
            for group, tree in self._held.items()
        })  # fmt: skip
        self._changed()

    def _placed(self, held: dict[str, Any]) -> dict[str, Tree]:
        return jax.device_put(held, self.device)

    def _changed(self) -> None:
        self._stale = True
        self.__dict__.pop("_folded", None)

    @cached_property
    def _folded(self) -> Tree:
        learning = self._held["learning"]
        norms = {name: value for name, value in learning.items() if is_norm(name)}
        weights = {n: v for n, v in learning.items() if n not in norms} | self._held["fixed"]
        return _fold(weights, norms, self._held["statistics"])


_fold = jax.jit(folded)


def is_norm(name: str) -> bool:
    """Whether an array is of a batch normalisation."""
    return name.endswith((".scale", ".shift"))


def _at_first(architecture: Architecture, weights: Weights) -> dict[str, dict[str, Any]]:
    """All that a trainer holds, before its first step."""
    given = {name: np.array(value, np.float32) for name, value in weights.items()}
    frozen = frozen_of(architecture)
    learning = {name: value for name, value in given.items() if name not in frozen}
    statistics: dict[str, FloatArray] = {}
    for name, place in norms_of(architecture).items():
        ones = np.ones(place.before[:1], np.float32)
        learning |= {f"{name}.scale": ones, f"{name}.shift": 0 * ones}
        statistics |= {f"{name}.mean": 0 * ones, f"{name}.variance": ones}
    zeros = {name: np.zeros_like(value) for name, value in learning.items()}
    return {
        "learning": learning,
        "fixed": {name: given[name] for name in sorted(frozen)},
        "statistics": statistics,
        "means": zeros,
        "squares": zeros,
        "steps": {"steps": np.zeros((), np.int32)},
    }


def _given(batch: Batch, bounds: Bounds) -> tuple[frozenset[str], dict[str, Any]]:
    """What of a batch there is, and its arrays."""
    kinds: set[str] = set()
    given: dict[str, Any] = {"x": batch.x, "targets": batch.targets}
    if batch.perturbed is not None:
        given["perturbed"] = batch.perturbed
        kind, weight = ("mart", batch.mart_lambda) if batch.mart_lambda else (
            "trades", batch.trades_beta
        )  # fmt: skip
        kinds.add(kind)
        given[kind] = weight
    if (compared := batch.compared) is not None:
        kinds.add("aligned")
        given |= {"aligned": compared[0], "noisy": compared[1], "align": batch.align_lambda}
    if (box := batch.box(bounds)) is not None:
        kinds.add("certified")
        given |= {"lower": box[0], "upper": box[1], "certified": batch.certified_weight}
    if batch.weight_gamma:
        kinds.add("moved")
        given["gamma"] = batch.weight_gamma
    return frozenset(kinds), {name: np.asarray(v, np.float32) for name, v in given.items()}


def cross_entropy(logs: Array, targets: Array) -> Array:
    """Its mean, from logarithms of a softmax (n, k) and distributions."""
    return -(targets * logs).sum(1).mean()


def _mart(clean: Array, perturbed: Array, targets: Array, weight: Array) -> Array:
    """The mean loss of MART, from logits (n, k) of the images and of their perturbed versions."""
    classes = jnp.arange(clean.shape[1])
    true = targets.argmax(1)[:, None] == classes
    rival = jnp.where(true, -jnp.inf, perturbed).argmax(1)[:, None] == classes
    ours, theirs = jax.nn.log_softmax(clean), jax.nn.log_softmax(perturbed)
    # log(1 - q) as that of the sum of the others, which is not rounded where q is near 1.
    without = jax.nn.logsumexp(jnp.where(rival, -jnp.inf, theirs), axis=1)
    odds = jnp.exp(ours)
    divergence = (odds * (ours - theirs)).sum(1)
    doubt = jnp.where(true, 0, odds).sum(1)
    loss = cross_entropy(theirs, targets) - without.mean()
    return loss + weight * (divergence * doubt).mean()


def adam(
    values: Tree, gradients: Tree, means: Tree, squares: Tree, rate: Array, steps: Array,
    decay: float = 0.0,
) -> tuple[Tree, Tree, Tree]:  # fmt: skip
    """What a step of that number, from 1, makes of values and of both averages of gradients."""
    first, second = DECAY
    made: Tree = {}
    after = dict(means), dict(squares)
    # 1 - d^steps, without the rounding of a power that is near 1.
    scales = [-jnp.expm1(steps.astype(rate.dtype) * math.log(d)) for d in DECAY]
    for name, value in values.items():
        gradient = gradients[name]
        after[0][name] = mean = first * means[name] + (1 - first) * gradient
        after[1][name] = square = second * squares[name] + (1 - second) * gradient * gradient
        root = jnp.sqrt(square / scales[1]) + STABILISER
        shrunk = value * (1 - rate * decay) if decay and value.ndim >= 2 else value
        made[name] = (shrunk - rate * (mean / scales[0]) / root).astype(value.dtype)
    return made, *after
