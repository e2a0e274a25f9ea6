"""Checks of a model: of the protocol, of its numbers, of its maps, and of its training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from types import MappingProxyType

import numpy as np

from harness.checks.conformance import CHECKS as CONFORMANCE
from harness.checks.conformance import Evidence as OfProtocol
from harness.checks.sanity import checks as sanity
from harness.checks.sanity.evidence import Evidence as OfMaps
from harness.checks.validity import (
    CHECKS,
    Certificate,
    Evidence,
    Known,
    Reported,
    ValidityCheck,
)
from harness.errors import CheckFailed, HarnessError, MeasurementError, NotApplicable, unknown
from harness.evaluation.examples import Examples
from harness.evaluation.models import LoadedModel
from harness.protocol import Attack, FloatArray, Images, IntArray
from harness.results import keys
from harness.results.recorder import Recorder
from harness.results.records import Record
from harness.saliency.methods import METHODS
from harness.spec.measures import Cover, SanitySpec

FEW = 3
"""Examples whose maps are kept for each model of the cascade."""
LOOKED_AT = 16
"""Images by which conformance is checked, where nothing is counted."""


class Checking:
    """Checks of one model; each becomes a record that counts no images.

    Args:
        loaded: The model.
        x: Test images, (n, *shape) within the model's bounds.
        y: Their true labels, (n,) integers.
        examples: Those of them that are kept.
        recorder: Takes what is found.
        reported: The attacks whose accuracies are reported.
        bounds: What passes the checks of maps.
        seed: Which images are looked at.
        clean_labels: Gives the labels, (n,), that clean accuracy counts.
        attacked_labels: Gives those that were counted under an attack, at an epsilon.
        certificates: Gives what is certified in the run.
        searched: Gives the smallest epsilons that are in the run, by method.
        validity: The checks of validity.
        channel_axis: Axis of one image that holds its channels, where that is known.
        cover: What covered pixels become; where that is not said, what suits the images.
        known: What was measured elsewhere for the checks of validity.

    Attributes:
        evidence: What the checks of validity look at.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        x: Images,
        y: IntArray,
        examples: Examples,
        recorder: Recorder,
        *,
        reported: tuple[Reported, ...],
        bounds: SanitySpec,
        seed: int,
        clean_labels: Callable[[], IntArray | None] = lambda: None,
        attacked_labels: Callable[[Attack, float], IntArray | None] = lambda *_: None,
        certificates: Callable[[], Sequence[Certificate]] = tuple,
        searched: Callable[[], Mapping[str, FloatArray]] = dict,
        validity: Mapping[str, ValidityCheck] = CHECKS,
        channel_axis: int | None = None,
        cover: Cover | None = None,
        known: Known | None = None,
    ) -> None:
        self.loaded, self.x, self.y = loaded, x, y
        self.examples, self.recorder = examples, recorder
        self._bounds, self._seed = bounds, seed
        self._channel_axis, self._cover = channel_axis, cover
        self.evidence = Evidence(
            loaded.model, x, y, seed=seed, reported=reported,
            measured=clean_labels, counted=attacked_labels,
            certificates=certificates, searched=searched, known=known or Known(),
        )  # fmt: skip
        self._validity = validity
        self._of_maps: dict[str, OfMaps] = {}

    def checked(self, suite: str, check: str) -> Record:
        """One check of a suite in ``SUITES``; of maps it is named ``METHOD/RULE``."""
        require_known(suite, "suite", SUITES)
        return SUITES[suite](self, check)

    def conformance(self, rule: str) -> Record:
        """One check of the protocol."""
        require_known(rule, "check", CONFORMANCE)
        return self.recorder.checked(f"conformance/{rule}", lambda: CONFORMANCE[rule](self._case))

    def validity(self, rule: str) -> Record:
        """One check of whether the robustness numbers can be trusted."""
        require_known(rule, "check", self._validity)
        return self.recorder.checked(
            f"validity/{rule}", lambda: self._validity[rule](self.evidence)
        )

    def sanity(self, check: str) -> Record:
        """One check of whether a method's maps explain the model."""
        method, _, rule = check.partition("/")
        require_known(method, "method", METHODS)
        require_known(rule, "check", sanity.CHECKS)
        evidence = self._map_evidence(method)
        record = self.recorder.checked(
            f"saliency-sanity/{check}", lambda: sanity.CHECKS[rule](evidence)
        )
        if rule == "random-layers" and record.status in ("passed", "failed"):
            self._keep_cascade(evidence)
        return record

    def training(self, rule: str) -> Record:
        """One check of the training: ``collapse``, whether it withstands FGSM but not PGD."""
        require_known(rule, "check", TRAINING)
        return self.recorder.checked(f"training/{rule}", lambda: TRAINING[rule](self.loaded))

    @cached_property
    def _case(self) -> OfProtocol:
        exact = oracle = None
        if known := self.loaded.references:
            with suppress(NotApplicable):
                exact = known.exact
            with suppress(NotApplicable):
                oracle = known.oracle
        return OfProtocol(
            self.loaded.model, np.asarray(self.x[:LOOKED_AT]), self.y[:LOOKED_AT], exact, oracle,
            test_x=self.x, test_y=self.y,
        )  # fmt: skip

    def _map_evidence(self, method: str) -> OfMaps:
        if method not in self._of_maps:
            known = self.loaded.references
            self._of_maps[method] = OfMaps(
                self.loaded.model, self.x, self.y, method,
                variants=known.variants if known else None, bounds=self._bounds, seed=self._seed,
                channel_axis=self._channel_axis, cover=self._cover,
            )  # fmt: skip
        return self._of_maps[method]

    def _keep_cascade(self, evidence: OfMaps) -> None:
        """How alike the maps are as layers become random, and those of a few examples."""
        self.recorder.keep(keys.curve(evidence.name, "cascade"), evidence.cascade)
        with suppress(NotApplicable, MeasurementError):  # the verdict stands without pictures
            models = evidence.require_variants().cascade
            few = self.examples.few(len(models))[:FEW]
            if not len(few):
                return
            maps = [evidence.maps_of(variant, self.x[few], self.y[few]) for variant in models]
            key = keys.cascade_maps(evidence.name)
            self.recorder.keep_pictures(key, np.stack(maps), channels=False)


def require_known(name: str, kind: str, known: Collection[str]) -> None:
    """Refuse a name that a test of somebody's own has misspelt.

    Raises:
        HarnessError: There is nothing of that name.
    """
    if name not in known:
        raise HarnessError(unknown(name, kind, known))


def check_collapse(loaded: LoadedModel) -> None:
    """Whether adversarial training ended in a model that withstands FGSM but not PGD."""
    if not loaded.history:
        raise NotApplicable("the harness did not train this model")
    kept = loaded.history[loaded.best_epoch - 1]
    if kept.pgd_accuracy is None:
        raise NotApplicable("it was not trained against an attack that it could withstand alone")
    if kept.collapsed:
        raise CheckFailed(
            f"accuracy on validation images is {kept.fgsm_accuracy:.4f} under FGSM, but "
            f"{kept.pgd_accuracy:.4f} under PGD: the defence has collapsed"
        )


TRAINING: Mapping[str, Callable[[LoadedModel], None]] = {"collapse": check_collapse}
SUITES: Mapping[str, Callable[[Checking, str], Record]] = MappingProxyType(
    {
        "conformance": Checking.conformance,
        "validity": Checking.validity,
        "saliency-sanity": Checking.sanity,
        "training": Checking.training,
    }
)
"""What can be checked."""
