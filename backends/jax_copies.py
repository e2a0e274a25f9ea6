"""Copies of a user's network of JAX, with which checks compare it: the same function, other arrays.

Copies are in inference mode throughout: whether a function drops or normalises by batches is not
written in its arrays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from backends.jax_training import adam, cross_entropy
from backends.jax_wrapped import STATISTICS, JaxModel, words_of
from harness.errors import MeasurementError, NotApplicable, gist
from harness.protocol import Array, Batch, Step

STAGES = 8
"""Groups of layers, at most, that become random one after another."""
ZERO = ("b", "bias", "beta", "offset", "shift", "mean", "running_mean", "alpha")
"""Last names of vectors that are zero before any training; others are one."""
OUT_FIRST = ("weight",)
"""Last names of arrays whose first axis is that of outputs; of others the last is."""
CLOSE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 0.3}
"""How far, relative to the largest, logits in a precision may be off those in float64."""


class JaxCopies:
    """See ``protocol.Copies``. A layer is what has its arrays side by side in the tree.

    Layers come in the order in which the network uses them, where one image has been seen, else in
    that of the tree. One that has vectors alone, as norms do, goes with the layer before it.
    """

    def __init__(self, model: JaxModel) -> None:
        self._model = model
        leaves = jax.tree.leaves_with_path(model.held)
        self._paths = [words_of(path) for path, _ in leaves]
        self._leaves = [leaf for _, leaf in leaves]

    def stages(self) -> int:
        """See ``protocol.Copies``."""
        return len(self._stages())

    def float64(self) -> JaxModel:
        """See ``protocol.Copies``."""
        self._require_arrays()
        with jax.enable_x64(True):
            held = self._with({
                place: leaf.astype(jnp.float64)
                for place, leaf in enumerate(self._leaves) if _is_float(leaf)
            })  # fmt: skip
        copy = self._model.like(held)
        shape = self._model.image_shape
        if shape is None:
            raise NotApplicable("it is not known which shape its images have")
        images = np.random.default_rng(0).uniform(*self._model.bounds, (2, *shape))
        try:
            theirs = copy.logits(images)
        except Exception as error:  # whatever the function raises
            raise NotApplicable(f"no copy of it in float64 can be made: {gist(error)}") from error
        if theirs.dtype != np.float64 or _narrows(copy.graph(shape)):
            raise NotApplicable("parts of it compute in a precision that they set themselves")
        ours = self._model.logits(self._model.asarray(images))
        allowed = CLOSE.get(str(self._model.entry), 1e-3) * max(1e-6, float(np.abs(ours).max()))
        if not np.allclose(theirs, ours, rtol=0, atol=allowed):
            raise NotApplicable("its copy in float64 answers otherwise")
        return copy

    def randomised(self, stages: int, seed: int) -> JaxModel:
        """See ``protocol.Copies``; of the same seed, more stages hold the same arrays and more."""
        found = self._stages()
        chosen = {place for stage in found[max(0, len(found) - stages) :] for place in stage}
        return self._model.like(self._with({
            place: jnp.asarray(self._fresh(place, seed), self._leaves[place].dtype)
            for place in chosen
        }))  # fmt: skip

    def learner(self, seed: int) -> JaxLearner:
        """See ``protocol.Copies``."""
        learning = [
            place for place, leaf in enumerate(self._leaves)
            if _is_float(leaf) and self._last(place) not in STATISTICS
        ]  # fmt: skip
        model = self.randomised(self.stages(), seed)
        return JaxLearner(model.like(jax.tree.map(_at_least_single, model.held)), learning)

    def _stages(self) -> list[list[int]]:
        """Places of the arrays of each stage, from input to output."""
        self._require_arrays()
        layers: dict[tuple[str, ...], list[int]] = {}
        for place in self._in_order():
            layers.setdefault(self._paths[place][:-1], []).append(place)
        units: list[list[int]] = []
        for places in layers.values():
            if units and all(self._leaves[place].ndim < 2 for place in places):
                units[-1] += places
            else:
                units.append(places)
        count = min(STAGES, len(units))
        # From the output back, so that what does not divide evenly is with the input.
        ends = [len(units) - len(units) * back // count for back in range(count, -1, -1)]
        parts = [units[low:high] for low, high in pairwise(ends)]
        return [[place for unit in part for place in unit] for part in parts]

    def _in_order(self) -> list[int]:
        """Places of the arrays of floats, in the order in which they are first used."""
        places = [place for place, leaf in enumerate(self._leaves) if _is_float(leaf)]
        used = [place for place in self._used() if place in places]
        return list(dict.fromkeys([*used, *places]))

    def _used(self) -> list[int]:
        shape = self._model.image_shape
        if shape is None:
            return []
        try:
            graph = self._model.graph(shape)
        except Exception:  # what is wrong with the network, a measurement says
            return []
        named = {v: place for place, v in enumerate(graph.invars[: len(self._leaves)])}
        return list(dict.fromkeys(_reads(graph, named)))

    def _fresh(self, place: int, seed: int) -> npt.NDArray[Any]:
        """A random value: normal, of the variance of Glorot and Bengio (2010), of matrices.

        Means and biases are 0, and other vectors 1, lest they shut off what they scale; vectors
        without a name are taken for biases.
        """
        shape, last = self._leaves[place].shape, self._last(place)
        if len(shape) < 2:
            zero = last in ZERO or last.isdigit()
            return np.zeros(shape) if zero else np.ones(shape)
        ends = shape[:2] if last in OUT_FIRST else shape[-2:]
        field = math.prod(shape) / max(1, math.prod(ends))
        deviation = math.sqrt(2 / max(1.0, field * sum(ends)))
        return np.random.default_rng([seed, place]).normal(0, deviation, shape)

    def _last(self, place: int) -> str:
        return self._paths[place][-1] if self._paths[place] else "0"

    def _with(self, others: Mapping[int, Array]) -> Any:
        """The tree with other arrays in some of its places."""
        leaves = [others.get(place, leaf) for place, leaf in enumerate(self._leaves)]
        return jax.tree.unflatten(jax.tree.structure(self._model.held), leaves)

    def _require_arrays(self) -> None:
        if not any(_is_float(leaf) for leaf in self._leaves):
            raise NotApplicable(
                "the network has no arrays that a copy could change: they are constants of its "
                "function; pass (apply, params)"
            )


class JaxLearner:
    """See ``protocol.Learner``: Adam on the cross-entropy, in float32 at least."""

    def __init__(self, model: JaxModel, learning: list[int]) -> None:
        self.model, self.learning = model, learning
        values = {str(place): jax.tree.leaves(model.held)[place] for place in learning}
        self._zeros = {name: jnp.zeros_like(value) for name, value in values.items()}
        self._means, self._squares, self._steps = self._zeros, self._zeros, 0
        self._compiled = jax.jit(self._step)

    def step(self, batch: Batch, learning_rate: float) -> Step:
        """See ``protocol.Learner``.

        Raises:
            MeasurementError: The targets are of another number of classes than the network has.
        """
        self._steps += 1
        with self.model.precision():
            self.model.held, self._means, self._squares, loss, right = self._compiled(
                self.model.held, self._means, self._squares, self.model.asarray(batch.x),
                self.model.asarray(batch.targets), np.asarray(learning_rate, self.model.dtype),
                np.int32(self._steps),
            )  # fmt: skip
            return Step(float(loss), int(right))

    def _step(
        self, held: Any, means: Any, squares: Any, x: Array, targets: Array, rate: Array,
        steps: Array,
    ) -> tuple[Any, ...]:  # fmt: skip
        leaves, shape = jax.tree.flatten(held)
        values = {str(place): leaves[place] for place in self.learning}

        def rebuilt(values: Any) -> Any:
            return jax.tree.unflatten(
                shape, [values.get(str(place), leaf) for place, leaf in enumerate(leaves)]
            )

        def loss_of(values: Any) -> tuple[Array, Array]:
            logits = self.model.compiled.answer(rebuilt(values), x)
            if logits.shape[1] != targets.shape[1]:
                raise MeasurementError(
                    f"the network has {logits.shape[1]} classes, and the labels are of "
                    f"{targets.shape[1]}"
                )
            return cross_entropy(jax.nn.log_softmax(logits), targets), logits

        (loss, logits), gradients = jax.value_and_grad(loss_of, has_aux=True)(values)
        values, means, squares = adam(values, gradients, means, squares, rate, steps)
        right = jnp.sum(logits.argmax(1) == targets.argmax(1))
        return rebuilt(values), means, squares, loss, right


def _at_least_single(leaf: Array) -> Array:
    """Floats of half precision as float32, in which steps of Adam are not rounded away."""
    return leaf.astype(jnp.float32) if _is_float(leaf) and leaf.dtype.itemsize < 4 else leaf


def _is_float(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jnp.floating))


def _narrows(graph: Any) -> bool:
    """Whether a graph makes floats of less than float64."""
    for step in graph.eqns:
        made = [v.aval for v in step.outvars if hasattr(v.aval, "dtype")]
        if any(_is_float(value) and value.dtype != jnp.float64 for value in made):
            return True
        if any(map(_narrows, filter(None, map(_inner, step.params.values())))):
            return True
    return False


def _reads(graph: Any, named: Mapping[Any, int]) -> Iterator[int]:
    """Places of the arrays that a graph reads, in its order; with what functions in it read."""
    for step in graph.eqns:
        given = [None if hasattr(v, "val") else named.get(v) for v in step.invars]
        for inner in map(_inner, step.params.values()):
            if inner is not None and len(inner.invars) == len(given):
                pairs = zip(inner.invars, given, strict=True)
                yield from _reads(inner, {v: place for v, place in pairs if place is not None})
                break
        else:
            yield from (place for place in given if place is not None)


def _inner(value: Any) -> Any:
    """The graph of a function that a step calls; None of anything else."""
    found = getattr(value, "jaxpr", value)
    return found if hasattr(found, "eqns") else None
