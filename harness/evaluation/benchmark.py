"""A spec opened: its data, its models and their evaluations, each made once, and the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property, partial

import numpy as np

from harness import registry
from harness.data import load_dataset
from harness.data.dataset import Dataset
from harness.evaluation.evaluation import Evaluation, Measures
from harness.evaluation.imported import RUNTIME, imported_in, notes_of
from harness.evaluation.models import LoadedModel, Trainable
from harness.evaluation.own import info_of, loaded_own, own_model, with_bounds
from harness.evaluation.proportion import data_info, out_of_proportion
from harness.evaluation.resolve import attack_of, certifier_of, check_architectures, resolved
from harness.evaluation.wrapping import backend_name_of
from harness.maths.query import logits_of
from harness.networks.families import ImageKind, options_for
from harness.protocol import Model
from harness.results import keys
from harness.results.provenance import new_run
from harness.results.recorder import Recorder
from harness.results.records import ModelInfo
from harness.spec.spec import Spec


class Benchmark:
    """Everything a spec speaks of, made when first needed.

    Args:
        spec: The benchmark.
        retrain: Train models even if they are stored.
        shown: Entered around each training and measurement; a host that captures output lets the
            progress bar through here.
        save: Writes the run; called after each measurement.
        selected: The epsilons that will be asked for, by backend, model and check; of a sweep that
            is not there, all.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        retrain: bool = False,
        shown: Callable[[], AbstractContextManager[None]] = nullcontext,
        save: Callable[[], None] = lambda: None,
        selected: Mapping[tuple[str, str, str], Sequence[float]] | None = None,
    ) -> None:
        self.spec = spec = resolved(spec)
        self.measures = Measures.of(spec, partial(attack_of, spec), partial(certifier_of, spec))
        self.run = new_run(spec.model_dump(mode="json"))
        self.run.spec = self.measures.told(self.run.spec)
        for name, model in spec.trained.items():
            options = options_for(model.architecture, model.options)
            self.run.spec["models"][name] |= options.model_dump(mode="json")
        self.run.gate = spec.gate
        self._retrain, self._shown = retrain, shown
        self._save = save
        self._selected = {} if selected is None else selected
        self._models: dict[tuple[str, str | None], Model] = {}
        self._evaluations: dict[tuple[str, str], Evaluation] = {}

    @cached_property
    def dataset(self) -> Dataset:
        """The data of the spec."""
        dataset = load_dataset(self.spec.data, self.spec.home)
        if dataset.train is not None:
            images = ImageKind.of(dataset.input_shape, len(dataset.classes), dataset.channel_axis)
            check_architectures(self.spec, images)
        self.run.data_sha256 = dataset.sha256
        self.run.classes = dataset.classes
        self.run.arrays[keys.LABELS] = dataset.test.y.astype(np.int32)
        self.run.data = data_info(dataset)
        self.run.notes += [*dataset.notes, *out_of_proportion(self.measures, dataset.bounds)]
        return dataset

    def backend_of(self, name: str) -> str:
        """The backend that somebody's own model is of; it is loaded for that.

        Raises:
            SpecError: It cannot be loaded.
        """
        return backend_name_of(self._own(name))[0]

    def pairs(self, backends: Sequence[str], named: Sequence[str] = ()) -> list[tuple[str, str]]:
        """Backend and name of each model; of somebody's own the backend that it is of.

        Args:
            backends: In which models are trained and measured.
            named: If any, own models of other backends are left out; networks that are read from
                ONNX files are built in each of them.

        Raises:
            SpecError: An own model cannot be loaded.
        """
        spec = self.spec
        trained = [(backend, name) for backend in backends for name in spec.trained]
        own = [
            (backend, name)
            for name in spec.models if name not in spec.trained
            for backend in self._backends_of(name, named)
        ]  # fmt: skip
        return trained + own

    def evaluation(self, backend: str, name: str) -> Evaluation:
        """A model in a backend, on the test images; it is loaded, or trained now."""
        key = (backend, name)
        if key not in self._evaluations:
            test = self.dataset.test
            loaded, info, versions = self._loaded(backend, name)
            self.run.versions |= versions
            self.run.put_model(info)
            self._name_classes(loaded)
            recorder = Recorder(self.run, backend, name, self._save)
            chosen = {check: e for (*of, check), e in self._selected.items() if (*of,) == key}
            self._evaluations[key] = Evaluation(
                loaded,
                test.x,
                test.y,
                recorder,
                self.measures,
                chosen,
                while_measuring=self._shown,
            )
        return self._evaluations[key]

    def _loaded(self, backend: str, name: str) -> tuple[LoadedModel, ModelInfo, dict[str, str]]:
        if (wanted := self.spec.trained.get(name)) is not None:
            made = registry.backend(backend)
            return *self._trainable.loaded(backend, name, wanted), made.versions()
        data, model = self.dataset, self._own(name)
        if backend_name_of(model)[0] != backend:
            model = self._own(name, backend)
        notes = [f"{name}: {note}" for note in notes_of(model)]
        self.run.notes += [note for note in notes if note not in self.run.notes]
        loaded = loaded_own(model, data.train, self.spec.seed)
        source = str(self.spec.models[name].source)  # type: ignore[union-attr]  # it is an own one
        return loaded, info_of(model, name, source), backend_name_of(model)[1]

    def _own(self, name: str, backend: str | None = None) -> Model:
        key = (name, backend)
        if key not in self._models:
            model = own_model(self.spec, name, backend)
            self._models[key] = with_bounds(model, self.spec.data.bounds, f"models.{name}")
        return self._models[key]

    def _backends_of(self, name: str, named: Sequence[str]) -> list[str]:
        """The backends in which somebody's own model is measured."""
        own, able = self.backend_of(name), (*registry.builders(), RUNTIME)
        fixed = self.spec.models[name].backend is not None  # type: ignore[union-attr]
        if named and not fixed and imported_in(self._own(name)) is not None:
            return [backend for backend in named if backend in able]
        return [own] if not named or own in named else []

    def _name_classes(self, loaded: LoadedModel) -> None:
        """Where nobody has named the classes, they are numbered, as many as the model has."""
        if not self.run.classes:
            with suppress(Exception):  # what is wrong with the model, its records say
                count = logits_of(loaded.model, np.asarray(self.dataset.test.x[:1])).shape[1]
                self.run.classes = tuple(str(label) for label in range(count))

    @cached_property
    def _trainable(self) -> Trainable:
        spec = self.spec
        return Trainable(
            self.dataset, spec.seed, self._retrain, self._shown, spec.device,
            spec.batch_size,
        )  # fmt: skip
