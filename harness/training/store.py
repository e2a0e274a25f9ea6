"""Trained models on disk, one safetensors file under the fingerprint of all that made it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.errors import HarnessError, one_line
from harness.files import cache_dir, check_folder, fingerprint
from harness.networks.description import described
from harness.protocol import (
    Architecture,
    Backend,
    BatchNorm,
    Dense,
    Dropout,
    fully_connected,
)
from harness.results.provenance import installed_version
from harness.spec.training import TrainingSpec
from harness.training.checkpoint import Notes, fits, read_tensors, write_tensors
from harness.training.loop import Trained, TrainingError


class StoreError(HarnessError):
    """A store of trained models that cannot be written to."""


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
                "architecture": _described(self.architecture),
                "recipe": self.recipe.model_dump(mode="json"),
                "seed": self.seed,
                "backend": self.backend.name,
                "versions": self.backend.versions(),
                "harness": installed_version("robustness-harness"),
            }
        )

    @property
    def path(self) -> Path:
        """Where the model is kept."""
        return cache_dir() / "models" / f"{self.fingerprint}.safetensors"


def _described(architecture: Architecture) -> dict[str, Any]:
    """All that an architecture is made of, for a fingerprint.

    A fully connected network is described by the widths of its layers, as it was before there were
    other layers, so that what was stored of it is still found.
    """
    shape, classes = architecture.input_shape, architecture.classes
    hidden = [layer.width for layer in architecture.layers if isinstance(layer, Dense)][:-1]
    drops = {layer.share for layer in architecture.layers if isinstance(layer, Dropout)}
    dropout, batch_norm = max(drops, default=0.0), BatchNorm() in architecture.layers
    given: dict[str, Any] = {"input_shape": shape, "classes": classes}
    if architecture.layers == fully_connected(shape, hidden, classes, dropout, batch_norm).layers:
        return given | {"hidden": hidden, "dropout": dropout, "batch_norm": batch_norm}
    return described(architecture)


def load_or_train(
    key: ModelKey, train: Callable[[Path], Trained], *, retrain: bool
) -> tuple[Trained, bool]:
    """The stored model, or a newly trained one, which is then stored.

    ``train`` is given a file for its checkpoints, which is removed when it is done.

    Two processes that want the same model take turns: the second finds what the first trained.

    Returns:
        The model, and whether it came from the store. A damaged file counts as none.

    Raises:
        StoreError: There is none, and the store cannot be written to.
    """
    path = key.path
    # Without the lock, so that a store can be used that is only to be read.
    if not retrain and (stored := read_model(path, key.architecture)) is not None:
        return stored, True
    with _locked(path):
        stored = None if retrain else read_model(path, key.architecture)
        if stored is not None:
            return stored, True
        checkpoint = path.with_suffix(".checkpoint")
        if retrain:
            checkpoint.unlink(missing_ok=True)
        try:
            trained = train(checkpoint)
        except TrainingError:
            # What it diverged from is no start for the next one.
            checkpoint.unlink(missing_ok=True)
            raise
        write_model(path, trained)
        checkpoint.unlink(missing_ok=True)
        return trained, False


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Take turns at a model, once it is sure that it could be stored.

    Raises:
        StoreError: It could not.
    """
    folder = path.parent
    try:
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise HarnessError(f"{path} is a folder; remove it")
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire()
    except (HarnessError, OSError) as error:
        raise StoreError(
            f"trained models cannot be stored ({one_line(error)}); set HARNESS_CACHE_DIR to a "
            "folder that can be written"
        ) from error
    try:
        yield
    finally:
        lock.release()


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
    if not fits(weights, architecture.weight_shapes()):
        return None
    return Trained(weights, notes.best_epoch, notes.history)
