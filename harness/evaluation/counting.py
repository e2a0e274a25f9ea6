"""What came of parts of the test images becomes records and arrays; no model is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from harness.attacks.sweep import Attacked, attacked
from harness.checks.validity import Certificate
from harness.errors import NotApplicable
from harness.evaluation.asking import EXTREMES, rising
from harness.evaluation.examples import Examples
from harness.evaluation.parts import AttackedPart, CertifiedPart, CleanPart, SmallestPart
from harness.maths.query import Predictions, correct_count, joined
from harness.protocol import Attack, Certifier, Images, IntArray, NormName
from harness.results import keys
from harness.results.judge import CLEAN
from harness.results.recorder import Broken, Recorder
from harness.results.records import Record

P = TypeVar("P")
T = TypeVar("T")


class Counting:
    """Records of what ``Asking`` found, of one model.

    A measurement of which a part could not be made becomes records with status ``error`` or
    ``skipped``, and the reason.

    Args:
        x: Test images, (n, *shape).
        y: Their true labels, (n,) integers.
        examples: Those of them that are kept.
        recorder: Takes what is counted.

    Attributes:
        predicted: The predictions that clean accuracy counts, once they are taken; or why there are
            none.
    """

    def __init__(self, x: Images, y: IntArray, examples: Examples, recorder: Recorder) -> None:
        self.x, self.y, self.examples, self.recorder = x, y, examples, recorder
        self.predicted: Predictions | Broken | None = None

    def take_clean(self, parts: Sequence[CleanPart | Broken]) -> Predictions | Broken:
        """Predictions on all images as they are, which are kept now; the record is ``clean``'s."""
        found = self._made(parts, self._cleanly)
        self.predicted = found
        return found

    def clean(self) -> Record:
        """Accuracy on the images as they are, once these are taken."""
        if self.predicted is None:
            raise ValueError("clean: predictions must be taken first")
        if isinstance(self.predicted, Broken):
            return self.recorder.broken(CLEAN, self.predicted)
        return self._counted(CLEAN, self.predicted)

    def clean_labels(self) -> IntArray | None:
        """The labels, (n,), that clean accuracy counts; None if they were not measured.

        As everywhere, ``query.NO_LABEL`` is of an image that the model did not answer.
        """
        return self.recorder.kept(keys.predictions(CLEAN))

    def attacked_labels(self, attack: Attack, epsilon: float) -> IntArray | None:
        """The labels that were counted under an attack, (m,); None if they were not measured."""
        return self.recorder.kept(keys.predictions(attack.name, epsilon))

    def attacked(
        self, attack: Attack, epsilons: Sequence[float], parts: Sequence[AttackedPart | Broken]
    ) -> list[Record]:
        """Accuracy under an attack, a record per epsilon.

        If the attack aims at a class of each image, the records' values are its success: of the
        images that are of another class, the share that is classified as that class.
        """
        made = self._made(parts, lambda whole: self._attacked(attack, epsilons, whole))
        if isinstance(made, Broken):
            return [self.recorder.broken(attack.name, made, e, attack.norm) for e in epsilons]
        return made

    def certified(
        self,
        certifier: Certifier,
        epsilons: Sequence[float],
        parts: Sequence[CertifiedPart | Broken],
    ) -> list[Record]:
        """Certified accuracy, a record per epsilon."""
        check = keys.certificate(certifier.name)
        made = self._made(parts, lambda whole: self._certified(certifier, epsilons, whole))
        if isinstance(made, Broken):
            return [self.recorder.broken(check, made, e, certifier.norm) for e in epsilons]
        return made

    def certificates(
        self, certifier: Certifier, epsilons: Sequence[float]
    ) -> Iterator[Certificate]:
        """What of a certifier is in the run."""
        for epsilon in epsilons:
            found = self.recorder.kept(keys.certified(certifier.name, epsilon))
            if found is not None:
                yield Certificate(certifier.name, certifier.norm, epsilon, found)

    def smallest(self, method: str, parts: Sequence[SmallestPart | Broken]) -> Record:
        """The median of the smallest epsilons that misclassify each image."""
        made = self._made(parts, lambda whole: self._smallest(method, whole))
        if isinstance(made, Broken):
            return self.recorder.broken(keys.smallest(method), made)
        return made

    def _made(self, parts: Sequence[P | Broken], make: Callable[[Sequence[P]], T]) -> T | Broken:
        """What is made of parts that all could be measured."""
        broken = [part for part in parts if isinstance(part, Broken)]
        if broken:
            return broken[0]
        try:
            return make([part for part in parts if not isinstance(part, Broken)])
        except Exception as error:
            return Broken.of(error)

    def _cleanly(self, parts: Sequence[CleanPart]) -> Predictions:
        recorder = self.recorder
        predictions = joined([Predictions(p.labels, p.confidence, p.why) for p in parts])
        recorder.took(CLEAN, len(predictions.labels), sum(part.seconds for part in parts))
        recorder.keep(keys.predictions(CLEAN), predictions.labels)
        if (signature := parts[0].signature) is not None:
            recorder.keep(keys.SIGNATURE, signature)
        confidence = predictions.confidence[self.examples.index]
        recorder.keep(keys.example(CLEAN, "confidence"), confidence)
        return predictions

    def _attacked(
        self, attack: Attack, epsilons: Sequence[float], parts: Sequence[AttackedPart]
    ) -> list[Record]:
        recorder = self.recorder
        count = sum(part.swept.labels.shape[1] for part in parts)
        y = self.y[:count]
        aimed_at = [part.goals for part in parts if part.goals is not None]
        goals = np.concatenate(aimed_at) if aimed_at else None
        _require_others(attack, goals, y)
        results = attacked([part.swept for part in parts], attack.name, y, epsilons)
        recorder.took(attack.name, count, sum(part.seconds for part in parts), len(epsilons))
        records, pictured = [], self.examples.pictured(epsilons)
        kept = self.examples.index[self.examples.index < count]
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

    def _certified(
        self, certifier: Certifier, epsilons: Sequence[float], parts: Sequence[CertifiedPart]
    ) -> list[Record]:
        recorder, check = self.recorder, keys.certificate(certifier.name)
        found = np.concatenate([part.certified for part in parts], axis=1)
        count = found.shape[1]
        recorder.took(check, count, sum(part.seconds for part in parts), len(epsilons))
        records = []
        for epsilon, certified in zip(epsilons, found, strict=True):
            recorder.keep(keys.certified(certifier.name, epsilon), certified)
            correct = int(certified.sum())
            records.append(recorder.counted(check, correct, count, epsilon, norm=certifier.norm))
        return records

    def _smallest(self, method: str, parts: Sequence[SmallestPart]) -> Record:
        recorder, check = self.recorder, keys.smallest(method)
        found = np.concatenate([part.epsilons for part in parts])
        recorder.took(check, len(found), sum(part.seconds for part in parts))
        self._keep_extremes(method, found, parts)
        recorder.keep(check, found)
        # Of an even number the lower middle one: the mean of two may be infinite.
        median = float(np.quantile(found, 0.5, method="lower"))
        return recorder.valued(check, median, norm="linf")

    def _keep_extremes(
        self, method: str, epsilons: np.ndarray, parts: Sequence[SmallestPart]
    ) -> None:
        """The most fragile and most robust images of those not misclassified as they are."""
        order, room = rising(epsilons), self.examples.extremes
        count = min(EXTREMES, len(order) // 2, max(1, room))
        index = np.concatenate([order[:count], order[len(order) - count :]])
        if not len(index):
            return
        known = np.concatenate([part.index for part in parts])
        places = [int(np.flatnonzero(known == at)[0]) for at in index]
        labels = np.concatenate([part.labels for part in parts])[places]
        images = np.concatenate([part.images for part in parts])[places]
        self.recorder.keep(keys.extremes(method, "index"), index.astype(np.int64))
        self.recorder.keep(keys.extremes(method, "labels"), labels)
        if room:
            self.recorder.keep_pictures(keys.extremes(method, "clean"), self.x[index])
            self.recorder.keep_pictures(keys.extremes(method, "adversarial"), images)

    def _counted(
        self,
        check: str,
        predictions: Predictions,
        found: Attacked | None = None,
        norm: NormName | None = None,
        value: float | None = None,
    ) -> Record:
        count = len(predictions.labels)
        correct, total = correct_count(predictions, self.y[:count]), int(predictions.answered.sum())
        epsilon = forwards = backwards = None
        if found is not None:
            epsilon, forwards, backwards = found.epsilon, found.forwards, found.backwards
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
