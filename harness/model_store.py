"""Trained models on disk, one safetensors file under the fingerprint of all that made it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

import harness
from harness.cache import cache_dir
from harness.protocol import Architecture, Backend, FloatArray
from harness.records import Epoch, replacing
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


class _Notes(BaseModel):
    """What the weight file says of its training, in its metadata."""

    model_config = ConfigDict(extra="forbid")

    best_epoch: int
    history: tuple[Epoch, ...]


def load_or_train(
    key: ModelKey, train: Callable[[], Trained], *, retrain: bool
) -> tuple[Trained, bool]:
    """The stored model, or a newly trained one, which is then stored.

    Two processes that want the same model take turns: the second finds what the first trained.

    Returns:
        The model, and whether it came from the store. A damaged file counts as none.
    """
    key.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(key.path.with_suffix(".lock")):
        stored = None if retrain else read_model(key.path, key.architecture)
        if stored is not None:
            return stored, True
        trained = train()
        write_model(key.path, trained)
        return trained, False


def write_model(path: Path, trained: Trained) -> None:
    """Write weights, and the history as metadata, complete or not at all."""
    notes = _Notes(best_epoch=trained.best_epoch, history=trained.history)
    tensors = {name: np.ascontiguousarray(value) for name, value in trained.weights.items()}
    with replacing(path) as stream:
        stream.write(save(tensors, metadata={"training": notes.model_dump_json()}))


def read_model(path: Path, architecture: Architecture) -> Trained | None:
    """The model in a file, or None if there is none that fits the architecture."""
    weights: dict[str, FloatArray] = {}
    try:
        with safe_open(path, framework="numpy") as stored:
            for name, shape in architecture.weight_shapes().items():
                weights[name] = stored.get_tensor(name)
                if weights[name].shape != shape:
                    return None
            notes = _Notes.model_validate(json.loads((stored.metadata() or {})["training"]))
    except (OSError, KeyError, ValueError, SafetensorError, ValidationError):
        return None
    if not 1 <= notes.best_epoch <= len(notes.history):
        return None
    return Trained(weights, notes.best_epoch, notes.history)
