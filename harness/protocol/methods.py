"""What is done with a model, written once for all backends: attacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from harness.protocol.model import Array, IntArray, Model, NormName


class Attack(Protocol):
    """Written once, for all backends, over ``model.xp``."""

    @property
    def name(self) -> str:
        """What the records call it."""

    @property
    def norm(self) -> NormName:
        """The norm that bounds the perturbation."""

    @property
    def requires(self) -> frozenset[str]:
        """The capabilities of a model that it needs."""

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch in the shape of x per epsilon, in that order.

        Args:
            model: The classifier under attack.
            x: Clean images within ``model.bounds``.
            y: Their true labels, (n,) int64, also for attacks that aim at other classes: those
                choose their aims themselves, so the two cannot be mixed up.
            epsilons: Increasing radii in pixel units, each ≥ 0.
            index: Positions of the images in their dataset, (n,). An attack that draws random
                numbers draws each image's own by it, so that batches do not matter.
        """
