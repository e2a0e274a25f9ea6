"""What the checks compare a model with: built once, when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import numpy as np

from harness import registry
from harness.checks.sanity.evidence import Cascade, Compared, Variants
from harness.checks.sanity.randomised import RELABELLED, cascade, learn_random_labels
from harness.data.dataset import Part
from harness.errors import NotApplicable
from harness.maths.around import prepared, rewrapped
from harness.maths.query import logits_of
from harness.networks.initial import initial_weights
from harness.protocol import Copies, FloatArray, Model, Network, Optimizer, Weights, Wrapping


class References(Protocol):
    """Models of the network of another. Each may raise ``NotApplicable``, with the reason."""

    @property
    def exact(self) -> Model:
        """The network in float64, in its own backend."""

    @property
    def oracle(self) -> Model:
        """The network in float64, in NumPy."""

    @property
    def variants(self) -> Compared:
        """Models that know less than this one."""


class BuiltReferences:
    """Models of a network that the harness has built, with its weights or with others.

    Args:
        backend: Name of the backend that built the model.
        network: Its network.
        how: How that is asked.
        images: Training images, (n, *shape), for a model that learns random labels.
        seed: Of all that is random.
    """

    def __init__(
        self, backend: str, network: Network, how: Wrapping, images: FloatArray, seed: int
    ) -> None:
        self._backend, self._network, self._how = backend, network, how
        self._images, self._seed = images, seed

    @cached_property
    def exact(self) -> Model:
        """See ``References``."""
        return self._in_float64(self._backend, self._how)

    @cached_property
    def oracle(self) -> Model:
        """See ``References``."""
        return self._in_float64("numpy", Wrapping(self._how.bounds))

    @cached_property
    def variants(self) -> Variants:
        """See ``References``; the last is trained, in a second or so."""
        made = registry.builder(self._backend)
        architecture, seed = self._network.architecture, self._seed

        def built(weights: Weights) -> Model:
            return made.build(Network(architecture, weights), self._how)

        first, second, third = (initial_weights(architecture, [seed, salt]) for salt in (1, 2, 3))
        trainer = made.trainer(Network(architecture, third), self._how, Optimizer(), seed=seed)
        learn_random_labels(trainer, self._images, architecture.classes, seed)
        layers = tuple(built(weights) for weights in cascade(self._network.weights, first))
        relabelled = built(trainer.weights())
        return Variants(layers, built(second), relabelled, self.exact, self.oracle)

    def _in_float64(self, backend: str, how: Wrapping) -> Model:
        return registry.builder(backend).build(self._network, how, dtype="float64")


class CopiedReferences:
    """Copies of a user's own network.

    Args:
        model: Its model, with all that is in front of it.
        copies: Makes the copies.
        train: Training images, where there are some.
        seed: Of all that is random.
    """

    def __init__(self, model: Model, copies: Copies, train: Part | None, seed: int) -> None:
        self._model, self._copies, self._train, self._seed = model, copies, train, seed

    @property
    def variants(self) -> CopiedReferences:
        """See ``References``."""
        return self

    @cached_property
    def exact(self) -> Model:
        """See ``References``."""
        return rewrapped(self._model, self._copies.float64())

    @cached_property
    def oracle(self) -> Model:
        """See ``References``.

        Raises:
            NotApplicable: NumPy builds no network that the harness does not know.
        """
        make = getattr(self._copies, "oracle", None)
        if make is None:
            raise NotApplicable("NumPy builds networks that the harness trains, and no others")
        return rewrapped(self._model, make())

    @cached_property
    def cascade(self) -> Cascade:
        """With the last stage of layers random, the last two, and so on; made one at a time."""
        return _Stages(self._model, self._copies, self._seed)

    @cached_property
    def random(self) -> Model:
        """With all layers random at once, by another draw."""
        copies = self._copies
        return rewrapped(self._model, copies.randomised(copies.stages(), self._seed + 1))

    @cached_property
    def random_labels(self) -> Model:
        """Trained, from random weights, on random labels.

        Raises:
            NotApplicable: There are no training images, or the network cannot be trained.
        """
        if self._train is None:
            raise NotApplicable("there are no training images to learn random labels from")
        learner = self._copies.learner(self._seed)
        images = np.asarray(self._train.x[:RELABELLED])
        classes = logits_of(self._model, images[:1]).shape[1]
        learn_random_labels(learner, prepared(self._model, images), classes, self._seed)
        return rewrapped(self._model, learner.model)


class _Stages:
    """The cascade, whose models are large and so are not kept."""

    def __init__(self, model: Model, copies: Copies, seed: int) -> None:
        self._model, self._copies, self._seed = model, copies, seed

    def __len__(self) -> int:
        return self._copies.stages()

    def __iter__(self) -> Iterator[Model]:
        for stages in range(1, len(self) + 1):
            yield rewrapped(self._model, self._copies.randomised(stages, self._seed))
