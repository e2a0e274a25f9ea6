"""One model on one test set: each measurement is made once, recorded, and saved."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from harness.attacks.options import CERTIFIER, options_of
from harness.checks.validity import (
    CHECKS,
    Basis,
    Certificate,
    Known,
    Probed,
    Reported,
    ValidityCheck,
)
from harness.evaluation.asking import Asking
from harness.evaluation.checking import Checking, require_known
from harness.evaluation.counting import Counting
from harness.evaluation.examples import Asked, Examples
from harness.evaluation.explaining import Explaining
from harness.evaluation.models import LoadedModel
from harness.evaluation.parts import AttackedPart, CertifiedPart, CleanPart, SmallestPart
from harness.maths.adaptive import is_randomised
from harness.maths.channels import channel_axis_of
from harness.maths.query import Predictions
from harness.progress import measuring
from harness.protocol import Attack, Certifier, FloatArray, Images, IntArray
from harness.registry import PLUGINS
from harness.results import keys
from harness.results.judge import CLEAN
from harness.results.recorder import Broken, Recorder
from harness.results.records import DataInfo, Record
from harness.saliency.analysis import MEASURES
from harness.saliency.covers import cover_of
from harness.saliency.methods import METHODS
from harness.saliency.occlusion import CHOICES
from harness.spec.measures import MeasuresSpec, MinimalSpec, SaliencySpec

T = TypeVar("T")
LOG = logging.getLogger(__name__)


class Sweep(NamedTuple):
    """An attack, the epsilons of its sweep, and how many of the images it attacks (None: all)."""

    attack: Attack
    epsilons: tuple[float, ...]
    images: int | None = None


class CertifiedSweep(NamedTuple):
    """The same of a certifier."""

    certifier: Certifier
    epsilons: tuple[float, ...]
    images: int | None = None


def first_of(images: int | None, count: int) -> slice:
    """The first of so many test images, as many as are asked for; all if None."""
    return slice(0, count if images is None else min(images, count))


@dataclass(frozen=True)
class Measures:
    """What is measured of a model, with every name looked up.

    Attributes:
        sweeps: The attacks by their names.
        minimal: How smallest epsilons are measured, and by which of ``climbers``.
        climbers: The attacks of ``minimal`` by their names.
        saliency: How maps are computed and tested.
        seed: Of all that is drawn.
        certified: The certifiers by their names.
    """

    sweeps: Mapping[str, Sweep] = field(default_factory=dict)
    minimal: MinimalSpec = field(default_factory=MinimalSpec)
    climbers: Mapping[str, Attack] = field(default_factory=dict)
    saliency: SaliencySpec = field(default_factory=SaliencySpec)
    seed: int = 0
    certified: Mapping[str, CertifiedSweep] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        spec: MeasuresSpec,
        attack: Callable[[str], Attack],
        certifier: Callable[[str], Certifier],
    ) -> Measures:
        """What a resolved spec asks for.

        Args:
            spec: What is asked.
            attack: Gives the attack of a name.
            certifier: Gives the certifier of a name.
        """
        sweeps = {
            name: Sweep(attack(name), sweep.epsilons, sweep.images)
            for name, sweep in spec.attacks.items()
        }
        certified = {
            name: CertifiedSweep(certifier(name), sweep.epsilons, sweep.images)
            for name, sweep in spec.certified.items()
        }
        climbers: dict[str, Attack] = {name: attack(name) for name in spec.minimal.methods}
        return cls(sweeps, spec.minimal, climbers, spec.saliency, spec.seed, certified)

    @property
    def reported(self) -> tuple[Reported, ...]:
        """The attacks whose accuracies are reported."""
        return tuple(Reported(sweep.attack, sweep.epsilons) for sweep in self.sweeps.values())

    def over(self, data: DataInfo) -> Measures:
        """The same of such images: what covers their pixels is chosen where it is not said.

        Raises:
            HarnessError: What is said cannot cover them.
        """
        cover = cover_of(self.saliency.cover, data.shape, data.channel_axis)
        return replace(self, saliency=self.saliency.model_copy(update={"cover": cover}))

    def told(self, said: dict[str, Any]) -> dict[str, Any]:
        """A dump of the spec, with all options of attacks and certifiers beside what it says.

        They are not in the spec's hash, for defaults are the code's.
        """
        for name, sweep in self.sweeps.items():
            said["attacks"][name]["options"] = options_of(sweep.attack)
        for name, asked in self.certified.items():
            said["certified"][name]["options"] = options_of(asked.certifier, CERTIFIER)
        return said


class Evaluation:
    """Measurements of one model. What is in the run already is not measured again.

    Whatever a model or an attack raises becomes a record with status ``error`` and the reason, so
    that the other measurements of the run are kept.

    Args:
        loaded: The model under test; or what loads it, when something is to be measured that is not
            in the run.
        x: Test images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,) integers.
        recorder: Takes records and arrays, and saves them.
        measures: What may be asked for.
        selected: Of each sweep the epsilons that will be asked for, by the name of its check; all
            if it is not there.
        validity: The checks of validity.
        while_measuring: Entered around each measurement; a host that captures output lets the
            progress bar through here.
        known: What was measured elsewhere for the checks of validity.
    """

    def __init__(
        self,
        loaded: LoadedModel | Callable[[], LoadedModel],
        x: Images,
        y: IntArray,
        recorder: Recorder,
        measures: Measures,
        selected: Mapping[str, Sequence[float]] | None = None,
        validity: Mapping[str, ValidityCheck] = CHECKS,
        while_measuring: Callable[[], AbstractContextManager[None]] = nullcontext,
        known: Known | None = None,
    ) -> None:
        self._given, self.recorder, self.measures = loaded, recorder, measures
        self.x, self.y = x, y
        self._selected, self._validity = selected or {}, validity
        self._while_measuring, self._known = while_measuring, known
        self.examples = Examples(x, y, recorder, self._pictures())
        self.counting = Counting(x, y, self.examples, recorder)

    @property
    def backend(self) -> str:
        """Name of the model's backend."""
        return self.recorder.backend

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.recorder.model

    @cached_property
    def loaded(self) -> LoadedModel:
        """The model under test, loaded when it is first needed."""
        given = self._given
        loaded = given if isinstance(given, LoadedModel) else given()
        self.recorder.randomised = is_randomised(loaded.model)
        return loaded

    @cached_property
    def asking(self) -> Asking:
        """What asks the model."""
        return Asking(self.loaded, self.x, self.y, self.examples)

    @cached_property
    def checking(self) -> Checking:
        """What checks the model."""
        loaded, x, measures = self.loaded, self.x, self.measures
        return Checking(
            loaded, x, self.y, self.examples, self.recorder,
            reported=measures.reported, bounds=measures.saliency.sanity, seed=measures.seed,
            clean_labels=self._clean_labels, attacked_labels=self.counting.attacked_labels,
            certificates=self._certificates, searched=self._searched, validity=self._validity,
            channel_axis=channel_axis_of(loaded.model, tuple(x.shape[1:])),
            cover=measures.saliency.cover, known=self._known,
        )  # fmt: skip

    def clean(self) -> Record:
        """Accuracy on the test images as they are."""
        return self._once(CLEAN, self._cleanly)

    def attacked(self, name: str, epsilon: float) -> Record:
        """Accuracy under an attack; the first call measures all selected epsilons at once."""
        require_known(name, "attack", self.measures.sweeps)
        return self._once(name, lambda: self._attacked(name, epsilon), epsilon)

    def certified(self, name: str, epsilon: float) -> Record:
        """Certified accuracy; the first call measures all selected epsilons at once."""
        require_known(name, "certifier", self.measures.certified)
        check = keys.certificate(name)
        return self._once(check, lambda: self._certified(name, epsilon), epsilon)

    def smallest_epsilon(self, method: str) -> Record:
        """The median of the smallest epsilons at which images are misclassified."""
        require_known(method, "method", self.measures.climbers)
        whole = first_of(self.measures.minimal.images, len(self.y))
        return self._once(
            keys.smallest(method),
            lambda: [self.counting.smallest(method, [self.smallest_part(method, whole)])],
        )

    def occluded(self, choice: str) -> Record:
        """Accuracy with the ``top``, ``random`` or ``least`` salient pixels covered.

        The random pixels are always measured too: the others are judged beside them.
        """
        require_known(choice, "choice", CHOICES)
        self._once("saliency/random", lambda: [self._explaining.occluded("random")])
        return self._once(f"saliency/{choice}", lambda: [self._explaining.occluded(choice)])

    def explained(self, method: str, measure: str) -> Record:
        """One of ``analysis.MEASURES`` of a method's maps; the first call measures them all."""
        require_known(measure, "measure", MEASURES)
        check = f"saliency/{method}/{measure}"
        return self._once(check, lambda: self._explaining.explained(method))

    def checked(self, suite: str, check: str) -> Record:
        """One check of ``checking.SUITES``; of saliency maps it is named ``METHOD/RULE``."""
        return self._once(f"{suite}/{check}", lambda: [self.checking.checked(suite, check)])

    def clean_part(self, part: slice) -> CleanPart | Broken:
        """Predictions on some of the images as they are."""
        return self._asked(lambda asking: asking.clean(part))

    def attacked_part(
        self, name: str, epsilons: Sequence[float], part: slice
    ) -> AttackedPart | Broken:
        """An attack on some of the images."""
        attack = self.measures.sweeps[name].attack
        return self._asked(lambda asking: asking.attacked(attack, epsilons, part))

    def certified_part(
        self, name: str, epsilons: Sequence[float], part: slice
    ) -> CertifiedPart | Broken:
        """Certificates of some of the images."""
        certifier = self.measures.certified[name].certifier
        return self._asked(lambda asking: asking.certified(certifier, epsilons, part))

    def smallest_part(self, method: str, part: slice) -> SmallestPart | Broken:
        """The smallest epsilons of some of the images."""
        attack, settings = self.measures.climbers[method], self.measures.minimal
        check = keys.smallest(method)
        return self._asked(lambda asking: asking.smallest(attack, settings, check, part))

    def basis(self) -> Basis | Broken:
        """What the checks of validity ask of the model before it is attacked."""
        return self._asked(lambda _: self.checking.evidence.basis)

    def probed(self, lot: str, part: slice) -> Probed | Broken:
        """What they ask of an attack, on some of the images that they look at."""
        return self._asked(lambda _: self.checking.evidence.probe(lot, part))

    def _asked(self, ask: Callable[[Asking], T]) -> T | Broken:
        """What the model and an attack make of some images, or why nothing."""
        asking = self.asking  # a model that cannot be loaded breaks more than this
        try:
            return ask(asking)
        except Exception as error:
            return Broken.of(error)

    @cached_property
    def _explaining(self) -> Explaining:
        measures = self.measures
        return Explaining(
            self.loaded.model, self.x, self.y, self.examples, self.recorder,
            measures.saliency, measures.seed,
        )  # fmt: skip

    def _cleanly(self) -> list[Record]:
        self._take_clean()
        return [self.counting.clean()]

    def _take_clean(self) -> Predictions | Broken:
        """Predictions on all images as they are, made once."""
        if self.counting.predicted is None:
            return self.counting.take_clean([self.clean_part(slice(0, len(self.y)))])
        return self.counting.predicted

    def _clean_labels(self) -> IntArray | None:
        """The labels that clean accuracy counts, which are measured if they are not yet."""
        known = self.counting.clean_labels()
        if known is None:
            self._take_clean()  # what broke, the record of clean accuracy says
        return self.counting.clean_labels()

    def _attacked(self, name: str, epsilon: float) -> list[Record]:
        sweep = self.measures.sweeps[name]
        epsilons = sorted({*self._selected.get(name, sweep.epsilons), epsilon})
        clean = self._take_clean()  # epsilon 0 is judged beside it
        whole = first_of(sweep.images, len(self.y))
        part = clean if isinstance(clean, Broken) else self.attacked_part(name, epsilons, whole)
        return self.counting.attacked(sweep.attack, epsilons, [part])

    def _certified(self, name: str, epsilon: float) -> list[Record]:
        sweep = self.measures.certified[name]
        epsilons = sorted({*self._selected.get(keys.certificate(name), sweep.epsilons), epsilon})
        part = self.certified_part(name, epsilons, first_of(sweep.images, len(self.y)))
        return self.counting.certified(sweep.certifier, epsilons, [part])

    def _certificates(self) -> list[Certificate]:
        """What is certified in the run."""
        sweeps = self.measures.certified.values()
        return [one for s in sweeps for one in self.counting.certificates(s.certifier, s.epsilons)]

    def _searched(self) -> dict[str, FloatArray]:
        """The smallest epsilons that are in the run, by method."""
        found = {name: self.recorder.kept(keys.smallest(name)) for name in self.measures.climbers}
        return {name: epsilons for name, epsilons in found.items() if epsilons is not None}

    def _pictures(self) -> Asked:
        """What will be kept as pictures."""
        sweeps = self.measures.sweeps
        radii = (self._selected.get(name, sweep.epsilons) for name, sweep in sweeps.items())
        methods = self.measures.saliency.methods
        return Asked(
            tuple(map(len, radii)),
            len(list(METHODS)) if methods is None else len(methods),
            len(self.measures.climbers),
        )

    def _once(
        self, check: str, measure: Callable[[], list[Record]], epsilon: float | None = None
    ) -> Record:
        """The run's record, or one of those that are made now, all safe on disk before judged."""
        found = self.recorder.found(check, epsilon)
        if found is None:
            begin = time.perf_counter()
            with self._while_measuring(), measuring(f"{check} of {self.name} in {self.backend}"):
                records = measure()
            LOG.debug(
                "%s %s %s: %.2f s", self.backend, self.name, keys.at(check, epsilon),
                time.perf_counter() - begin,
            )  # fmt: skip
            self._tell_queries()
            self.recorder.run.versions |= PLUGINS
            self.recorder.save()
            (found,) = (r for r in records if (r.check, r.epsilon) == (check, epsilon))
        return found

    def _tell_queries(self) -> None:
        """Note how many images a black box has been asked of until now."""
        queries: int | None = getattr(self.loaded.model, "queries", None)
        if queries is None:
            return
        run, pair = self.recorder.run, (self.name, self.backend)
        for info in [one for one in run.models if (one.model, one.backend) == pair]:
            run.put_model(info.model_copy(update={"queries": queries}))
