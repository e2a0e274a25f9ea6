"""Finished pieces on disk, a file each: what was measured once is found again."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from harness.checks.validity import Basis, Probed
from harness.errors import HarnessError
from harness.evaluation.parts import (
    Arrays,
    AttackedPart,
    CertifiedPart,
    CleanPart,
    Part,
    SmallestPart,
    packed,
    unpacked,
)
from harness.files import as_json, document_of
from harness.results.arrays import ArraysError, read_arrays, write_arrays
from harness.results.recorder import Broken
from harness.results.run import Run

FOLDER = ".pieces"
"""Where they lie in the folder of a run."""
DOCUMENT = "document"
KEPT = 30 * 24 * 3600
"""Seconds for which a piece is kept that no run asks for, as after a change that may be undone."""
KINDS: Mapping[str, type[Part] | type[Broken]] = {
    kind.__name__: kind
    for kind in (CleanPart, AttackedPart, CertifiedPart, SmallestPart, Basis, Probed, Broken)
}


@dataclass(frozen=True)
class Finished:
    """What came of a piece.

    Attributes:
        when: When it was measured, in ISO 8601.
        run: What it says of the model, and its records and arrays, where it counts no images.
        part: What came of its images.
        randomised: Whether the model is random on purpose.
        queries: How many images a black box was asked of for it; None of other models.
    """

    when: str
    run: Run
    part: Part | Broken | None = None
    randomised: bool = False
    queries: int | None = None

    def packed(self) -> tuple[str, Arrays]:
        """The same as JSON and arrays, which can be sent and stored."""
        values, arrays = packed(self.part, "part/") if self.part is not None else ({}, {})
        document = {
            "when": self.when,
            "run": document_of(self.run),
            "kind": type(self.part).__name__ if self.part is not None else "",
            "part": values,
            "randomised": self.randomised,
            "queries": self.queries,
        }
        arrays |= {f"run/{key}": array for key, array in self.run.arrays.items()}
        return as_json(document), arrays

    @classmethod
    def unpacked(cls, text: str, arrays: Arrays) -> Finished:
        """What was packed.

        Raises:
            ValueError: It is none of that kind.
        """
        document: dict[str, Any] = json.loads(text)
        try:
            kind = document["kind"]
            part = unpacked(KINDS[kind], document["part"], arrays, "part/") if kind else None
            run = Run.model_validate(document["run"])
            when, queries = str(document["when"]), document["queries"]
            randomised = bool(document["randomised"])
        except (KeyError, TypeError, ValidationError) as error:
            raise ValueError(f"not what came of a piece: {error}") from error
        begin = "run/"
        run.arrays.update({k.removeprefix(begin): a for k, a in arrays.items() if k[:4] == begin})
        return cls(when, run, part, randomised, queries)


class Store:
    """The finished pieces of runs in one folder.

    Args:
        results: The folder of the run.
    """

    def __init__(self, results: Path) -> None:
        self._folder = results / FOLDER

    @property
    def there(self) -> bool:
        """Whether there are any."""
        return self._folder.is_dir()

    def find(self, key: str) -> Finished | None:
        """What came of the piece of that key; None if it is not there, or damaged."""
        try:
            arrays, _ = read_arrays(self._path(key))
            os.utime(self._path(key))  # it is in use
            return Finished.unpacked(arrays.pop(DOCUMENT).tobytes().decode(), arrays)
        except (OSError, ArraysError, ValueError, KeyError):
            return None

    def put(self, key: str, text: str, arrays: Arrays) -> None:
        """Keep what came of a piece, complete or not at all.

        Raises:
            HarnessError: It cannot be written, such as to a disk that is full.
        """
        document = np.frombuffer(text.encode(), dtype=np.uint8)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_arrays(self._path(key), {DOCUMENT: document, **arrays})
        except OSError as error:
            raise HarnessError(
                f"{error.filename or self._folder}: what was measured cannot be kept "
                f"({error.strerror or error}); make room, or name another folder with --out"
            ) from error

    def prune(self) -> None:
        """Forget what no run has asked for in a month, and what was half-written then."""
        oldest = time.time() - KEPT
        with suppress(OSError):  # others' files, or another run that prunes
            for path in self._folder.iterdir():
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def clear(self) -> None:
        """Forget all of them."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self._folder)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"
