"""A spec opened: its data, its models and their evaluations, each made once, and the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial

import numpy as np

from harness import registry
from harness.data import load_dataset
from harness.data.dataset import Dataset
from harness.evaluation.evaluation import Evaluation, Measures
from harness.evaluation.models import Trainable
from harness.evaluation.resolve import attack_of, resolved
from harness.networks.families import options_for
from harness.results import keys
from harness.results.provenance import new_run
from harness.results.recorder import Recorder
from harness.spec.spec import Spec


class Benchmark:
    """Everything a spec speaks of, made when first needed.

    Args:
        spec: The benchmark.
        retrain: Train models even if they are stored.
        while_training: Entered around each training; a host that captures output lets the
            progress bar through here.
        save: Writes the run; called after each measurement.
        selected: The epsilons that will be asked for, by backend, model and attack; of a sweep that
            is not there, all.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        retrain: bool = False,
        while_training: Callable[[], AbstractContextManager[None]] = nullcontext,
        save: Callable[[], None] = lambda: None,
        selected: Mapping[tuple[str, str, str], Sequence[float]] | None = None,
    ) -> None:
        self.spec = spec = resolved(spec)
        self.measures = Measures.of(spec, partial(attack_of, spec))
        self.run = new_run(spec.model_dump(mode="json"))
        self.run.spec = self.measures.told(self.run.spec)
        for name, model in spec.models.items():
            options = options_for(model.architecture, model.options)
            self.run.spec["models"][name] |= options.model_dump(mode="json")
        self.run.gate = spec.gate
        self._retrain, self._while_training = retrain, while_training
        self._save = save
        self._selected = {} if selected is None else selected
        self._evaluations: dict[tuple[str, str], Evaluation] = {}

    @cached_property
    def dataset(self) -> Dataset:
        """The data of the spec."""
        dataset = load_dataset(self.spec.data)
        self.run.data_sha256 = dataset.sha256
        self.run.classes = dataset.classes
        self.run.arrays[keys.LABELS] = dataset.test.y.astype(np.int32)
        return dataset

    def evaluation(self, backend: str, name: str) -> Evaluation:
        """A model in a backend, on the test images; it is loaded, or trained now."""
        key = (backend, name)
        if key not in self._evaluations:
            test = self.dataset.test
            loaded, info = self._trainable.loaded(backend, name, self.spec.models[name])
            self.run.versions |= registry.backend(backend).versions()
            self.run.put_model(info)
            recorder = Recorder(self.run, backend, name, self._save)
            chosen = {attack: e for (*of, attack), e in self._selected.items() if (*of,) == key}
            self._evaluations[key] = Evaluation(
                loaded, test.x, test.y, recorder, self.measures, chosen
            )
        return self._evaluations[key]

    @cached_property
    def _trainable(self) -> Trainable:
        return Trainable(self.dataset, self.spec.seed, self._retrain, self._while_training)
