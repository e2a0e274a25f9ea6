"""Parts of the test images given to a model: as they are, attacked, certified, moved the least."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from harness.attacks.minimal import along_gradient, by_search, searches
from harness.attacks.sweep import Swept, swept
from harness.certification import certify
from harness.errors import NotApplicable, Unanswered
from harness.evaluation.examples import Examples
from harness.evaluation.models import LoadedModel
from harness.evaluation.parts import AttackedPart, CertifiedPart, CleanPart, SmallestPart
from harness.maths.adaptive import is_randomised
from harness.maths.around import why_no_gradient
from harness.maths.outputs import kind_of
from harness.maths.query import (
    NO_LABEL,
    NOTHING_ANSWERED,
    Predictions,
    answered_predictions,
    answers_of,
    predictions_of,
)
from harness.protocol import (
    Attack,
    Certifier,
    Images,
    IntArray,
    Model,
    goals_of,
    is_targeted,
)
from harness.spec.measures import MinimalSpec

EXTREMES = 6
"""How many of the most fragile images, and of the most robust, are kept."""
SIGNED = 64
"""Images by whose logits a model is identified."""


class Asking:
    """Measurements of parts of the test images, which ``Counting`` makes records of.

    What a model or an attack raises is raised.

    Args:
        loaded: The model under test.
        x: Test images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,) integers.
        examples: Those of them that are kept.
    """

    def __init__(self, loaded: LoadedModel, x: Images, y: IntArray, examples: Examples) -> None:
        self.loaded, self.model = loaded, loaded.model
        self.x, self.y, self.examples = x, y, examples

    def clean(self, part: slice) -> CleanPart:
        """Predictions on some of the images as they are."""
        begin = time.perf_counter()
        try:
            found = answered_predictions(self.model, self.x[part])
        except Unanswered as error:
            count = self._still(part, error)
            found = Predictions(
                np.full(count, NO_LABEL, np.int32), np.zeros(count, np.float32), _why(error)
            )
        seconds = time.perf_counter() - begin
        signature = None
        # Nothing tells the logits of a random model from those of another.
        if part.start == 0 and not is_randomised(self.model):
            with suppress(Unanswered):  # none of the first images is answered
                logits = answers_of(self.model, self.x[:SIGNED]).logits
                signature = (logits.max(axis=1) - logits.mean(axis=1)).astype(np.float32)
        return CleanPart(found.labels, found.confidence, signature, found.why, seconds)

    def attacked(self, attack: Attack, epsilons: Sequence[float], part: slice) -> AttackedPart:
        """An attack on some of the images, at every epsilon."""
        x, y = self.x[part], self.y[part]
        keep = [int(at) - part.start for at in self.examples.index if _within(part, at)]
        try:
            return attacked_part(self.model, attack, x, y, epsilons, keep, part.start)
        except Unanswered as error:
            self._still(part, error)
            found = Swept.nothing(x, len(epsilons), keep, _why(error))
        goals = np.full(len(y), NO_LABEL) if is_targeted(attack) else None
        return AttackedPart(found, goals, 0.0)

    def certified(
        self, certifier: Certifier, epsilons: Sequence[float], part: slice
    ) -> CertifiedPart:
        """Which of some of the images a certifier certifies, at every epsilon."""
        begin, loaded = time.perf_counter(), self.loaded
        x, y = self.x[part], self.y[part]
        found = certify(certifier, loaded.network, loaded.model, x, y, list(epsilons))
        return CertifiedPart(np.stack(list(found)), time.perf_counter() - begin)

    def smallest(
        self, attack: Attack, settings: MinimalSpec, check: str, part: slice
    ) -> SmallestPart:
        """The smallest epsilons that misclassify each of some of the images."""
        _require(self.model, attack.requires, check)
        begin, x, y = time.perf_counter(), self.x[part], self.y[part]
        if searches(attack):
            found = by_search(self.model, attack, x, y, settings.limit, first=part.start)
        else:
            found = along_gradient(self.model, x, y, settings.limit)
        seconds = time.perf_counter() - begin
        # Of those that are extreme among all, each is among these of its own part.
        order = rising(found.epsilons)
        chosen = np.union1d(order[:EXTREMES], order[-EXTREMES:])
        images = found.images[chosen]
        labels = np.zeros(0, np.int32)
        if len(chosen):
            labels = predictions_of(self.model, images).labels
        return SmallestPart(found.epsilons, chosen + part.start, images, labels, seconds)

    def _still(self, part: slice, error: Unanswered) -> int:
        """How many images of a part are not answered; where there is no other part, it is raised.

        Raises:
            Unanswered: They are all that there are.
        """
        count = int(part.stop - part.start)
        if count == len(self.y):
            raise error
        return count


def attacked_part(
    model: Model,
    attack: Attack,
    x: Images,
    y: IntArray,
    epsilons: Sequence[float],
    keep: Sequence[int],
    first: int = 0,
) -> AttackedPart:
    """An attack on images (n, *shape) with their true labels (n,), at every epsilon.

    Args:
        model: The model under attack.
        attack: What perturbs them.
        x: The images.
        y: The labels.
        epsilons: Rising radii in pixel units.
        keep: Positions of images whose adversarial versions are returned.
        first: Place of the first of the images among all.

    Raises:
        NotApplicable: The model lacks what the attack requires.
        Unanswered: No image is answered.
        MeasurementError: As in ``sweep``.
    """
    _require(model, attack.requires, attack.name)
    goals = None
    if is_targeted(attack):
        # What is not answered is classified as no goal.
        logits = np.nan_to_num(answers_of(model, x).logits)
        goals = goals_of(attack, logits, y.copy())
    begin = time.perf_counter()
    found = swept(model, attack, x, y, epsilons, keep=keep, first=first)
    return AttackedPart(found, goals, time.perf_counter() - begin)


def rising(epsilons: np.ndarray) -> IntArray:
    """Positions of the images that are not misclassified as they are, the most fragile first."""
    order = np.argsort(epsilons, kind="stable")
    return np.asarray(order[epsilons[order] > 0])


def _within(part: slice, at: int) -> bool:
    return bool(part.start <= at < part.stop)


def _why(error: Unanswered) -> str:
    return str(error).removeprefix(NOTHING_ANSWERED)


def _require(model: Model, needed: frozenset[str], what: str) -> None:
    """Require what an attack needs of a model.

    Raises:
        NotApplicable: The model lacks it.
    """
    lacking = ", ".join(sorted(needed - model.capabilities))
    if lacking:
        why = "it gives probabilities" if kind_of(model) == "probabilities" else "a black box"
        why += why_no_gradient(model)
        raise NotApplicable(
            f"{what} needs {lacking}, which the model lacks ({why}); square, hopskipjump, transfer "
            "and noise need none"
        )
