"""One model on one test set: each measurement is made once, recorded, and saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from harness.checks.validity import CHECKS, Reported, ValidityCheck
from harness.evaluation.attacking import Attacking
from harness.evaluation.checking import Checking
from harness.evaluation.examples import Examples
from harness.evaluation.explaining import Explaining
from harness.evaluation.models import LoadedModel
from harness.protocol import Attack, FloatArray, IntArray
from harness.results.judge import CLEAN
from harness.results.recorder import Recorder
from harness.results.records import Record
from harness.spec.measures import MinimalSpec, SaliencySpec


class Sweep(NamedTuple):
    """An attack, the epsilons of its sweep, and how many of the images it attacks (None: all)."""

    attack: Attack
    epsilons: tuple[float, ...]
    images: int | None = None


@dataclass(frozen=True)
class Measures:
    """What is measured of a model, with every name looked up.

    Attributes:
        sweeps: The attacks by their names.
        minimal: How smallest epsilons are measured, and by which of ``climbers``.
        climbers: The attacks of ``minimal`` by their names.
        saliency: How maps are computed and tested.
        seed: Of all that is drawn.
    """

    sweeps: Mapping[str, Sweep] = field(default_factory=dict)
    minimal: MinimalSpec = field(default_factory=MinimalSpec)
    climbers: Mapping[str, Attack] = field(default_factory=dict)
    saliency: SaliencySpec = field(default_factory=SaliencySpec)
    seed: int = 0


class Evaluation:
    """Measurements of one model. What is in the run already is not measured again.

    Whatever a model or an attack raises becomes a record with status ``error`` and the reason, so
    that the other measurements of the run are kept.

    Args:
        loaded: The model under test.
        x: Test images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,) integers.
        recorder: Takes records and arrays, and saves them.
        measures: What may be asked for.
        selected: Of each sweep the epsilons that will be asked for; all if it is not there.
        validity: The checks of validity.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        x: FloatArray,
        y: IntArray,
        recorder: Recorder,
        measures: Measures,
        selected: Mapping[str, Sequence[float]] | None = None,
        validity: Mapping[str, ValidityCheck] = CHECKS,
    ) -> None:
        self.loaded, self.recorder, self.measures = loaded, recorder, measures
        self.x, self.y = x, y
        self._selected = selected or {}
        examples = Examples(x, y, recorder)
        self._attacking = Attacking(loaded.model, x, y, examples, recorder)
        self._explaining = Explaining(
            loaded.model, x, y, examples, recorder, measures.saliency, measures.seed
        )
        reported = tuple(Reported(s.attack, s.epsilons) for s in measures.sweeps.values())
        self.checking = Checking(
            loaded, x, y, examples, recorder,
            reported=reported, bounds=measures.saliency.sanity, seed=measures.seed,
            clean_labels=self._attacking.clean_labels,
            attacked_labels=self._attacking.attacked_labels, validity=validity,
        )  # fmt: skip

    @property
    def backend(self) -> str:
        """Name of the model's backend."""
        return self.recorder.backend

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.recorder.target

    def clean(self) -> Record:
        """Accuracy on the test images as they are."""
        return self._once(CLEAN, self._attacking.clean)

    def attacked(self, name: str, epsilon: float) -> Record:
        """Accuracy under an attack; the first call measures all selected epsilons at once."""
        found = self.recorder.found(name, epsilon)
        if found is None:
            sweep = self.measures.sweeps[name]
            epsilons = sorted({*self._selected.get(name, sweep.epsilons), epsilon})
            records = self._attacking.attacked(sweep.attack, epsilons, sweep.images)
            self.recorder.save()
            (found,) = (record for record in records if record.epsilon == epsilon)
        return found

    def smallest_epsilon(self, method: str) -> Record:
        """The median of the smallest epsilons at which images are misclassified."""
        attack, settings = self.measures.climbers[method], self.measures.minimal
        return self._once(
            f"minimal-epsilon/{method}",
            lambda: self._attacking.smallest_epsilon(method, settings, attack),
        )

    def occluded(self, choice: str) -> Record:
        """Accuracy with the ``top``, ``random`` or ``least`` salient pixels covered.

        The random pixels are always measured too: the others are judged beside them.
        """
        for needed in ("random", choice):
            record = self._once(f"saliency/{needed}", partial(self._explaining.occluded, needed))
        return record

    def explained(self, method: str, measure: str) -> Record:
        """One of ``analysis.MEASURES`` of a method's maps; the first call measures them all."""
        check = f"saliency/{method}/{measure}"
        found = self.recorder.found(check)
        if found is None:
            records = self._explaining.explained(method)
            self.recorder.save()
            (found,) = (record for record in records if record.check == check)
        return found

    def checked(self, suite: str, check: str) -> Record:
        """One check of ``checking.SUITES``; of saliency maps it is named ``METHOD/RULE``."""
        return self._once(f"{suite}/{check}", lambda: self.checking.checked(suite, check))

    def _once(self, check: str, measure: Callable[[], Record]) -> Record:
        """The run's record, or one that is made now, and safe on disk before it is judged."""
        found = self.recorder.found(check)
        if found is None:
            found = measure()
            self.recorder.save()
        return found
