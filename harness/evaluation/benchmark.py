"""One spec at work: its data and its models, each made once, and the run they are measured in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from pathlib import Path

import numpy as np

from harness import registry
from harness.attacks.options import options_of
from harness.checks.conformance import Case
from harness.checks.sanity.evidence import MapEvidence, Twins
from harness.checks.sanity.randomised import cascade, taught_random_labels
from harness.checks.validity import Evidence, Reported
from harness.data import load_dataset
from harness.data.dataset import Dataset
from harness.evaluation.evaluation import Subject
from harness.evaluation.resolve import attack_of, resolved
from harness.networks.initial import initial_weights
from harness.protocol import Architecture, Model, Penalties
from harness.results.provenance import new_run
from harness.results.records import ModelInfo, Record
from harness.spec.spec import Spec
from harness.training.loop import Trained, train
from harness.training.store import ModelKey, load_or_train


class Bench:
    """Everything a spec speaks of, made when first needed.

    Args:
        spec: The benchmark.
        retrain: Train models even if they are stored.
        while_training: Entered around each training; a host that captures output lets the
            progress bar through here.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        retrain: bool = False,
        while_training: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.spec = spec = resolved(spec)
        self.retrain = retrain
        self.while_training = while_training
        self.run = new_run(spec.model_dump(mode="json"))
        # Beside what the spec says, and not in its hash: the defaults are the code's.
        for name in spec.attacks:
            self.run.spec["attacks"][name]["options"] = options_of(attack_of(spec, name))
        self.run.gate = spec.gate
        self._subjects: dict[tuple[str, str], Subject] = {}
        self._cases: dict[tuple[str, str], Case] = {}
        self._evidence: dict[tuple[str, str], Evidence] = {}
        self._twins: dict[tuple[str, str], Twins] = {}
        self._explained: dict[tuple[str, str, str], MapEvidence] = {}

    @cached_property
    def dataset(self) -> Dataset:
        """The data of the spec."""
        dataset = load_dataset(self.spec.data)
        self.run.data_sha256 = dataset.sha256
        self.run.classes = dataset.classes
        self.run.arrays["labels"] = dataset.test.y.astype(np.int32)
        return dataset

    def subject(self, backend: str, target: str) -> Subject:
        """A target in a backend, on the test images; its model is loaded, or trained now."""
        key = (backend, target)
        if key not in self._subjects:
            test = self.dataset.test
            model = self._model(backend, target)
            self._subjects[key] = Subject(self.run, backend, target, model, test.x, test.y)
        return self._subjects[key]

    def conformance(self, backend: str, target: str, rule: str) -> Record:
        """One conformance check of a target's model, on a few test images."""
        subject = self.subject(backend, target)
        key = (backend, target)
        if key not in self._cases:
            self._cases[key] = self._case(subject)
        return subject.conformance(rule, self._cases[key])

    def validity(self, backend: str, target: str, rule: str) -> Record:
        """One check of whether a target's robustness numbers can be trusted."""
        subject = self.subject(backend, target)
        key = (backend, target)
        if key not in self._evidence:
            reported = tuple(
                Reported(attack_of(self.spec, name), sweep.epsilons)
                for name, sweep in self.spec.attacks.items()
            )
            self._evidence[key] = Evidence(
                subject.model, subject.x, subject.y, seed=self.spec.seed, reported=reported,
                measured=subject.clean_labels,
            )  # fmt: skip
        return subject.validity(rule, self._evidence[key])

    def sanity(self, backend: str, target: str, method: str, rule: str) -> Record:
        """One check of whether a method's maps explain a target's model."""
        subject = self.subject(backend, target)
        key = (backend, target)
        if key not in self._twins:
            self._twins[key] = self._twins_of(subject)
        explained = (backend, target, method)
        if explained not in self._explained:
            self._explained[explained] = MapEvidence(
                subject.model, subject.x, subject.y, method, twins=self._twins[key],
                bounds=self.spec.saliency.sanity, seed=self.spec.seed,
            )  # fmt: skip
        return subject.sanity(rule, self._explained[explained])

    def collapse(self, backend: str, target: str) -> Record:
        """Whether the model of an adversarially trained target fools FGSM but not PGD."""
        self.subject(backend, target)
        (info,) = (m for m in self.run.models if (m.backend, m.target) == (backend, target))
        kept = info.history[info.best_epoch - 1]
        record = Record(target=target, backend=backend, check="training/collapse")
        reason = (
            f"accuracy on validation images is {kept.fgsm_accuracy:.4f} under FGSM, but "
            f"{kept.pgd_accuracy:.4f} under PGD: the defence has collapsed"
        )
        judged = record.judged("failed", reason) if kept.collapsed else record.judged("passed")
        self.run.put(judged)
        return judged

    def architecture(self, target: str) -> Architecture:
        """The network of a target, sized for the data."""
        part = self.spec.targets[target].model
        data = self.dataset
        return Architecture(
            data.input_shape, part.hidden, len(data.classes), part.dropout, part.batch_norm
        )

    def _model(self, backend: str, target: str) -> Model:
        made = registry.backend(backend)
        recipe = self.spec.targets[target].training
        architecture = self.architecture(target)
        key = ModelKey(self.dataset.sha256, architecture, recipe, self.spec.seed, made)
        trained, cached = load_or_train(
            key, lambda path: self._train(backend, target, path), retrain=self.retrain
        )
        self.run.versions |= made.versions()
        self.run.put_model(
            ModelInfo(
                target=target,
                backend=backend,
                fingerprint=key.fingerprint,
                cached=cached,
                best_epoch=trained.best_epoch,
                history=trained.history,
            )
        )
        return made.build(architecture, trained.weights, bounds=self.dataset.bounds)

    def _train(self, backend: str, target: str, checkpoint: Path) -> Trained:
        data, seed = self.dataset, self.spec.seed
        recipe = self.spec.targets[target].training
        architecture = self.architecture(target)
        trainer = registry.backend(backend).trainer(
            architecture,
            initial_weights(architecture, seed),
            bounds=data.bounds,
            penalties=Penalties(recipe.l2, recipe.weight_decay),
            seed=seed,
        )
        title = f"training {target} in {backend}"
        with self.while_training():
            return train(
                trainer, data.train, data.validation, recipe,
                seed=seed, title=title, checkpoint=checkpoint,
            )  # fmt: skip

    def _twins_of(self, subject: Subject) -> Twins:
        """Models that know less than a subject's; the last is trained, in a second or so."""
        made, bounds = registry.backend(subject.backend), self.dataset.bounds
        architecture, weights = self.architecture(subject.target), subject.model.weights()
        seeds = [[self.spec.seed, salt] for salt in range(1, 4)]
        first, second, third = (initial_weights(architecture, seed) for seed in seeds)
        trainer = made.trainer(
            architecture, third, bounds=bounds, penalties=Penalties(), seed=self.spec.seed
        )
        pupil = taught_random_labels(
            trainer, self.dataset.train.x, architecture.classes, self.spec.seed
        )
        *random_layers, random, nonsense = (
            made.build(architecture, of, bounds=bounds)
            for of in (*cascade(weights, first), second, pupil)
        )
        exact, oracle = self._in_float64(subject)
        return Twins(tuple(random_layers), random, nonsense, exact, oracle)

    def _in_float64(self, subject: Subject) -> tuple[Model, Model]:
        """A subject's network in float64: its own backend's, and the NumPy backend's."""
        architecture, weights = self.architecture(subject.target), subject.model.weights()
        exact, oracle = (
            registry.backend(name).build(
                architecture, weights, bounds=self.dataset.bounds, dtype="float64"
            )
            for name in (subject.backend, "numpy")
        )
        return exact, oracle

    def _case(self, subject: Subject) -> Case:
        exact, oracle = self._in_float64(subject)
        x, y = subject.x, subject.y
        return Case(subject.model, x[:16], y[:16], exact, oracle, test_x=x, test_y=y)
