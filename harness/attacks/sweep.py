"""An attack at every epsilon, in batches: each adversarial image is checked, and counted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import MeasurementError, Unanswered
from harness.maths.calls import count_of, in_calls
from harness.maths.norms import NORMS, rounding, rounding_of_length, written
from harness.maths.pieces import Place, copied, pieces, room_for, taken_home
from harness.maths.portions import limit_of, portions
from harness.maths.query import (
    NO_LABEL,
    Predictions,
    batch_size_for,
    correct_count,
    joined,
    together,
    voted,
)
from harness.protocol import (
    Array,
    Attack,
    FloatArray,
    Images,
    IntArray,
    Model,
    NormName,
    Objective,
    differentiable,
)

NOTHING: Any = object()
"""In place of a batch or an epsilon that is lacking; an attack may return None for a batch."""


@dataclass(frozen=True)
class Attacked:
    """What a model says of n images attacked at one epsilon.

    Attributes:
        epsilon: Radius in pixel units.
        predictions: Predictions on the adversarial images.
        kept: The adversarial images that were asked for, (m, *shape).
        forwards: Forward passes that the attack took of an image for this epsilon, the mean of the
            images that are answered. What serves several epsilons counts at the first of them, and
            an image on which the attack succeeds early is asked less often. That the harness asks
            the model of the final images itself does not count: no attack can do without.
        backwards: Backward passes likewise. A gradient takes one of each.
    """

    epsilon: float
    predictions: Predictions
    kept: FloatArray
    forwards: float
    backwards: float


@dataclass(frozen=True)
class Swept:
    """What came of an attack on some consecutive images, n, at e epsilons, before it is counted.

    Attributes:
        labels: Predicted labels, (e, n) int32; ``NO_LABEL`` of an image that is not answered.
        confidence: Softmax probability of the predicted class, (e, n) float32; 0 likewise.
        kept: The adversarial images that were asked for, (e, m, *shape).
        passes: Of how many images the attack took a forward and a backward pass, (e, 2) int64.
        moved: Whether any image was changed.
        why: Why an image is not answered; empty if all are.
    """

    labels: npt.NDArray[np.int32]
    confidence: npt.NDArray[np.float32]
    kept: FloatArray
    passes: npt.NDArray[np.int64]
    moved: bool
    why: str = ""

    @classmethod
    def nothing(cls, x: Images, epsilons: int, keep: Sequence[int], why: str) -> Swept:
        """Of images (n, *shape) of which none is answered."""
        count, clean = len(x), np.asarray(x[list(keep)])
        return cls(
            np.full((epsilons, count), NO_LABEL, np.int32),
            np.zeros((epsilons, count), np.float32),
            np.broadcast_to(clean, (epsilons, *clean.shape)).copy(),
            np.zeros((epsilons, 2), np.int64),
            moved=False,
            why=why,
        )


def sweep(
    model: Model,
    attack: Attack,
    x: Images,
    y: IntArray,
    epsilons: Sequence[float],
    *,
    keep: Sequence[int] = (),
    batch_size: int | None = None,
) -> list[Attacked]:
    """Attack n images at every epsilon, and read the model's predictions.

    Args:
        model: The classifier under attack.
        attack: What perturbs; it sees the true labels.
        x: Clean images, (n, *shape) within ``model.bounds``.
        y: True labels, (n,) integers.
        epsilons: Increasing radii in pixel units.
        keep: Positions of images whose adversarial versions are returned.
        batch_size: Images per call of the attack; by default as many as memory allows.

    Returns:
        One result per epsilon, in order. An image on which a query is not answered has no label at
        any of them.

    Raises:
        MeasurementError: The model lacks what the attack requires, an adversarial image leaves the
            ball or the box or is not finite, no image is changed though some are right, a logit is
            not finite, or the attack yields another number of batches than there are epsilons; or
            no image is answered.
    """
    part = swept(model, attack, x, y, epsilons, keep=keep, batch_size=batch_size)
    return attacked([part], attack.name, y, epsilons)


def swept(
    model: Model,
    attack: Attack,
    x: Images,
    y: IntArray,
    epsilons: Sequence[float],
    *,
    keep: Sequence[int] = (),
    batch_size: int | None = None,
    first: int = 0,
) -> Swept:
    """Attack n of the test images at every epsilon; what comes of it is counted by ``attacked``.

    Arguments and errors are those of ``sweep``; ``first`` is the place of the first of these images
    among all, by which each image's random numbers are drawn: a test set can be attacked in parts.
    """
    lacking = sorted(attack.requires - model.capabilities)
    if lacking:
        why = "" if getattr(model, "outputs", "") != "probabilities" else ": it gives probabilities"
        needs = ", ".join(lacking)
        raise MeasurementError(f"{attack.name} needs {needs}, which the model lacks{why}")
    tried = _Tried(model, attack, x, y, epsilons, frozenset(keep), first)
    size = batch_size or batch_size_for(model, x)
    found = list(portions(model, x, size, tried.on))
    # Of an image that is not answered the clean one is kept.
    places = {at: number for number, (part, _) in enumerate(found) for at in _inside(part, keep)}
    rows = [together([_at(portion, e) for _, portion in found]) for e in range(len(epsilons))]
    kept = [_kept(found[places[at]][1], e, at, x) for e in range(len(epsilons)) for at in keep]
    answered = [portion for _, portion in found if isinstance(portion, _Portion)]
    passes = np.zeros((len(epsilons), 2), np.int64)
    for portion in answered:
        passes += np.asarray(portion.passes)
    return Swept(
        np.stack([row.labels for row in rows]),
        np.stack([row.confidence for row in rows]),
        np.array(kept).reshape(len(epsilons), len(keep), *x.shape[1:]),
        passes,
        moved=any(portion.moved for portion in answered),
        why=rows[0].why,
    )


def attacked(
    parts: Sequence[Swept], name: str, y: IntArray, epsilons: Sequence[float]
) -> list[Attacked]:
    """What a model says of all images, of which each part attacked some.

    Args:
        parts: The parts, in the order of their images.
        name: Of the attack.
        y: True labels of all, (n,).
        epsilons: Those of the sweep.

    Raises:
        MeasurementError: No image is changed though some are right, or none is answered.
    """
    results = []
    for index, epsilon in enumerate(epsilons):
        predictions = joined(
            [Predictions(part.labels[index], part.confidence[index], part.why) for part in parts]
        )
        kept = np.concatenate([part.kept[index] for part in parts])
        images = max(1, int(predictions.answered.sum()))
        forwards, backwards = np.sum([part.passes[index] for part in parts], axis=0) / images
        results.append(Attacked(epsilon, predictions, kept, float(forwards), float(backwards)))
    moved = not any(epsilons) or any(part.moved for part in parts)
    # Where no image was right, there may have been nothing to attack.
    if not moved and any(correct_count(result.predictions, y) for result in results):
        raise MeasurementError(f"{name} changed no image; are the gradients zero?")
    return results


@dataclass(frozen=True)
class _Portion:
    """What came of some images: for each epsilon the predictions, and images by their place.

    Attributes:
        passes: Images of which the attack took a forward pass, and a backward pass, likewise.
    """

    predictions: list[Predictions]
    kept: list[dict[int, FloatArray]]
    passes: list[tuple[int, int]]
    moved: bool


@dataclass(frozen=True)
class _Tried:
    """An attack that can be made on any portion of the images; see ``sweep``.

    Attacks draw each image's random numbers by its place, so the portions do not matter.
    """

    model: Model
    attack: Attack
    x: Images
    y: IntArray
    epsilons: Sequence[float]
    keep: frozenset[int]
    first: int

    def on(self, part: slice) -> _Portion:
        """The attack on some of the images."""
        model, attack = self.model, self.attack
        clean = np.asarray(self.x[part])
        images = model.asarray(clean)
        # Copies, so that an attack that works in place does not move what it is checked against,
        # nor the labels that are counted by.
        given = copied(Place.of(model, images), images)
        labels = model.asarray(self.y[part].copy())
        places = np.arange(part.start, part.stop) + self.first
        asked = Remembering(model, images, given)
        perturbed = attack.perturb(asked, given, labels, list(self.epsilons), index=places)
        _require_batches(attack, perturbed)
        made, inside = iter(perturbed), _inside(part, self.keep)
        found = [
            self._next(made, epsilon, asked, images, part, inside) for epsilon in self.epsilons
        ]
        if next(made, NOTHING) is not NOTHING:
            raise MeasurementError(self._other_number())
        predictions, kept, passes, distances = map(list, zip(*found, strict=True))
        return _Portion(predictions, kept, passes, any(distance > 0 for distance in distances))

    def _next(
        self, made: Iterator[Array], epsilon: float, asked: Remembering, images: Array,
        part: slice, inside: list[int],
    ) -> tuple[Predictions, dict[int, FloatArray], tuple[int, int], float]:  # fmt: skip
        """The next batch that the attack yields, which is gone before it makes another."""
        model, adversarial = self.model, next(made, NOTHING)
        if adversarial is NOTHING:
            raise MeasurementError(self._other_number())
        passes = asked.taken()
        distance = check_perturbation(model, images, adversarial, epsilon, self.attack.norm)
        predictions = voted(model, adversarial, asked.clean if distance == 0 else None)
        examples: dict[int, FloatArray] = {}
        if inside:
            rows = np.array([at - part.start for at in inside])
            # Copies, should the attack go on in the same memory.
            examples = dict(zip(inside, taken_home(model, adversarial, rows), strict=True))
        return predictions, examples, passes, distance

    def _other_number(self) -> str:
        return f"{self.attack.name} yields other than one batch per epsilon"


def _inside(part: slice, places: Iterable[int]) -> list[int]:
    return [at for at in places if part.start <= at < part.stop]


def _at(portion: _Portion | Unanswered, index: int) -> Predictions | Unanswered:
    """The predictions at the epsilon of that number."""
    return portion if isinstance(portion, Unanswered) else portion.predictions[index]


def _kept(portion: _Portion | Unanswered, index: int, at: int, x: Images) -> FloatArray:
    """An image as the attack left it at that epsilon; as it is, if it is not answered."""
    return np.asarray(x[at]) if isinstance(portion, Unanswered) else portion.kept[index][at]


class Remembering:
    """A model that counts what an attack asks, and keeps what it said of the clean images.

    Most attacks ask for that, and at ε = 0 return the images as they were: then nobody need ask
    again.

    Args:
        model: What is asked.
        images: The clean images, (n, *shape).
        given: The copy of them that the attack works on.
    """

    def __init__(self, model: Model, images: Array, given: Array) -> None:
        self._model, self._images, self._given = model, images, given
        self.clean: FloatArray | None = None
        self._forwards = self._backwards = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property
    def batch_size(self) -> int | None:
        """How many images the model takes at a time, also where that has only turned out."""
        said: int | None = getattr(self._model, "batch_size", None)
        known = limit_of(self._model, np.empty((0, *self._images.shape[1:]), np.float32))
        return min((size for size in (said, known) if size is not None), default=None)

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        (logits,) = in_calls(self._model, lambda part: (self._model.logits(part),), x)
        self._forwards += count_of(x)
        self._keep(x, logits)
        return logits

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``."""
        model = differentiable(self._model)
        logits, gradient = in_calls(
            model, lambda part, true: model.logits_and_gradient(part, true, objective), x, y
        )
        self._forwards += count_of(x)
        self._backwards += count_of(x)
        self._keep(x, logits)
        return logits, gradient

    def taken(self) -> tuple[int, int]:
        """Of how many images a forward and a backward pass were taken since the last call."""
        taken, self._forwards, self._backwards = (self._forwards, self._backwards), 0, 0
        return taken

    def _keep(self, x: Array, logits: Array) -> None:
        # By now the attack may have worked on its copy in place.
        if x is self._given and self.clean is None:
            pairs = pieces(self._model, x, self._images)
            if all(bool(xp.all(given == image)) for xp, given, image in pairs):
                self.clean = np.array(self._model.numpy(logits))  # an attack may write to its own


def check_perturbation(
    model: Model, x: Array, adversarial: Array, epsilon: float, norm: NormName = "linf"
) -> float:
    """Require adversarial images to be finite, in the ball around x, and in the box.

    This is the one place where that is asserted, for every attack and backend.

    Returns:
        The largest distance of an image from its original.

    Raises:
        MeasurementError: They are not; the message says by how much.
    """
    (low, high), measure = model.bounds, NORMS[norm]
    require_images(model, x, adversarial)
    if tuple(adversarial.shape) != tuple(x.shape):
        raise MeasurementError(
            f"the attack returned shape {tuple(adversarial.shape)} for {tuple(x.shape)}"
        )
    slack = rounding(model.bounds)
    distance, lowest, highest = _spans(model, x, adversarial, norm)
    # Both are NaN if any pixel is, in every framework.
    if not math.isfinite(lowest + highest):
        raise MeasurementError("an adversarial image holds NaN or infinity")
    if distance > epsilon + rounding_of_length(norm, epsilon, model.bounds):
        raise MeasurementError(
            f"an adversarial image is {distance:.6g} from its original, outside the "
            f"{measure.label} ball of radius {written(epsilon)}"
        )
    if lowest < low - slack or highest > high + slack:
        raise MeasurementError(
            f"adversarial pixels span [{lowest:.6g}, {highest:.6g}], outside the box "
            f"[{low:g}, {high:g}]"
        )
    return distance


def require_images(model: Model, x: Array, adversarial: Any) -> None:
    """Require what an attack returned to be an array of the kind that it was given.

    Raises:
        MeasurementError: It is a list, say, or an array of NumPy's for a torch network.
    """
    if isinstance(adversarial, type(x)):
        return
    try:
        _ = tuple(adversarial.shape), model.numpy(adversarial)
    except Exception as error:
        raise MeasurementError(
            f"the attack returned {_kind(adversarial)} where one array of images is needed, of "
            f"the kind it was given: {_kind(x)} of the shape {tuple(x.shape)}"
        ) from error


def _kind(thing: Any) -> str:
    """What an object is, with the package it comes from."""
    if thing is None:
        return "None"
    kind, package = type(thing).__qualname__, type(thing).__module__.partition(".")[0]
    return kind if package == "builtins" else f"{package}.{kind}"


def _require_batches(attack: Attack, perturbed: Any) -> None:
    if not isinstance(perturbed, Iterable):
        raise MeasurementError(
            f"{attack.name} returned {_kind(perturbed)}, not a batch of images per epsilon"
        )


def _spans(
    model: Model, x: Array, adversarial: Array, norm: NormName
) -> tuple[float, float, float]:
    """The largest distance of an image from its original, and the lowest and the highest pixel."""
    spans, room = [], None
    for xp, clean, found in pieces(model, x, adversarial):
        if xp is np:
            # In the same memory for all pieces, which is still in the cache.
            room = room_for(found) if room is None else room
            change = np.subtract(found, clean, out=room[: len(found)])
        else:
            change = found - clean
        longest = NORMS[norm].longest(xp, change)
        spans.append([float(end) for end in (longest, xp.min(found), xp.max(found))])
    # By NumPy, in whose maxima and minima NaN wins.
    distances, lows, highs = np.transpose(spans)
    return float(distances.max()), float(lows.min()), float(highs.max())
