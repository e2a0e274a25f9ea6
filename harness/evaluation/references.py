"""What the checks compare a model with, where its network is known: built once, when asked for."""

from __future__ import annotations

from functools import cached_property

from harness import registry
from harness.checks.sanity.evidence import Variants
from harness.checks.sanity.randomised import cascade, trained_on_random_labels
from harness.networks.initial import initial_weights
from harness.protocol import FloatArray, Model, Network, Optimizer, Weights, Wrapping


class References:
    """Models of the network of another, with its weights or with others.

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
        """The network in float64, in its own backend."""
        return self._in_float64(self._backend)

    @cached_property
    def oracle(self) -> Model:
        """The network in float64, in NumPy."""
        return self._in_float64("numpy")

    @cached_property
    def variants(self) -> Variants:
        """Models that know less than this one; the last is trained, in a second or so."""
        made = registry.builder(self._backend)
        architecture, seed = self._network.architecture, self._seed

        def built(weights: Weights) -> Model:
            return made.build(Network(architecture, weights), self._how)

        first, second, third = (initial_weights(architecture, [seed, salt]) for salt in (1, 2, 3))
        trainer = made.trainer(Network(architecture, third), self._how, Optimizer(), seed=seed)
        relabelled = trained_on_random_labels(trainer, self._images, architecture.classes, seed)
        layers = tuple(built(weights) for weights in cascade(self._network.weights, first))
        return Variants(layers, built(second), built(relabelled), self.exact, self.oracle)

    def _in_float64(self, backend: str) -> Model:
        return registry.builder(backend).build(self._network, self._how, dtype="float64")
