"""What was measured elsewhere of the same model and images, and is not measured again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from harness.checks.check import BrokenError
from harness.checks.validity.outcome import Outcome
from harness.errors import NotApplicable, one_line
from harness.protocol import FloatArray, IntArray


@dataclass(frozen=True)
class Basis:
    """What a model says of the images that are looked at, before it is attacked.

    Attributes:
        logits: Of a first call, (n, k), all finite.
        again: Of two more calls, (2, n, k).
        apart: In small batches that each hold images of one class, or of few, (n, k).
        slack: Difference of logits that is rounding, relative to the largest.
        many_labels: Predicted labels of more test images, (m,).
    """

    logits: FloatArray
    again: FloatArray
    apart: FloatArray
    slack: float
    many_labels: IntArray


@dataclass(frozen=True)
class NoOutcome:
    """Why an attack has no outcome at a point; it is ``broken``, or does not apply."""

    reason: str
    broken: bool

    @classmethod
    def of(cls, error: NotApplicable) -> NoOutcome:
        """What is to be said of what was raised."""
        return cls(one_line(error), isinstance(error, BrokenError))

    @property
    def error(self) -> NotApplicable:
        """What was raised."""
        return BrokenError(self.reason) if self.broken else NotApplicable(self.reason)


@dataclass(frozen=True)
class Probed:
    """What came of a lot, or of some of its images, point by point; nothing if it is not admitted.

    Attributes:
        found: By the place of the point.
    """

    found: tuple[Outcome | NoOutcome, ...]


@dataclass(frozen=True)
class Known:
    """What is known of a model.

    Attributes:
        basis: Its logits; None if they are not known.
        probed: What came of the lots, by name, in parts that follow each other.
    """

    basis: Basis | None = None
    probed: Mapping[str, Sequence[Probed]] = field(default_factory=dict)

    def of_lot(self, name: str) -> Iterator[Outcome | NotApplicable]:
        """What came of a lot, point by point."""
        parts = self.probed.get(name, ())
        for found in zip(*(part.found for part in parts), strict=True):
            failed = next((one for one in found if isinstance(one, NoOutcome)), None)
            if failed is not None:
                yield failed.error
            else:
                yield joined([one for one in found if isinstance(one, Outcome)])


def joined(parts: Sequence[Outcome]) -> Outcome:
    """The outcome of images that were attacked in parts, at one epsilon."""
    first = parts[0]
    return Outcome(
        first.attack,
        first.epsilon,
        distance=_most([one.distance for one in parts]),
        lowest=-_most([-one.lowest for one in parts]),
        highest=_most([one.highest for one in parts]),
        in_ball=all(one.in_ball for one in parts),
        in_box=all(one.in_box for one in parts),
        unchanged=np.concatenate([one.unchanged for one in parts]),
        labels=np.concatenate([one.labels for one in parts]),
        valid=np.concatenate([one.valid for one in parts]),
    )


def _most(values: npt.ArrayLike) -> float:
    """The largest, or NaN if one is."""
    return float(np.max(values))
