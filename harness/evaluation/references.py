"""What the checks compare a model with, where its network is known: built once, when asked for."""

from __future__ import annotations

from functools import cached_property

from harness import registry
from harness.checks.sanity.evidence import Twins
from harness.checks.sanity.randomised import cascade, taught_random_labels
from harness.networks.initial import initial_weights
from harness.protocol import Architecture, Bounds, FloatArray, Model, Penalties, Weights


class References:
    """Models of the network of another, with its weights or with others.

    Args:
        backend: Name of the backend that built the model.
        architecture: Its network.
        weights: Its weights under neutral names.
        bounds: Lowest and highest pixel value.
        images: Training images, (n, *shape), for a model that learns random labels.
        seed: Of all that is random.
    """

    def __init__(
        self,
        backend: str,
        architecture: Architecture,
        weights: Weights,
        bounds: Bounds,
        images: FloatArray,
        seed: int,
    ) -> None:
        self._backend, self._architecture, self._weights = backend, architecture, weights
        self._bounds, self._images, self._seed = bounds, images, seed

    @cached_property
    def exact(self) -> Model:
        """The network in float64, in its own backend."""
        return self._in_float64(self._backend)

    @cached_property
    def oracle(self) -> Model:
        """The network in float64, in NumPy."""
        return self._in_float64("numpy")

    @cached_property
    def twins(self) -> Twins:
        """Models that know less than this one; the last is trained, in a second or so."""
        made = registry.backend(self._backend)
        architecture, seed = self._architecture, self._seed
        first, second, third = (initial_weights(architecture, [seed, salt]) for salt in (1, 2, 3))
        trainer = made.trainer(
            architecture, third, bounds=self._bounds, penalties=Penalties(), seed=seed
        )
        pupil = taught_random_labels(trainer, self._images, architecture.classes, seed)
        *random_layers, random, nonsense = (
            made.build(architecture, of, bounds=self._bounds)
            for of in (*cascade(self._weights, first), second, pupil)
        )
        return Twins(tuple(random_layers), random, nonsense, self.exact, self.oracle)

    def _in_float64(self, backend: str) -> Model:
        return registry.backend(backend).build(
            self._architecture, self._weights, bounds=self._bounds, dtype="float64"
        )
