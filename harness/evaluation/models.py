"""Models to evaluate: each becomes a ``LoadedModel``, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from harness import registry
from harness.data.dataset import Dataset
from harness.evaluation.references import References
from harness.networks.families import architecture_of
from harness.networks.initial import initial_weights
from harness.protocol import Architecture, Builder, Model, Network, Optimizer, Wrapping
from harness.results.records import Epoch, ModelInfo
from harness.spec.models import ModelSpec
from harness.spec.training import TrainingSpec
from harness.training.loop import Trained, train
from harness.training.store import ModelKey, load_or_train


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model, and what is known of where it comes from.

    Attributes:
        model: What can be asked.
        backend: Name of its backend.
        history: Its training, epoch by epoch; empty if the harness did not train it.
        best_epoch: The epoch whose weights it has, from 1; 0 likewise.
        references: What checks compare it with; None where its network is not known.
    """

    model: Model
    backend: str
    history: tuple[Epoch, ...] = ()
    best_epoch: int = 0
    references: References | None = None


class Trainable:
    """The models of a spec that the harness trains itself, or finds stored.

    Args:
        data: What they are trained on.
        seed: Of the trainings.
        retrain: Train them even if they are stored.
        while_training: Entered around each training; a host that captures output lets the
            progress bar through here.
    """

    def __init__(
        self,
        data: Dataset,
        seed: int,
        retrain: bool,
        while_training: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._data, self._seed = data, seed
        self._retrain, self._while_training = retrain, while_training

    def loaded(self, backend: str, name: str, wanted: ModelSpec) -> tuple[LoadedModel, ModelInfo]:
        """The model of that name in a backend, and where it came from."""
        made, data = registry.builder(backend), self._data
        architecture = architecture_of(
            wanted.architecture, wanted.options, data.input_shape, len(data.classes)
        )
        key = ModelKey(data.sha256, architecture, wanted.training, self._seed, made)
        trained, cached = load_or_train(
            key,
            lambda path: self._train(made, name, architecture, wanted.training, path),
            retrain=self._retrain,
        )
        info = ModelInfo(
            model=name, backend=backend, fingerprint=key.fingerprint, cached=cached,
            best_epoch=trained.best_epoch, history=trained.history,
        )  # fmt: skip
        network, how = Network(architecture, trained.weights), Wrapping(data.bounds)
        model = made.build(network, how)
        references = References(backend, network, how, data.train.x, self._seed)
        loaded = LoadedModel(model, backend, trained.history, trained.best_epoch, references)
        return loaded, info

    def _train(
        self,
        made: Builder,
        name: str,
        architecture: Architecture,
        recipe: TrainingSpec,
        checkpoint: Path,
    ) -> Trained:
        data, seed = self._data, self._seed
        trainer = made.trainer(
            Network(architecture, initial_weights(architecture, seed)),
            Wrapping(data.bounds),
            Optimizer(recipe.l2, recipe.weight_decay),
            seed=seed,
        )
        title = f"training {name} in {made.name}"
        with self._while_training():
            return train(
                trainer, data.train, data.validation, recipe,
                seed=seed, title=title, checkpoint=checkpoint,
            )  # fmt: skip
