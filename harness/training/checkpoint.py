"""A training that was interrupted, on disk: one safetensors file, written after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from harness.files import replacing
from harness.protocol import FloatArray, Weights
from harness.results.records import Epoch


class Notes(BaseModel):
    """What a file of weights says of their training, in its metadata."""

    model_config = ConfigDict(extra="forbid")

    best_epoch: int
    history: tuple[Epoch, ...]


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on.

    Attributes:
        history: The epochs so far.
        best_epoch: The best of them.
        best_weights: Its weights.
        averaged: The averaged weights, empty if there are none.
        trainer: The trainer's state.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    best_weights: Weights
    averaged: dict[str, FloatArray]
    trainer: Mapping[str, npt.NDArray[Any]]

    def write(self, path: Path) -> None:
        """Write the checkpoint, complete or not at all."""
        groups = {"best": self.best_weights, "averaged": self.averaged, "trainer": self.trainer}
        tensors = {
            f"{group}:{name}": value
            for group, values in groups.items()
            for name, value in values.items()
        }
        write_tensors(path, tensors, Notes(best_epoch=self.best_epoch, history=self.history))

    @classmethod
    def read(cls, path: Path) -> Checkpoint | None:
        """The checkpoint in a file; None if there is none, or it is damaged."""
        found = read_tensors(path)
        if found is None:
            return None
        tensors, notes = found
        groups: dict[str, dict[str, npt.NDArray[Any]]] = {"best": {}, "averaged": {}, "trainer": {}}
        for key, value in tensors.items():
            group, _, name = key.partition(":")
            groups.setdefault(group, {})[name] = value
        return cls(
            notes.history, notes.best_epoch, groups["best"], groups["averaged"], groups["trainer"]
        )


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[Any]], notes: Notes) -> None:
    """Write arrays with the history of their training as metadata, complete or not at all."""
    # Not ascontiguousarray, which makes a scalar an array of one.
    contiguous = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    with replacing(path) as stream:
        stream.write(save(contiguous, metadata={"training": notes.model_dump_json()}))


def read_tensors(path: Path) -> tuple[dict[str, npt.NDArray[Any]], Notes] | None:
    """What ``write_tensors`` wrote; None if the file is missing, damaged, or holds no numbers."""
    try:
        with safe_open(path, framework="numpy") as stored:
            # A safetensors file is read by name; it is no mapping that could be iterated.
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            notes = Notes.model_validate_json((stored.metadata() or {})["training"])
    # The last two for a dtype that NumPy does not have, such as BF16.
    except (OSError, KeyError, ValueError, SafetensorError, TypeError, AttributeError):
        return None
    numbered = [epoch.epoch for epoch in notes.history] == [*range(1, len(notes.history) + 1)]
    whole = numbered and 1 <= notes.best_epoch <= len(notes.history)
    finite = all(np.isfinite(value).all() for value in tensors.values())
    return (tensors, notes) if whole and finite else None


def fits(weights: Mapping[str, npt.NDArray[Any]], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether weights have these names and shapes, and are float32."""
    return {name: value.shape for name, value in weights.items()} == dict(shapes) and all(
        value.dtype == np.float32 for value in weights.values()
    )
