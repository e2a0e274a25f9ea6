"""What is done with a model, written once for all backends: attacks and certifiers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from harness.errors import MeasurementError
from harness.protocol.model import Array, BoolArray, FloatArray, IntArray, Model, NormName
from harness.protocol.network import Network


class Attack(Protocol):
    """Written once, for all backends, over ``model.xp``.

    ``goals`` and ``options`` may be absent: then it is untargeted, and its attributes are its
    options. A class that derives from this one has them.
    """

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

    def goals(self, logits: FloatArray, labels: IntArray) -> IntArray | None:
        """The class that each image is to be classified as, (n,); None if it is untargeted.

        Args:
            logits: What the model says of the clean images, (n, k).
            labels: Their true labels, (n,).
        """
        return None

    def options(self) -> dict[str, Any]:
        """All options by name, those that have their default too, without the name.

        They are numbers, strings, booleans, None, lists and mappings of these, and attacks where it
        runs others.
        """
        return {}


class Certifier(Protocol):
    """Proves that no image near another is classified otherwise; written once over ``model.xp``.

    ``options`` may be absent; a class that derives from this one has them.
    """

    @property
    def name(self) -> str:
        """What the records call it, after ``certified/``."""

    @property
    def norm(self) -> NormName:
        """The norm that bounds the perturbation."""

    def certified(
        self, network: Network, model: Model, x: Array, y: Array, epsilons: Sequence[float]
    ) -> Iterator[BoolArray]:
        """Which images are certified, (n,) NumPy booleans for each epsilon, in that order.

        True of an image says that no image within epsilon of it and within ``model.bounds`` is
        classified as another class than its label. False says nothing.

        Args:
            network: What the model computes.
            model: The classifier, for its arrays, its bounds and its precision.
            x: Images (n, *shape) within the bounds.
            y: Their true labels, (n,) int64.
            epsilons: Increasing radii in pixel units, each ≥ 0.

        Raises:
            NotApplicable: The network has a layer that it knows no bounds of; the message names it.
        """

    def options(self) -> dict[str, Any]:
        """All options by name, as ``Attack.options``."""
        return {}


def goals_of(attack: Attack, logits: FloatArray, labels: IntArray) -> IntArray | None:
    """``attack.goals(logits, labels)``; None, which is untargeted, of an attack without.

    Raises:
        MeasurementError: They are not one class of the model for each image.
    """
    said = _said(attack, logits, labels)
    if said is None:
        return None
    goals = np.asarray(said)
    if goals.shape != labels.shape or goals.dtype.kind not in "iu":
        raise MeasurementError(
            f"the goals of {attack.name} are {goals.dtype} of shape {goals.shape}, not integers "
            f"of shape {labels.shape}"
        )
    if goals.size and (goals.min() < 0 or goals.max() >= logits.shape[1]):
        raise MeasurementError(
            f"the goals of {attack.name} span [{goals.min()}, {goals.max()}], but the model has "
            f"{logits.shape[1]} classes from 0"
        )
    return goals


def is_targeted(attack: Attack) -> bool:
    """Whether it aims at one class of each image; if it does of any image, it does of all."""
    try:
        return _said(attack, np.eye(10)[:1], np.zeros(1, dtype=np.int64)) is not None
    except Exception:  # a user's, made for more images or classes than these
        return True


def _said(attack: Attack, logits: FloatArray, labels: IntArray) -> Any:
    ask = getattr(attack, "goals", None)
    return ask(logits, labels) if callable(ask) else None
