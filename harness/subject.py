"""A model with its test images: what is asked of it is measured once, and recorded in a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.attacks import make_attack
from harness.conformance import CHECKS, Case, ConformanceError, NotApplicableError
from harness.judge import CLEAN
from harness.measure import Answers, MeasurementError, answers_to, correct_count, sweep
from harness.protocol import FloatArray, IntArray, Model
from harness.records import Record, Run, counted
from harness.saliency.maps import gradient_maps, top_pixels
from harness.saliency.occlusion import occluded_correct
from harness.spec import SaliencySpec
from harness.text import one_line


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

    def clean(self) -> Record:
        """Accuracy on the images as they are."""
        try:
            return self._counted(CLEAN, self._clean)
        except Exception as error:
            return self._broken(CLEAN, error)

    def attacked(self, attack: str, epsilons: Sequence[float]) -> list[Record]:
        """Accuracy under an attack, a record per epsilon."""
        try:
            _ = self._clean  # epsilon 0 is judged beside it
            results = sweep(
                self.model,
                make_attack(attack),
                self.x,
                self.y,
                epsilons,
                keep=self._examples.tolist(),
            )
        except Exception as error:
            return [self._broken(attack, error, epsilon) for epsilon in epsilons]
        records = []
        for result in results:
            key = f"{attack}@{result.epsilon:g}"
            self._keep(f"{key}/predictions", result.answers.labels)
            self._keep(f"examples/{key}", result.kept.astype(np.float32))
            self._keep(f"examples/{key}/confidence", result.answers.confidence[self._examples])
            records.append(self._counted(attack, result.answers, result.epsilon))
        return records

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
        self._keep("examples/saliency/top", top)
        draws = total // len(self.y)
        return self._put(counted(self.target, self.backend, check, correct, total, draws=draws))

    def conformance(self, rule: str, case: Case) -> Record:
        """One check of the protocol; a record that counts no images."""
        check = f"conformance/{rule}"
        record = Record(target=self.target, backend=self.backend, check=check)
        try:
            CHECKS[rule](case)
        except ConformanceError as error:
            return self._put(record.judged("failed", str(error)))
        except NotApplicableError as error:
            return self._put(record.judged("skipped", str(error)))
        except Exception as error:
            return self._broken(check, error)
        return self._put(record.judged("passed"))

    @cached_property
    def _clean(self) -> Answers:
        answers = answers_to(self.model, self.x)
        self._keep(f"{CLEAN}/predictions", answers.labels)
        self._keep("examples/clean/confidence", answers.confidence[self._examples])
        return answers

    @cached_property
    def _maps(self) -> FloatArray:
        maps = gradient_maps(self.model, self.x, self.y)
        self._keep("examples/saliency", maps[self._examples].astype(np.float32))
        return maps

    @cached_property
    def _examples(self) -> npt.NDArray[np.int64]:
        """Positions of the images that are kept: the first of each class, in their order."""
        _, firsts = np.unique(self.y, return_index=True)
        examples = np.sort(firsts).astype(np.int64)
        self._keep("examples/index", examples)
        self._keep("examples/clean", self.x[examples].astype(np.float32))
        return examples

    def _counted(self, check: str, answers: Answers, epsilon: float | None = None) -> Record:
        correct = correct_count(answers, self.y)
        record = counted(self.target, self.backend, check, correct, len(self.y), epsilon)
        return self._put(record)

    def _broken(self, check: str, error: Exception, epsilon: float | None = None) -> Record:
        expected = isinstance(error, MeasurementError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        record = Record(target=self.target, backend=self.backend, check=check, epsilon=epsilon)
        return self._put(record.judged("error", one_line(reason)))

    def _put(self, record: Record) -> Record:
        self.run.put(record)
        return record

    def _keep(self, key: str, values: npt.NDArray[Any]) -> None:
        self.run.arrays[f"{self.backend}/{self.target}/{key}"] = values
