"""Accuracy on the images as they are and under attack, and the smallest epsilons."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

import numpy as np

from harness.attacks.minimal import Searching, SmallestEpsilons, along_gradient, by_search
from harness.attacks.sweep import Attacked, sweep
from harness.errors import NotApplicable, Unanswered
from harness.evaluation.examples import Examples
from harness.maths.adaptive import is_randomised
from harness.maths.around import why_no_gradient
from harness.maths.outputs import kind_of
from harness.maths.query import (
    Predictions,
    answered_predictions,
    answers_of,
    correct_count,
    predictions_of,
)
from harness.protocol import (
    Attack,
    Images,
    IntArray,
    Model,
    NormName,
    goals_of,
    is_targeted,
)
from harness.results import keys
from harness.results.judge import CLEAN
from harness.results.recorder import Recorder
from harness.results.records import Record
from harness.spec.measures import MinimalSpec

EXTREMES = 6
"""How many of the most fragile images, and of the most robust, are kept."""
SIGNED = 64
"""Images by whose logits a model is identified."""


class Attacking:
    """Measurements that attack a model.

    Whatever a model or an attack raises becomes a record with status ``error`` and the reason, so
    that the other measurements of the run are kept.

    Args:
        model: The model under test.
        x: Test images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,) integers.
        examples: Those of them that are kept.
        recorder: Takes what is measured.
    """

    def __init__(
        self, model: Model, x: Images, y: IntArray, examples: Examples, recorder: Recorder
    ) -> None:
        self.model, self.x, self.y = model, x, y
        self.examples, self.recorder = examples, recorder

    def clean(self) -> Record:
        """Accuracy on the images as they are."""
        try:
            return self._counted(CLEAN, self._clean)
        except Exception as error:
            return self.recorder.broken(CLEAN, error)

    def clean_labels(self) -> IntArray | None:
        """The labels, (n,), that clean accuracy counts; None if it cannot be measured.

        As everywhere, ``query.NO_LABEL`` is of an image that the model did not answer.
        """
        try:
            return self._clean.labels
        except Exception:  # the record of clean accuracy says what it was
            return None

    def attacked_labels(self, attack: Attack, epsilon: float) -> IntArray | None:
        """The labels that were counted under an attack, (m,); None if they were not measured."""
        return self.recorder.kept(keys.predictions(attack.name, epsilon))

    def attacked(
        self, attack: Attack, epsilons: Sequence[float], images: int | None = None
    ) -> list[Record]:
        """Accuracy under an attack of the first images (or all), a record per epsilon.

        If the attack aims at a class of each image, the records' values are its success: of the
        images that are of another class, the share that is classified as that class.
        """
        x, y, recorder = self.x[:images], self.y[:images], self.recorder
        kept = self.examples.index[self.examples.index < len(x)]
        try:
            _require(self.model, attack.requires, attack.name)
            _ = self._clean  # epsilon 0 is judged beside it
            goals = None
            if is_targeted(attack):
                # What is not answered is classified as no goal.
                logits = np.nan_to_num(answers_of(self.model, x).logits)
                goals = goals_of(attack, logits, y.copy())
                _require_others(attack, goals, y)
            with recorder.timed(attack.name, len(x), len(epsilons)):
                results = sweep(self.model, attack, x, y, epsilons, keep=kept.tolist())
        except Exception as error:
            return [recorder.broken(attack.name, error, e, attack.norm) for e in epsilons]
        records, pictured = [], self.examples.pictured(epsilons)
        for result in results:
            predictions, epsilon = result.predictions, result.epsilon
            recorder.keep(keys.predictions(attack.name, epsilon), predictions.labels)
            if len(kept) == len(self.examples.index):
                name = keys.at(attack.name, epsilon)
                if epsilon in pictured:
                    recorder.keep_pictures(keys.example(name), result.kept)
                recorder.keep(keys.example(name, "confidence"), predictions.confidence[kept])
            hits = None
            if goals is not None and (aimed := predictions.answered & (goals != y)).any():
                hits = float(np.mean(predictions.labels[aimed] == goals[aimed]))
            records.append(self._counted(attack.name, predictions, result, attack.norm, hits))
        return records

    def smallest_epsilon(self, method: str, settings: MinimalSpec, attack: Attack) -> Record:
        """The median of the smallest epsilons that misclassify each of the first images."""
        check = keys.smallest(method)
        x, y = self.x[: settings.images], self.y[: settings.images]
        try:
            _require(self.model, attack.requires, check)
            with self.recorder.timed(check, len(x)):
                if isinstance(attack, Searching):
                    smallest = by_search(self.model, attack, x, y, settings.limit)
                else:
                    smallest = along_gradient(self.model, x, y, settings.limit)
            self._keep_extremes(method, smallest)
        except Exception as error:
            return self.recorder.broken(check, error)
        found = smallest.epsilons
        self.recorder.keep(check, found)
        # Of an even number the lower middle one: the mean of two may be infinite.
        median = float(np.quantile(found, 0.5, method="lower"))
        return self.recorder.valued(check, median, norm="linf")

    @cached_property
    def _clean(self) -> Predictions:
        recorder = self.recorder
        with recorder.timed(CLEAN, len(self.x)):
            predictions = answered_predictions(self.model, self.x)
        recorder.keep(keys.predictions(CLEAN), predictions.labels)
        if not is_randomised(self.model):  # whose logits tell it from no other
            self._keep_signature()
        confidence = predictions.confidence[self.examples.index]
        recorder.keep(keys.example(CLEAN, "confidence"), confidence)
        return predictions

    def _keep_signature(self) -> None:
        with suppress(Unanswered):  # none of the first images is answered
            logits = answers_of(self.model, self.x[:SIGNED]).logits
            signature = logits.max(axis=1) - logits.mean(axis=1)
            self.recorder.keep(keys.SIGNATURE, signature.astype(np.float32))

    def _keep_extremes(self, method: str, smallest: SmallestEpsilons) -> None:
        """The most fragile and most robust images of those not misclassified as they are."""
        order = np.argsort(smallest.epsilons, kind="stable")
        order = order[smallest.epsilons[order] > 0]
        room = self.examples.extremes
        count = min(EXTREMES, len(order) // 2, max(1, room))
        index = np.concatenate([order[:count], order[len(order) - count :]])
        if not len(index):
            return
        images = smallest.images[index]
        labels = predictions_of(self.model, images).labels
        self.recorder.keep(keys.extremes(method, "index"), index.astype(np.int64))
        self.recorder.keep(keys.extremes(method, "labels"), labels)
        if room:
            self.recorder.keep_pictures(keys.extremes(method, "clean"), self.x[index])
            self.recorder.keep_pictures(keys.extremes(method, "adversarial"), images)

    def _counted(
        self,
        check: str,
        predictions: Predictions,
        attacked: Attacked | None = None,
        norm: NormName | None = None,
        value: float | None = None,
    ) -> Record:
        count = len(predictions.labels)
        correct, total = correct_count(predictions, self.y[:count]), int(predictions.answered.sum())
        epsilon = forwards = backwards = None
        if attacked is not None:
            epsilon = attacked.epsilon
            forwards, backwards = attacked.forwards, attacked.backwards
        record = self.recorder.counted(
            check, correct, total, epsilon, norm=norm, value=value,
            forwards=forwards, backwards=backwards,
        )  # fmt: skip
        if predictions.why:
            record = self.recorder.put(record.judged("measured", predictions.unanswered))
        return record


def _require_others(attack: Attack, goals: IntArray | None, y: IntArray) -> None:
    """Require images that are not yet of the class that an attack aims at.

    Raises:
        NotApplicable: There are none.
    """
    if goals is not None and len(y) and (goals == y).all():
        raise NotApplicable(f"{attack.name} aims at the class that every image has already")


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
