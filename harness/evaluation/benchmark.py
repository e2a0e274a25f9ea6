"""A spec opened: its data, its models and their evaluations, each made once, and the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property, partial

import numpy as np

from harness import registry
from harness.checks.validity import Known
from harness.data import load_dataset
from harness.data.dataset import Dataset
from harness.errors import HarnessError
from harness.evaluation.evaluation import Evaluation, Measures
from harness.evaluation.imported import RUNTIME, default_backend, imported_in, notes_of
from harness.evaluation.models import LoadedModel, Trainable
from harness.evaluation.own import (
    info_of,
    loaded_own,
    model_of_weights,
    own_model,
    weights_of,
    with_bounds,
)
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
from harness.results.run import Run
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
        together: The backends whose frameworks will be needed, which are imported in the order that
            they tolerate when the first is.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        retrain: bool = False,
        shown: Callable[[], AbstractContextManager[None]] = nullcontext,
        save: Callable[[], None] = lambda: None,
        selected: Mapping[tuple[str, str, str], Sequence[float]] | None = None,
        together: Iterable[str] = (),
    ) -> None:
        self._together = together
        self.spec = spec = resolved(spec)
        self.measures = Measures.of(spec, partial(attack_of, spec), partial(certifier_of, spec))
        self.run = new_run(spec.model_dump(mode="json"))
        self.run.spec = self.measures.told(self.run.spec)
        for name, model in spec.trained.items():
            options = options_for(model.architecture, model.options)
            self.run.spec["models"][name] |= options.model_dump(mode="json")
        for name, own in spec.weights.items():
            if own.architecture is not None:
                options = options_for(own.architecture, own.described)
                self.run.spec["models"][name] |= options.model_dump(mode="json")
        self.run.gate = spec.gate
        self._retrain, self._shown = retrain, shown
        self._save = save
        self.selected = {} if selected is None else selected
        self._models: dict[tuple[str, str | None], Model] = {}
        self._loaded: dict[tuple[str, str], LoadedModel] = {}
        self._refused: dict[tuple[str, str], HarnessError] = {}
        self._evaluations: dict[tuple[str, str], Evaluation] = {}

    @cached_property
    def dataset(self) -> Dataset:
        """The data of the spec."""
        dataset = load_dataset(self.spec.data, self.spec.home)
        if dataset.train is not None:
            check_architectures(self.spec, _kind_of(dataset))
        self.run.data_sha256 = dataset.sha256
        self.run.classes = dataset.classes
        self.run.arrays[keys.LABELS] = dataset.test.y.astype(np.int32)
        self.run.data = about = data_info(dataset)
        self.run.spec["saliency"]["cover"] = self.measures.over(about).saliency.cover
        self.run.notes += [*dataset.notes, *out_of_proportion(self.measures, dataset.bounds)]
        return dataset

    def backend_of(self, name: str) -> str:
        """The backend that somebody's own model is of; it is loaded for that.

        Raises:
            SpecError: It cannot be loaded.
        """
        return backend_name_of(self.own(name))[0]

    def pairs(self, backends: Sequence[str], named: Sequence[str] = ()) -> list[tuple[str, str]]:
        """Backend and name of each model; of somebody's own the backend that it is of.

        Args:
            backends: In which models are trained and measured.
            named: If any, own models of other backends are left out; networks that are read from
                ONNX files are built in each of them. Weights are put into networks of each of
                ``backends``.

        Raises:
            SpecError: An own model cannot be loaded, or the weights of one do not fit.
        """
        spec = self.spec
        trained = [(backend, name) for backend in backends for name in spec.trained]
        own = [
            (backend, name)
            for name in spec.models if name not in spec.trained
            for backend in self._backends_of(name, named, backends)
        ]  # fmt: skip
        return trained + own

    def evaluation(self, backend: str, name: str) -> Evaluation:
        """A model in a backend, on the test images; it is loaded, or trained, when it is asked."""
        key = (backend, name)
        if key not in self._evaluations:
            self._evaluations[key] = self.evaluation_in(self.run, backend, name, self._save)
        return self._evaluations[key]

    def evaluation_in(
        self,
        run: Run,
        backend: str,
        name: str,
        save: Callable[[], None] = lambda: None,
        known: Known | None = None,
    ) -> Evaluation:
        """The same with another run for what is measured, and with what was measured elsewhere."""
        test, key = self.dataset.test, (backend, name)
        chosen = {check: e for (*of, check), e in self.selected.items() if (*of,) == key}
        return Evaluation(
            lambda: self.loaded(backend, name),
            test.x,
            test.y,
            Recorder(run, backend, name, save),
            self.measures.over(data_info(self.dataset)),
            chosen,
            while_measuring=self._shown,
            known=known,
        )

    def loaded(self, backend: str, name: str) -> LoadedModel:
        """A model in a backend, loaded or trained now; the run then says where it is from.

        Raises:
            HarnessError: It cannot be; when asked again, too.
        """
        key = (backend, name)
        if key in self._refused:
            raise self._refused[key]
        if key not in self._loaded:
            try:
                loaded, info, versions = self._load(backend, name)
            except HarnessError as error:
                self._refused[key] = error  # a training that diverges would do so again
                raise
            self.run.versions |= versions
            self.run.put_model(info)
            self._name_classes(loaded)
            self._loaded[key] = loaded
        return self._loaded[key]

    def _load(self, backend: str, name: str) -> tuple[LoadedModel, ModelInfo, dict[str, str]]:
        registry.import_together(set(self._together))
        if (wanted := self.spec.trained.get(name)) is not None:
            made = registry.backend(backend)
            return *self._trainable.loaded(backend, name, wanted), made.versions()
        data = self.dataset
        model = self.own(name, backend if name in self.spec.weights else None)
        if backend_name_of(model)[0] != backend:
            model = self.own(name, backend)
        notes = [f"{name}: {note}" for note in notes_of(model)]
        self.run.notes += [note for note in notes if note not in self.run.notes]
        loaded = loaded_own(model, data.train, self.spec.seed)
        source = str(self.spec.models[name].source)  # type: ignore[union-attr]  # it is an own one
        return loaded, info_of(model, name, source), backend_name_of(model)[1]

    def own(self, name: str, backend: str | None = None) -> Model:
        """Somebody's own model, loaded now; in a backend, if it is built here."""
        key = (name, backend)
        if key not in self._models:
            registry.import_together(set(self._together))
            if name in self.spec.weights:
                built_in = backend or self._built_in(name)[0]
                model = model_of_weights(self.spec, name, built_in, _kind_of(self.dataset))
            else:
                model = own_model(self.spec, name, backend)
            self._models[key] = with_bounds(model, self.spec.data.bounds, f"models.{name}")
        return self._models[key]

    def _backends_of(
        self, name: str, named: Sequence[str], backends: Sequence[str] = ()
    ) -> list[str]:
        """The backends in which somebody's own model is measured."""
        if name in self.spec.weights:
            weights_of(self.spec, name, _kind_of(self.dataset))  # what is wrong with it is said now
            return self._built_in(name, named, backends)
        own, able = self.backend_of(name), (*registry.builders(), RUNTIME)
        fixed = self.spec.models[name].backend is not None  # type: ignore[union-attr]
        if named and not fixed and imported_in(self.own(name)) is not None:
            return [backend for backend in named if backend in able]
        return [own] if not named or own in named else []

    def _built_in(
        self, name: str, named: Sequence[str] = (), backends: Sequence[str] = ()
    ) -> list[str]:
        """The backends in which a network of somebody's weights is built."""
        weights = self.spec.weights[name]
        if weights.backend is not None:
            return [weights.backend] if not named or weights.backend in named else []
        wanted = named or backends or self.spec.backends or [default_backend()]
        able = registry.builders()
        return [backend for backend in wanted if backend in able]

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


def _kind_of(dataset: Dataset) -> ImageKind:
    """What a network for the images of a dataset has to know of them."""
    labels = len(dataset.classes) or int(dataset.test.y.max()) + 1
    return ImageKind.of(dataset.input_shape, labels, dataset.channel_axis)
