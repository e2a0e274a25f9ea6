"""One loaded model, asked of a few images: predicted, attacked, explained, smallest epsilon.

The numbers are those of the suites, because the code is: ``sweep``, ``explain`` and ``minimal``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.attacks.minimal import along_gradient, by_search, searches
from harness.attacks.sweep import sweep
from harness.errors import HarnessError, MeasurementError, gist, one_line, unknown
from harness.maths.around import Around, why_no_gradient
from harness.maths.channels import channel_axis_of
from harness.maths.norms import NORMS, rounding
from harness.maths.query import logits_of, predictions_of
from harness.protocol import (
    GRADIENT,
    Array,
    Attack,
    BoolArray,
    Bounds,
    FloatArray,
    IntArray,
    Model,
    Objective,
)
from harness.saliency.maps import pixel_scores, top_pixels
from harness.saliency.methods import METHODS, explain
from harness.serve.caps import capped

CLIMBERS = ("fgsm", "pgd")
"""The attacks by which smallest epsilons are looked for, as in a spec's ``minimal``."""


NAMED = 80
"""Letters of a name that are looked at to say which was meant."""


class Misfit(Exception):  # noqa: N818  # it is an answer to a request
    """A request that is well-formed, but not for this model; the message is one sentence."""


class NoSuchName(Misfit):
    """A request that names what no model has; the message is one sentence."""


@dataclass(frozen=True)
class Predicted:
    """What a model says of one image.

    Attributes:
        logits: (k,).
        probabilities: Their softmax, (k,) float64.
        label: The predicted label.
    """

    logits: FloatArray
    probabilities: FloatArray
    label: int

    @classmethod
    def of(cls, logits: FloatArray) -> Predicted:
        """What finite logits (k,) say."""
        odds = np.exp(logits.astype(np.float64) - logits.max())
        return cls(logits, odds / odds.sum(), int(logits.argmax()))


@dataclass(frozen=True)
class Attacked:
    """An attack on one image.

    Attributes:
        label: The label that the attack leads away from.
        clean: What the model says of the image as it is.
        adversarial: What it says of the adversarial image.
        image: The adversarial image, in the shape of an image.
        perturbation: The adversarial image less the clean one, likewise.
        distance: Length of the perturbation in the attack's norm, in pixel units.
    """

    label: int
    clean: Predicted
    adversarial: Predicted
    image: FloatArray
    perturbation: FloatArray
    distance: float

    @property
    def misclassified(self) -> bool:
        """Whether the adversarial image is taken for another class than its label."""
        return self.adversarial.label != self.label


@dataclass(frozen=True)
class Explained:
    """A saliency map of one image.

    Attributes:
        label: The class that is explained.
        map: Signed, in the shape of an image.
        scores: Absolute values, summed over the channels, (height, width).
        mask: The most salient pixels, (height, width).
    """

    label: int
    map: FloatArray
    scores: FloatArray
    mask: BoolArray


class Watched(Around):
    """A model that looks before each query whether anybody still waits for the answer.

    Attributes:
        look: Called before each query; what it raises ends the work.
    """

    def __init__(self, inner: Model, look: Callable[[], None] = lambda: None) -> None:
        super().__init__(inner)
        self.look = look

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        self.look()
        return self.inner.logits(x)

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``."""
        self.look()
        return super().logits_and_gradient(x, y, objective)

    def around(self, inner: Model) -> Model:
        """See ``harness.maths.around.Around``."""
        return Watched(inner, self.look)


@dataclass(frozen=True)
class About:
    """What is told of a model beside what it is asked.

    Attributes:
        data: Name of the dataset whose images it takes, or None.
        accuracy: Of its stored run: clean, and under attacks as (epsilon, accuracy) by name; None
            where no run is known.
        parameters: How many numbers have been trained; None where that is not known.
        recipe: How it was trained, or None.
        adversarial: Whether it was trained on perturbed images.
        epsilon_unit: Epsilons are shown in this part of a pixel unit; None for the unit itself.
    """

    data: str | None = None
    accuracy: Mapping[str, Any] | None = None
    parameters: int | None = None
    recipe: str | None = None
    adversarial: bool = False
    epsilon_unit: float | None = None


@dataclass(eq=False)
class Live:
    """One loaded model, asked of a few images at a time; not by two threads at once.

    Args:
        name: What it is called, unlike any other of the server.
        backend: Name of its backend.
        model: The model.
        shape: Of one image.
        classes: Name of each class; numbers if empty.
        attacks: By name; those that need what the model lacks are left out.
        top: Share of the pixels that a mask has if nobody says another.
        about: What else is told of it.
        dtype: In which images are given to it: float32, or float64 if its data are.

    Attributes:
        refused: Of each attack that is left out, why, in one sentence.

    Raises:
        MeasurementError: The model does not take images of this shape.
    """

    name: str
    backend: str
    model: Model
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    attacks: Mapping[str, Attack]
    top: float = 0.15
    about: About = field(default_factory=About)
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.float32))

    def __post_init__(self) -> None:
        """Ask the model once, which tells its classes, and leave out what it cannot do."""
        self.model = self.watched = Watched(self.model)
        low, high = self.bounds
        grey = np.full((1, *self.shape), (low + high) / 2, self.dtype)
        try:
            count = logits_of(self.model, grey).shape[1]
        except Exception as error:  # somebody's model raises what it likes
            why = str(error) if isinstance(error, HarnessError) else gist(error)
            raise MeasurementError(
                one_line(f"{self.name} cannot be asked about images of shape {self.shape}: {why}")
            ) from error
        if not self.classes:
            self.classes = tuple(str(label) for label in range(count))
        if len(self.classes) != count:
            raise MeasurementError(
                f"{self.name} has {count} classes, but its data name {len(self.classes)}"
            )
        self.refused: dict[str, str] = {}
        able: dict[str, Attack] = {}
        for name, attack in self.attacks.items():
            lacking = ", ".join(sorted(attack.requires - self.model.capabilities))
            if lacking:
                self.refused[name] = f"{name} needs {lacking}, which {self.name} does not give"
                self.refused[name] += why_no_gradient(self.model)
            else:
                able[name] = capped(attack)
        self.attacks = able

    @property
    def bounds(self) -> Bounds:
        """Lowest and highest pixel value."""
        low, high = self.model.bounds
        return float(low), float(high)

    @property
    def channel_axis(self) -> int | None:
        """Axis of one image that holds its channels; None if none does."""
        return channel_axis_of(self.model, self.shape)

    @property
    def plane(self) -> tuple[int, int]:
        """Height and width of an image."""
        return plane_of(self.shape, self.channel_axis)

    @property
    def methods(self) -> tuple[str, ...]:
        """The saliency methods that explain this model; none of a black box."""
        return tuple(METHODS) if GRADIENT in self.model.capabilities else ()

    @property
    def climbers(self) -> tuple[str, ...]:
        """The attacks by which its smallest epsilons are looked for."""
        return tuple(name for name in CLIMBERS if name in self.attacks)

    def longest(self, attack: str) -> float:
        """The largest epsilon that makes sense: what leads from any image to any other."""
        low, high = self.bounds
        pixels = 1 if self.attacks[attack].norm == "linf" else math.prod(self.shape)
        return (high - low) * math.sqrt(pixels)

    def predicted(self, images: FloatArray) -> list[Predicted]:
        """What the model says of images (n, *shape) within the bounds."""
        return [Predicted.of(row) for row in logits_of(self.model, images)]

    def attacked(
        self, images: FloatArray, labels: Sequence[int] | None, attack: str, epsilon: float
    ) -> list[Attacked]:
        """Images under an attack, as ``harness evaluate`` attacks these images.

        Random numbers of an attack are drawn by the place of an image among them.

        Args:
            images: (n, *shape) within the bounds.
            labels: What the attack leads away from, (n,); the predicted labels if None.
            attack: Name of one of ``attacks``.
            epsilon: Radius in pixel units.

        Raises:
            NoSuchName: There is no such attack.
            Misfit: The model has no such label or epsilon, or lacks what the attack needs.
            MeasurementError: The attack cannot be measured, as where gradients have vanished.
        """
        chosen = self._attack(attack)
        if not 0 <= epsilon <= self.longest(attack):
            raise Misfit(
                f"epsilon: {epsilon:g} is not from 0 to {self.longest(attack):g}, the largest "
                f"{NORMS[chosen.norm].label} distance of two images of {self.name}"
            )
        if epsilon < rounding(self.bounds):  # it would be lost in the pixels' own rounding
            epsilon = 0.0
        clean = self.predicted(images)
        y = self._labels([one.label for one in clean] if labels is None else labels, images)
        (found,) = sweep(self.model, chosen, images, y, [epsilon], keep=range(len(images)))
        adversarial = self.predicted(found.kept)
        changes = found.kept - images
        lengths = NORMS[chosen.norm].length(np, changes.astype(np.float64))
        return [
            Attacked(int(label), before, after, image, change, float(length))
            for label, before, after, image, change, length in zip(
                y, clean, adversarial, found.kept, changes, lengths, strict=True
            )
        ]

    def explained(
        self, images: FloatArray, labels: Sequence[int] | None, method: str, top: float | None
    ) -> list[Explained]:
        """Saliency maps of images.

        Args:
            images: (n, *shape) within the bounds.
            labels: The classes that are explained, (n,); the predicted ones if None.
            method: Name of a saliency method.
            top: Share of the pixels in the mask, in (0, 1]; that of the model's spec if None.

        Raises:
            NoSuchName: There is no such method.
            Misfit: The model gives no gradient, or has no such label.
            MeasurementError: A map says nothing, because the gradient has vanished.
        """
        if method not in METHODS:
            raise NoSuchName(f"method: {unknown(method[:NAMED], 'method', METHODS)}")
        self._require_gradient(method)
        y = self._labels(labels, images)
        maps = explain(self.model, images, y, method)
        scores = pixel_scores(maps, self.channel_axis)
        plane = (len(images), *self.plane)
        masks = top_pixels(scores, self.top if top is None else top).reshape(plane)
        return [
            Explained(int(label), one, score, mask)
            for label, one, score, mask in zip(
                y, maps, scores.reshape(plane), masks, strict=True
            )
        ]  # fmt: skip

    def smallest(
        self, images: FloatArray, labels: Sequence[int] | None, attack: str, limit: float | None
    ) -> tuple[IntArray, FloatArray, float]:
        """The smallest epsilon at which each image is misclassified, as ``minimal`` of a spec.

        Args:
            images: (n, *shape) within the bounds.
            labels: Their labels, (n,); the predicted ones if None.
            attack: One of ``CLIMBERS``.
            limit: The largest epsilon that is tried, in pixel units; all of the range if None.

        Returns:
            The labels, (n,); the epsilons, (n,), infinite where none misclassifies; and the limit.

        Raises:
            NoSuchName: There is no such attack.
            Misfit: The model gives no gradient, or has no such label or limit.
        """
        if attack not in CLIMBERS:
            raise NoSuchName(f"attack: {unknown(attack[:NAMED], 'attack', CLIMBERS)}")
        chosen = self._attack(attack)
        low, high = self.bounds
        limit = high - low if limit is None else limit
        if not rounding(self.bounds) <= limit <= high - low:
            raise Misfit(
                f"limit: {limit:g} is not from {rounding(self.bounds):g} to {high - low:g}, the "
                f"range of the pixels of {self.name}"
            )
        y = self._labels(labels, images)
        if searches(chosen):
            found = by_search(self.model, chosen, images, y, limit)
        else:
            found = along_gradient(self.model, images, y, limit)
        return y, found.epsilons, limit

    def _attack(self, name: str) -> Attack:
        if name in self.refused:
            raise Misfit(self.refused[name])
        if name not in self.attacks:
            raise NoSuchName(f"attack: {unknown(name[:NAMED], 'attack', self.attacks)}")
        return self.attacks[name]

    def _require_gradient(self, what: str) -> None:
        if GRADIENT not in self.model.capabilities:
            raise Misfit(
                f"{what} needs {GRADIENT}, which {self.name} does not give"
                f"{why_no_gradient(self.model)}"
            )

    def _labels(self, labels: Sequence[int] | None, images: FloatArray) -> IntArray:
        """The labels that are meant, (n,) int64: the predicted ones if None."""
        if labels is None:
            return predictions_of(self.model, images).labels.astype(np.int64)
        if len(labels) != len(images):
            raise Misfit(f"labels: there are {len(labels)}, but {len(images)} images")
        if wrong := [one for one in labels if not 0 <= one < len(self.classes)]:
            raise Misfit(f"labels: {wrong[0]} is none of the classes 0 to {len(self.classes) - 1}")
        return np.array(labels, dtype=np.int64)


def plane_of(shape: tuple[int, ...], channel_axis: int | None) -> tuple[int, int]:
    """Height and width of an image; of a flat one those of a square, or else one row."""
    sides = [side for axis, side in enumerate(shape) if axis != channel_axis]
    if len(sides) == 2:
        return sides[0], sides[1]
    pixels = math.prod(sides)
    side = math.isqrt(pixels)
    return (side, side) if side * side == pixels else (1, pixels)
