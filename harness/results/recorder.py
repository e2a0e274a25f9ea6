"""What is measured of one model goes into the run, also when it broke, and is saved."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import CheckFailed, MeasurementError, NotApplicable, one_line
from harness.maths.pictures import SIDE, channels_of, over_channels, plane_of, shrunk
from harness.protocol import NormName
from harness.results import keys
from harness.results.records import Record, Status, Timing, counted
from harness.results.run import Run

ALL_PICTURES = 8_000_000
"""Bytes of pictures that are kept of one model; what would go beyond is left out."""


@dataclass(frozen=True)
class Broken:
    """Why a measurement could not be made, or does not apply.

    Attributes:
        status: ``error`` or ``skipped``.
        reason: In one line.
    """

    status: Status
    reason: str

    @classmethod
    def of(cls, error: Exception) -> Broken:
        """What is to be said of whatever was raised."""
        if isinstance(error, NotApplicable):
            return cls("skipped", one_line(str(error)))
        expected = isinstance(error, MeasurementError)
        return cls(
            "error", one_line(str(error) if expected else f"{type(error).__name__}: {error}")
        )


class Recorder:
    """Records of one model in one backend.

    Args:
        run: Takes the records and arrays.
        backend: Name of the backend.
        model: Name of the model.
        save: Writes the run; called after each measurement, before it is judged.

    Attributes:
        randomised: Whether the model is random on purpose, which its accuracies then say.
    """

    def __init__(
        self, run: Run, backend: str, model: str, save: Callable[[], None] = lambda: None
    ) -> None:
        self.run = run
        self.backend = backend
        self.model = model
        self.save = save
        self.randomised = False
        self._pictures: dict[str, int] = {}
        self._shape: tuple[int, ...] = ()

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
        forwards: float | None = None,
        backwards: float | None = None,
        draws: int = 1,
    ) -> Record:
        """Put an accuracy that was counted, with its interval; see ``Record``."""
        record = counted(
            self.model, self.backend, check, correct, total, epsilon, norm=norm, draws=draws
        )
        told = {"value": value, "forwards": forwards, "backwards": backwards}
        return self.put(record.model_copy(update=told | {"randomised": self.randomised}))

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
        error: Exception | Broken,
        epsilon: float | None = None,
        norm: NormName | None = None,
    ) -> Record:
        """Put what a measurement ended with that could not be made; or does not apply."""
        why = error if isinstance(error, Broken) else Broken.of(error)
        return self.put(self.blank(check, epsilon, norm).judged(why.status, why.reason))

    @contextmanager
    def timed(self, check: str, images: int, epsilons: int = 1) -> Iterator[None]:
        """Note how long a measurement takes, unless it breaks."""
        begin = time.perf_counter()
        yield
        self.took(check, images, time.perf_counter() - begin, epsilons)

    def took(self, check: str, images: int, seconds: float, epsilons: int = 1) -> None:
        """Note how long a measurement took."""
        self.run.timings.append(
            Timing(
                model=self.model, backend=self.backend, check=check, images=images,
                epsilons=epsilons, seconds=seconds,
            )
        )  # fmt: skip

    def kept(self, key: str) -> npt.NDArray[Any] | None:
        """The array under that key of this model, if there is one."""
        return self.run.arrays.get(keys.of(self.backend, self.model, key))

    def keep(self, key: str, values: npt.NDArray[Any]) -> None:
        """Keep an array."""
        self.run.arrays[keys.of(self.backend, self.model, key)] = values

    def keep_pictures(self, key: str, values: npt.NDArray[Any], *, channels: bool = True) -> None:
        """Keep pictures as float32, or masks as such, if there is room for them.

        They are for looking only: of images with more pixels than a page shows, means of blocks are
        kept, and of masks those blocks of which at least half is covered.

        Args:
            key: Where.
            values: Pictures (..., *shape) of images of the expected shape.
            channels: Without them their absolute values are summed over the channels.
        """
        small = values if channels else over_channels(values, self._shape, self._axis)
        if (plane := plane_of(self._shape, self._axis)) is not None:
            before = small.ndim - len(self._shape)
            axes = (before + plane[0], before + plane[1])
            if max(small.shape[axis] for axis in axes) > SIDE:
                small = shrunk(small.astype(np.float32), axes)
        mask = values.dtype == np.bool_
        small = small >= 0.5 if mask and small.dtype != np.bool_ else small
        pictures = small if mask else small.astype(np.float32)
        self._keep_if_room(key, pictures)

    def take(self, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep arrays that another recorder kept of this model, pictures as far as there is room.

        Args:
            arrays: By their whole keys.
        """
        begin = keys.of(self.backend, self.model, "")
        for whole, array in arrays.items():
            key = whole.removeprefix(begin)
            if keys.is_picture(key):
                self._keep_if_room(key, array)
            else:
                self.keep(key, array)

    def _keep_if_room(self, key: str, pictures: npt.NDArray[Any]) -> None:
        sizes = self._pictures | {key: pictures.nbytes}
        if sum(sizes.values()) <= ALL_PICTURES:
            self._pictures = sizes
            self.keep(key, pictures)

    def expect_images(self, shape: tuple[int, ...]) -> None:
        """Know the shape of one image, which all images of the model have."""
        self._shape = shape

    def picture_bytes(self, *, channels: bool = True) -> int:
        """Bytes of the picture of one image, of those that are expected."""
        shape = self._shape
        plane, axis = plane_of(shape, self._axis), channels_of(shape, self._axis)
        sides = list(shape)
        if plane is not None:
            factor = max(1, -(-max(shape[at] for at in plane) // SIDE))
            sides = [-(-side // factor) if at in plane else side for at, side in enumerate(shape)]
        if axis is not None and not channels:
            sides[axis] = 1
        return 4 * max(1, math.prod(sides))

    @property
    def _axis(self) -> int | None:
        return None if self.run.data is None else self.run.data.channel_axis
