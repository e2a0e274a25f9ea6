"""Trained models on disk, one safetensors file under the fingerprint of all that made it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

import harness
from harness.cache import cache_dir
from harness.checkpoint import Notes, read_tensors, write_tensors
from harness.protocol import Architecture, Backend
from harness.spec import TrainingSpec, fingerprint
from harness.training import Trained


@dataclass(frozen=True)
class ModelKey:
    """All that determines a trained model."""

    data_sha256: str
    architecture: Architecture
    recipe: TrainingSpec
    seed: int
    backend: Backend

    @property
    def fingerprint(self) -> str:
        """SHA-256 over data, architecture, recipe, seed, backend, and all versions."""
        return fingerprint(
            {
                "data": self.data_sha256,
                "architecture": asdict(self.architecture),
                "recipe": self.recipe.model_dump(mode="json"),
                "seed": self.seed,
                "backend": self.backend.name,
                "versions": self.backend.versions(),
                "harness": harness.__version__,
            }
        )

    @property
    def path(self) -> Path:
        """Where the model is kept."""
        return cache_dir() / "models" / f"{self.fingerprint}.safetensors"


def load_or_train(
    key: ModelKey, train: Callable[[Path], Trained], *, retrain: bool
) -> tuple[Trained, bool]:
    """The stored model, or a newly trained one, which is then stored.

    ``train`` is given a file for its checkpoints, which is removed when it is done.

    Two processes that want the same model take turns: the second finds what the first trained.

    Returns:
        The model, and whether it came from the store. A damaged file counts as none.
    """
    key.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(key.path.with_suffix(".lock")):
        stored = None if retrain else read_model(key.path, key.architecture)
        if stored is not None:
            return stored, True
        checkpoint = key.path.with_suffix(".checkpoint")
        if retrain:
            checkpoint.unlink(missing_ok=True)
        trained = train(checkpoint)
        write_model(key.path, trained)
        checkpoint.unlink(missing_ok=True)
        return trained, False


def write_model(path: Path, trained: Trained) -> None:
    """Write weights, and the history as metadata, complete or not at all."""
    notes = Notes(best_epoch=trained.best_epoch, history=trained.history)
    write_tensors(path, trained.weights, notes)


def read_model(path: Path, architecture: Architecture) -> Trained | None:
    """The model in a file, or None if there is none that fits the architecture."""
    found = read_tensors(path)
    if found is None:
        return None
    weights, notes = found
    shapes = {name: value.shape for name, value in weights.items()}
    if shapes != architecture.weight_shapes():
        return None
    return Trained(weights, notes.best_epoch, notes.history)
