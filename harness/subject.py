"""A model with its test images: what is asked of it is measured once, and recorded in a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from harness import validity
from harness.attacks.iterated import Iterated
from harness.conformance import CHECKS, Case, ConformanceError, NotApplicableError
from harness.errors import MeasurementError
from harness.judge import CLEAN
from harness.measure import Answers, answers_to, correct_count, logits_of, sweep
from harness.minimal import Fallen, along_gradient, by_search
from harness.protocol import Attack, FloatArray, IntArray, Model, NormName
from harness.records import Record, Run, Timing, counted
from harness.saliency import analysis, sanity
from harness.saliency.evidence import MapEvidence
from harness.saliency.maps import top_pixels
from harness.saliency.methods import explain
from harness.saliency.occlusion import occluded_correct
from harness.saliency.sanity import SanityError
from harness.spec import MinimalSpec, SaliencySpec
from harness.text import one_line
from harness.validity import Evidence, ValidityError

EXTREMES = 6
"""How many of the most fragile images, and of the sturdiest, are kept."""
EXAMPLES = 10
"""Images that are kept as examples, at most: of more classes those of an even choice."""
FEW = 3
"""Examples whose maps are kept for each model of the cascade."""
PICTURES = 512 * 2**10
"""Bytes of float32 pictures under one key, from which follows how many are kept, but at least one.
Ten of 64×64×3 pixels fit, and one of 224×224×3."""
ALL_PICTURES = 32 * 2**20
"""Bytes of pictures that are kept of one model; what would go beyond is left out."""
SIGNED = 64
"""Images by whose logits a model is known again."""


class Subject:
    """A model under test. Every measurement is put into the run, also when it broke.

    Whatever a model or an attack raises becomes a record with status ``error`` and the reason, so
    that the other measurements of the run are kept.

    Args:
        run: Takes the records and arrays.
        backend: Name of the backend, for the records.
        target: Name of the target, for the records.
        model: The model under test.
        x: Test images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,) integers.
    """

    def __init__(
        self, run: Run, backend: str, target: str, model: Model, x: FloatArray, y: IntArray
    ) -> None:
        self.run = run
        self.backend = backend
        self.target = target
        self.model = model
        self.x = x
        self.y = y
        self._fgsm: tuple[tuple[int, float], FloatArray] | None = None
        self._moved: tuple[float, FloatArray] | None = None
        self._pictures: dict[str, int] = {}

    def clean(self) -> Record:
        """Accuracy on the images as they are."""
        try:
            return self._counted(CLEAN, self._clean)
        except Exception as error:
            return self._broken(CLEAN, error)

    def clean_labels(self) -> IntArray | None:
        """The labels, (n,), that clean accuracy counts; None if it cannot be measured."""
        try:
            return self._clean.labels
        except Exception:  # the record of clean accuracy says what it was
            return None

    def attacked_labels(self, attack: Attack, epsilon: float) -> IntArray | None:
        """The labels that were counted under an attack, (m,); None if they were not measured."""
        key = f"{self.backend}/{self.target}/{attack.name}@{epsilon:g}/predictions"
        return self.run.arrays.get(key)

    def attacked(
        self, attack: Attack, epsilons: Sequence[float], images: int | None = None
    ) -> list[Record]:
        """Accuracy under an attack of the first images (or all), a record per epsilon.

        If the attack aims at a class of each image, the records' values are its success: the share
        of images that are taken for that class.
        """
        x, y = self.x[:images], self.y[:images]
        kept = self._examples[self._examples < len(x)]
        try:
            _ = self._clean  # epsilon 0 is judged beside it
            goals = self._goals(attack, x, y)
            with self._timed(attack.name, len(x), len(epsilons)):
                results = sweep(self.model, attack, x, y, epsilons, keep=kept.tolist())
        except Exception as error:
            return [self._broken(attack.name, error, e, attack.norm) for e in epsilons]
        records = []
        for result in results:
            key = f"{attack.name}@{result.epsilon:g}"
            self._keep(f"{key}/predictions", result.answers.labels)
            if len(kept) == len(self._examples):
                self._keep_pictures(f"examples/{key}", result.kept)
                self._keep(f"examples/{key}/confidence", result.answers.confidence[kept])
            hits = None if goals is None else float(np.mean(result.answers.labels == goals))
            answers, epsilon = result.answers, result.epsilon
            records.append(self._counted(attack.name, answers, epsilon, attack.norm, hits))
        return records

    def minimal_epsilon(self, method: str, settings: MinimalSpec, attack: Attack) -> Record:
        """The median of the smallest epsilons at which each of the first images falls."""
        check = f"minimal-epsilon/{method}"
        x, y = self.x[: settings.images], self.y[: settings.images]
        try:
            with self._timed(check, len(x)):
                if not isinstance(attack, Iterated):
                    fallen = along_gradient(self.model, x, y, settings.limit)
                else:
                    fallen = by_search(self.model, attack, x, y, settings.limit)
            self._keep_extremes(check, fallen)
        except Exception as error:
            return self._broken(check, error)
        found = fallen.epsilons
        self._keep(check, found)
        record = Record(target=self.target, backend=self.backend, check=check, norm="linf")
        # Of an even number the lower middle one: the mean of two may be infinite.
        median = float(np.quantile(found, 0.5, method="lower"))
        return self._put(record.model_copy(update={"value": median}))

    def occluded(self, choice: str, settings: SaliencySpec, seed: int) -> Record:
        """Accuracy with the most salient, random, or least salient pixels covered."""
        check = f"saliency/{choice}"
        try:
            correct, total = occluded_correct(
                self.model, self.x, self.y, self._maps, choice,
                fraction=settings.top, draws=settings.random_draws, seed=seed,
            )  # fmt: skip
        except Exception as error:
            return self._broken(check, error)
        top = top_pixels(self._maps[self._examples], settings.top)
        self._keep_pictures("examples/saliency/top", top)
        draws = total // len(self.y)
        return self._put(counted(self.target, self.backend, check, correct, total, draws=draws))

    def analysed(self, method: str, settings: SaliencySpec, seed: int) -> list[Record]:
        """What the maps of a method say of the first images: a record per measure, with a value."""
        checks = {measure: f"saliency/{method}/{measure}" for measure in analysis.MEASURES}
        x, y = self.x[: settings.images], self.y[: settings.images]
        try:
            moved = self._under_fgsm(settings.images, settings.epsilon)
            with self._timed(f"saliency/{method}", len(x)):
                found = analysis.analysed(self.model, x, y, moved, method, settings)
            self._keep_maps(method, settings.epsilon)
            self._keep_random(settings, seed)
        except Exception as error:
            return [self._broken(check, error) for check in checks.values()]
        for name, values in found.items():
            self._keep(f"saliency/{method}/{name}", values)
        records = []
        for measure, check in checks.items():
            record = Record(target=self.target, backend=self.backend, check=check)
            value = analysis.summary(measure, found)
            records.append(self._put(record.model_copy(update={"value": value})))
        return records

    def sanity(self, rule: str, evidence: MapEvidence) -> Record:
        """One check of whether a method's maps explain the model; counts no images."""
        check = f"saliency-sanity/{evidence.name}/{rule}"
        record = self._checked(check, lambda: sanity.CHECKS[rule](evidence))
        if rule == "random-layers" and record.status in ("passed", "failed"):
            self._keep(f"saliency/{evidence.name}/cascade", evidence.cascade)
            cascade = evidence.require_twins().cascade
            few = self._examples[: max(1, min(FEW, _that_fit(self.x) // len(cascade)))]
            maps = [evidence.maps_of(twin, self.x[few], self.y[few]) for twin in cascade]
            self._keep_pictures(f"examples/cascade/{evidence.name}", np.stack(maps))
        return record

    def conformance(self, rule: str, case: Case) -> Record:
        """One check of the protocol; a record that counts no images."""
        return self._checked(f"conformance/{rule}", lambda: CHECKS[rule](case))

    def validity(self, rule: str, evidence: Evidence, *, cheap: bool = False) -> Record:
        """One check of whether the robustness numbers can be trusted; likewise."""
        checks = validity.CHEAP if cheap else validity.CHECKS
        return self._checked(f"validity/{rule}", lambda: checks[rule](evidence))

    def _goals(self, attack: Attack, x: FloatArray, y: IntArray) -> IntArray | None:
        """The class that each image is to be taken for, if the attack aims at one."""
        if not isinstance(attack, Iterated) or not attack.aims_at_one:
            return None
        return attack.goals(logits_of(self.model, x), y.copy())

    @cached_property
    def _clean(self) -> Answers:
        with self._timed(CLEAN, len(self.x)):
            answers = answers_to(self.model, self.x)
        self._keep(f"{CLEAN}/predictions", answers.labels)
        logits = logits_of(self.model, self.x[:SIGNED])
        self._keep("signature", (logits.max(axis=1) - logits.mean(axis=1)).astype(np.float32))
        self._keep("examples/clean/confidence", answers.confidence[self._examples])
        return answers

    @cached_property
    def _maps(self) -> FloatArray:
        maps = np.abs(explain(self.model, self.x, self.y))
        self._keep_pictures("examples/saliency", maps[self._examples])
        return maps

    def _under_fgsm(self, images: int, epsilon: float) -> FloatArray:
        """The first images under FGSM, (n, *shape); computed once for all methods."""
        if self._fgsm is None or self._fgsm[0] != (images, epsilon):
            x, y = self.x[:images], self.y[:images]
            moved = analysis.under_fgsm(self.model, x, y, epsilon)
            self._fgsm = (images, epsilon), moved
        return self._fgsm[1]

    def _keep_maps(self, method: str, epsilon: float) -> None:
        """The maps of the examples, as they are and under FGSM with that radius."""
        x, y = self.x[self._examples], self.y[self._examples]
        moved = self._moved_examples(epsilon)
        for name, images in (("examples/maps", x), ("examples/moved/maps", moved)):
            maps = explain(self.model, images, y, method)
            self._keep_pictures(f"{name}/{method}", maps)

    def _moved_examples(self, epsilon: float) -> FloatArray:
        """The examples under FGSM with that radius, (m, *shape); attacked once for all methods."""
        if self._moved is None or self._moved[0] != epsilon:
            x, y = self.x[self._examples], self.y[self._examples]
            moved = analysis.under_fgsm(self.model, x, y, epsilon)
            self._keep_pictures("examples/moved", moved)
            self._keep("examples/moved/labels", answers_to(self.model, moved).labels)
            self._moved = epsilon, moved
        return self._moved[1]

    def _keep_extremes(self, check: str, fallen: Fallen) -> None:
        """The images that fell first and last, of those that did not stand wrong already."""
        order = np.argsort(fallen.epsilons, kind="stable")
        order = order[fallen.epsilons[order] > 0]
        count = min(EXTREMES, len(order) // 2, max(1, _that_fit(self.x) // 2))
        index = np.concatenate([order[:count], order[len(order) - count :]])
        if not len(index):
            return
        images = fallen.images[index]
        self._keep(f"{check}/extremes/index", index.astype(np.int64))
        self._keep_pictures(f"{check}/extremes/clean", self.x[index])
        self._keep_pictures(f"{check}/extremes/fallen", images)
        self._keep(f"{check}/extremes/labels", answers_to(self.model, images).labels)

    @contextmanager
    def _timed(self, check: str, images: int, epsilons: int = 1) -> Iterator[None]:
        """Note how long a measurement takes, unless it breaks."""
        begin = time.perf_counter()
        yield
        self.run.timings.append(
            Timing(
                target=self.target, backend=self.backend, check=check, images=images,
                epsilons=epsilons, seconds=time.perf_counter() - begin,
            )
        )  # fmt: skip

    def _keep_random(self, settings: SaliencySpec, seed: int) -> None:
        """What random pixels do, which is the same for all methods."""
        if f"{self.backend}/{self.target}/saliency/random/deletion" in self.run.arrays:
            return
        x, y = self.x[: settings.images], self.y[: settings.images]
        for name, values in analysis.analysed_at_random(self.model, x, y, settings, seed).items():
            self._keep(f"saliency/random/{name}", values)

    @cached_property
    def _examples(self) -> npt.NDArray[np.int64]:
        """Positions of the images that are kept: the first of each class, in their order.

        Of more classes than ``EXAMPLES``, or than ``PICTURES`` has room for, an even choice.
        """
        _, firsts = np.unique(self.y, return_index=True)
        count = min(EXAMPLES, _that_fit(self.x), len(firsts))
        chosen = np.linspace(0, len(firsts) - 1, count).round().astype(int)
        examples = np.sort(firsts[chosen]).astype(np.int64)
        self._keep("examples/index", examples)
        self._keep_pictures("examples/clean", self.x[examples])
        return examples

    def _counted(
        self,
        check: str,
        answers: Answers,
        epsilon: float | None = None,
        norm: NormName | None = None,
        value: float | None = None,
    ) -> Record:
        total = len(answers.labels)
        correct = correct_count(answers, self.y[:total])
        record = counted(self.target, self.backend, check, correct, total, epsilon, norm=norm)
        return self._put(record.model_copy(update={"value": value}))

    def _checked(self, check: str, run_it: Callable[[], str | None]) -> Record:
        """What came of a check; one that passes may have something to tell all the same."""
        record = Record(target=self.target, backend=self.backend, check=check)
        try:
            told = run_it()
        except (ConformanceError, ValidityError, SanityError) as error:
            return self._put(record.judged("failed", str(error)))
        except NotApplicableError as error:
            return self._put(record.judged("skipped", str(error)))
        except Exception as error:
            return self._broken(check, error)
        return self._put(record.judged("passed", told or ""))

    def _broken(
        self,
        check: str,
        error: Exception,
        epsilon: float | None = None,
        norm: NormName | None = None,
    ) -> Record:
        expected = isinstance(error, MeasurementError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        record = Record(
            target=self.target, backend=self.backend, check=check, epsilon=epsilon, norm=norm
        )
        return self._put(record.judged("error", one_line(reason)))

    def _put(self, record: Record) -> Record:
        self.run.put(record)
        return record

    def _keep(self, key: str, values: npt.NDArray[Any]) -> None:
        self.run.arrays[f"{self.backend}/{self.target}/{key}"] = values

    def _keep_pictures(self, key: str, values: npt.NDArray[Any]) -> None:
        """Keep pictures (m, *shape) as float32, or masks as they are, if there is room for them."""
        pictures = values if values.dtype == np.bool_ else values.astype(np.float32)
        sizes = self._pictures | {key: pictures.nbytes}
        if sum(sizes.values()) <= ALL_PICTURES:
            self._pictures = sizes
            self._keep(key, pictures)


def _that_fit(x: FloatArray) -> int:
    """How many of the images (n, *shape) are kept as float32 under one key, at least one."""
    return max(1, PICTURES // (4 * max(1, math.prod(x.shape[1:]))))
