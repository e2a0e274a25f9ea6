"""Models to evaluate: each becomes a ``LoadedModel``, wherever it comes from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from harness import registry
from harness.data.dataset import Dataset
from harness.evaluation.references import BuiltReferences, References
from harness.maths.around import Limited
from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights
from harness.protocol import (
    Architecture,
    Builder,
    Model,
    Network,
    Optimizer,
    Wrapping,
    differentiable,
)
from harness.results.records import Epoch, ModelInfo
from harness.spec.models import ModelSpec
from harness.spec.training import TrainingSpec
from harness.training.loop import Trained, train
from harness.training.store import ModelKey, load_or_train

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model, and what is known of where it comes from.

    Attributes:
        model: What can be asked.
        backend: Name of its backend.
        history: Its training, epoch by epoch; empty if the harness did not train it.
        best_epoch: The epoch whose weights it has, from 1; 0 likewise.
        references: What checks compare it with; None of a black box.
        network: Its layers and weights, where they are known: of a model that was built here.
    """

    model: Model
    backend: str
    history: tuple[Epoch, ...] = ()
    best_epoch: int = 0
    references: References | None = None
    network: Network | None = None


class Trainable:
    """The models of a spec that the harness trains itself, or finds stored.

    Args:
        data: What they are trained on.
        seed: Of the trainings.
        retrain: Train them even if they are stored.
        while_training: Entered around each training; a host that captures output lets the
            progress bar through here.
        device: Where they are trained and measured.
        batch_size: Images at a time in measurements; what fits into memory if None.
    """

    def __init__(
        self,
        data: Dataset,
        seed: int,
        retrain: bool,
        while_training: Callable[[], AbstractContextManager[None]],
        device: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self._data, self._seed = data, seed
        self._how, self._batch_size = Wrapping(data.bounds, device=device), batch_size
        self._retrain, self._while_training = retrain, while_training

    def loaded(self, backend: str, name: str, wanted: ModelSpec) -> tuple[LoadedModel, ModelInfo]:
        """The model of that name in a backend, and where it came from."""
        made, data = registry.builder(backend), self._data
        train, _ = data.fitted()
        images = ImageKind.of(data.input_shape, len(data.classes), data.channel_axis)
        architecture = architecture_of(wanted.architecture, wanted.options, images)
        key = ModelKey(data.sha256, architecture, wanted.training, self._seed, made)
        trained, cached = load_or_train(
            key,
            lambda path: self._train(made, name, architecture, wanted.training, path),
            retrain=self._retrain,
        )
        info = ModelInfo(
            model=name, backend=backend, fingerprint=key.fingerprint, cached=cached,
            best_epoch=trained.best_epoch, history=trained.history, kind=wanted.architecture,
            parameters=sum(weight.size for weight in trained.weights.values()),
            device=self._how.device or "cpu",
        )  # fmt: skip
        LOG.info("%s in %s: %s", name, backend, "stored weights" if cached else "trained")
        network = Network(architecture, trained.weights)
        model = made.build(network, self._how)
        if self._batch_size is not None:
            model = differentiable(Limited(model, self._batch_size))
        references = BuiltReferences(backend, network, self._how, train.x, self._seed)
        loaded = LoadedModel(
            model, backend, trained.history, trained.best_epoch, references, network
        )
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
            self._how,
            Optimizer(recipe.l2, recipe.weight_decay),
            seed=seed,
        )
        title = f"training {name} in {made.name}"
        with self._while_training():
            return train(
                trainer, *data.fitted(), recipe,
                seed=seed, title=title, checkpoint=checkpoint,
            )  # fmt: skip
