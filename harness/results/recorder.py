"""What is measured of one model goes into the run, also when it broke, and is saved."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import CheckFailed, MeasurementError, NotApplicable, one_line
from harness.protocol import NormName
from harness.results import keys
from harness.results.records import Record, Timing, counted
from harness.results.run import Run

PICTURES = 512 * 2**10
"""Bytes of float32 pictures under one key, from which follows how many are kept, but at least one.
Ten of 64×64×3 pixels fit, and one of 224×224×3."""
ALL_PICTURES = 32 * 2**20
"""Bytes of pictures that are kept of one model; what would go beyond is left out."""


class Recorder:
    """Records of one model in one backend.

    Args:
        run: Takes the records and arrays.
        backend: Name of the backend.
        model: Name of the model.
        save: Writes the run; called after each measurement, before it is judged.
    """

    def __init__(
        self, run: Run, backend: str, model: str, save: Callable[[], None] = lambda: None
    ) -> None:
        self.run = run
        self.backend = backend
        self.model = model
        self.save = save
        self._pictures: dict[str, int] = {}

    def found(self, check: str, epsilon: float | None = None) -> Record | None:
        """The record of a measurement that was made already."""
        return self.run.find((self.model, self.backend, check, epsilon))

    def blank(
        self, check: str, epsilon: float | None = None, norm: NormName | None = None
    ) -> Record:
        """A record that says nothing yet, and is not in the run."""
        return Record(
            model=self.model, backend=self.backend, check=check, epsilon=epsilon, norm=norm
        )

    def put(self, record: Record) -> Record:
        """The record, which is now in the run."""
        self.run.put(record)
        return record

    def counted(
        self,
        check: str,
        correct: int,
        total: int,
        epsilon: float | None = None,
        *,
        norm: NormName | None = None,
        value: float | None = None,
        draws: int = 1,
    ) -> Record:
        """Put an accuracy that was counted, with its interval."""
        record = counted(
            self.model, self.backend, check, correct, total, epsilon, norm=norm, draws=draws
        )
        return self.put(record.model_copy(update={"value": value}))

    def valued(self, check: str, value: float, norm: NormName | None = None) -> Record:
        """Put a measurement that is no accuracy."""
        return self.put(self.blank(check, norm=norm).model_copy(update={"value": value}))

    def checked(self, check: str, make: Callable[[], str | None]) -> Record:
        """Put what came of a check; one that passes may return a note."""
        record = self.blank(check)
        try:
            told = make()
        except CheckFailed as error:
            return self.put(record.judged("failed", str(error)))
        except NotApplicable as error:
            return self.put(record.judged("skipped", str(error)))
        except Exception as error:
            return self.broken(check, error)
        note = told if isinstance(told, str) else ""  # of another package it may be anything
        return self.put(record.judged("passed", note))

    def skipped(
        self,
        check: str,
        reason: str,
        epsilon: float | None = None,
        norm: NormName | None = None,
    ) -> Record:
        """Put what cannot be measured of this model, with the reason."""
        return self.put(self.blank(check, epsilon, norm).judged("skipped", reason))

    def broken(
        self,
        check: str,
        error: Exception,
        epsilon: float | None = None,
        norm: NormName | None = None,
    ) -> Record:
        """Put what a measurement ended with that could not be made; or does not apply."""
        if isinstance(error, NotApplicable):
            return self.skipped(check, str(error), epsilon, norm)
        expected = isinstance(error, MeasurementError)
        reason = str(error) if expected else f"{type(error).__name__}: {error}"
        return self.put(self.blank(check, epsilon, norm).judged("error", one_line(reason)))

    @contextmanager
    def timed(self, check: str, images: int, epsilons: int = 1) -> Iterator[None]:
        """Note how long a measurement takes, unless it breaks."""
        begin = time.perf_counter()
        yield
        self.run.timings.append(
            Timing(
                model=self.model, backend=self.backend, check=check, images=images,
                epsilons=epsilons, seconds=time.perf_counter() - begin,
            )
        )  # fmt: skip

    def kept(self, key: str) -> npt.NDArray[Any] | None:
        """The array under that key of this model, if there is one."""
        return self.run.arrays.get(keys.of(self.backend, self.model, key))

    def keep(self, key: str, values: npt.NDArray[Any]) -> None:
        """Keep an array."""
        self.run.arrays[keys.of(self.backend, self.model, key)] = values

    def keep_pictures(self, key: str, values: npt.NDArray[Any]) -> None:
        """Keep pictures (m, *shape) as float32, or masks as they are, if there is room for them."""
        pictures = values if values.dtype == np.bool_ else values.astype(np.float32)
        sizes = self._pictures | {key: pictures.nbytes}
        if sum(sizes.values()) <= ALL_PICTURES:
            self._pictures = sizes
            self.keep(key, pictures)
