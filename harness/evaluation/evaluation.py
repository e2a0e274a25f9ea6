"""One model on one test set: each measurement is made once, recorded, and saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from harness.attacks.options import CERTIFIER, options_of
from harness.checks.validity import CHECKS, Certificate, Reported, ValidityCheck
from harness.evaluation.attacking import Attacking
from harness.evaluation.certifying import Certifying
from harness.evaluation.checking import Checking, require_known
from harness.evaluation.examples import Asked, Examples
from harness.evaluation.explaining import Explaining
from harness.evaluation.models import LoadedModel
from harness.maths.adaptive import is_randomised
from harness.maths.channels import channel_axis_of
from harness.progress import measuring
from harness.protocol import Attack, Certifier, FloatArray, Images, IntArray
from harness.registry import PLUGINS
from harness.results import keys
from harness.results.judge import CLEAN
from harness.results.recorder import Recorder
from harness.results.records import Record
from harness.saliency.analysis import MEASURES
from harness.saliency.methods import METHODS
from harness.saliency.occlusion import CHOICES
from harness.spec.measures import MeasuresSpec, MinimalSpec, SaliencySpec


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
        loaded: The model under test.
        x: Test images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,) integers.
        recorder: Takes records and arrays, and saves them.
        measures: What may be asked for.
        selected: Of each sweep the epsilons that will be asked for, by the name of its check; all
            if it is not there.
        validity: The checks of validity.
        while_measuring: Entered around each measurement; a host that captures output lets the
            progress bar through here.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        x: Images,
        y: IntArray,
        recorder: Recorder,
        measures: Measures,
        selected: Mapping[str, Sequence[float]] | None = None,
        validity: Mapping[str, ValidityCheck] = CHECKS,
        while_measuring: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.loaded, self.recorder, self.measures = loaded, recorder, measures
        self.x, self.y = x, y
        recorder.randomised = is_randomised(loaded.model)
        self._selected, self._while_measuring = selected or {}, while_measuring
        examples = Examples(x, y, recorder, self._pictures())
        self._attacking = Attacking(loaded.model, x, y, examples, recorder)
        self._certifying = Certifying(loaded, x, y, recorder)
        self._explaining = Explaining(
            loaded.model, x, y, examples, recorder, measures.saliency, measures.seed
        )
        reported = tuple(Reported(s.attack, s.epsilons) for s in measures.sweeps.values())
        self.checking = Checking(
            loaded, x, y, examples, recorder,
            reported=reported, bounds=measures.saliency.sanity, seed=measures.seed,
            clean_labels=self._attacking.clean_labels,
            attacked_labels=self._attacking.attacked_labels,
            certificates=self._certificates, searched=self._searched, validity=validity,
            channel_axis=channel_axis_of(loaded.model, tuple(x.shape[1:])),
        )  # fmt: skip

    @property
    def backend(self) -> str:
        """Name of the model's backend."""
        return self.recorder.backend

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.recorder.model

    def clean(self) -> Record:
        """Accuracy on the test images as they are."""
        return self._once(CLEAN, lambda: [self._attacking.clean()])

    def attacked(self, name: str, epsilon: float) -> Record:
        """Accuracy under an attack; the first call measures all selected epsilons at once."""
        require_known(name, "attack", self.measures.sweeps)
        sweep = self.measures.sweeps[name]
        epsilons = sorted({*self._selected.get(name, sweep.epsilons), epsilon})
        return self._once(
            name,
            lambda: self._attacking.attacked(sweep.attack, epsilons, sweep.images),
            epsilon,
        )

    def certified(self, name: str, epsilon: float) -> Record:
        """Certified accuracy; the first call measures all selected epsilons at once."""
        require_known(name, "certifier", self.measures.certified)
        sweep, check = self.measures.certified[name], keys.certificate(name)
        epsilons = sorted({*self._selected.get(check, sweep.epsilons), epsilon})
        return self._once(
            check,
            lambda: self._certifying.certified(sweep.certifier, epsilons, sweep.images),
            epsilon,
        )

    def smallest_epsilon(self, method: str) -> Record:
        """The median of the smallest epsilons at which images are misclassified."""
        require_known(method, "method", self.measures.climbers)
        attack, settings = self.measures.climbers[method], self.measures.minimal
        return self._once(
            keys.smallest(method),
            lambda: [self._attacking.smallest_epsilon(method, settings, attack)],
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

    def _certificates(self) -> list[Certificate]:
        """What is certified in the run."""
        sweeps = self.measures.certified.values()
        return [one for s in sweeps for one in self._certifying.known(s.certifier, s.epsilons)]

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
            with self._while_measuring(), measuring(f"{check} of {self.name} in {self.backend}"):
                records = measure()
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
