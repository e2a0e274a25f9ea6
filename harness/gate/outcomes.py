"""Which images a model classified correctly, packed into a line of text and back."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.maths.query import NO_LABEL
from harness.results import keys
from harness.results.records import Record
from harness.results.run import Run

Outcomes = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Counted:
    """What became of the images of a check.

    Attributes:
        right: Which were classified correctly, (n,); not those that were not answered.
        unanswered: Positions of the latter, (m,), in rising order.
    """

    right: Outcomes
    unanswered: npt.NDArray[np.integer]


def answered_in_all(counts: Sequence[Counted]) -> npt.NDArray[np.integer]:
    """Positions of the images that were answered in each of several runs, on as many images."""
    missing = np.concatenate([counted.unanswered for counted in counts])
    return np.delete(np.arange(len(counts[0].right)), np.unique(missing).astype(np.intp))


def pack(outcomes: Outcomes) -> str:
    """Outcomes (n,) as base64 of zlib of eight images a byte, the first in the highest bit."""
    return base64.b64encode(zlib.compress(np.packbits(outcomes).tobytes(), 9)).decode()


def unpack(text: str, count: int) -> Outcomes:
    """The outcomes (count,) of that many images.

    Raises:
        ValueError: The text is damaged, or holds another number of images.
    """
    size = (count + 7) // 8
    inflate = zlib.decompressobj()
    try:
        # Bounded: a damaged file must not fill the memory.
        packed = inflate.decompress(base64.b64decode(text, validate=True), size + 1)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError(f"the outcomes are damaged ({error})") from error
    if len(packed) != size or not inflate.eof:
        raise ValueError(f"the outcomes are not those of {count} images")
    return np.unpackbits(np.frombuffer(packed, np.uint8), count=count).astype(bool)


def outcomes_of(run: Run, record: Record) -> Counted | None:
    """Which images of a record are correct, and which were not answered; None if it is not held.

    Of a certificate those are correct that are certified.

    Raises:
        ValueError: They contradict the record's count.
    """
    if (certifier := keys.certifier_of(record.check)) is not None:
        return _certified(run, record, keys.certified(certifier, record.epsilon))
    name = keys.predictions(record.check, record.epsilon)
    predictions = run.arrays.get(keys.of(record.backend, record.model, name))
    labels = run.arrays.get(keys.LABELS)
    if predictions is None or labels is None or record.accuracy is None:
        return None
    answered = predictions != NO_LABEL
    right: Outcomes = (predictions == labels[: len(predictions)]) & answered
    count = int(answered.sum())
    if count != record.total or int(right.sum()) != record.correct:
        raise ValueError(
            f"{int(right.sum())} of {count} predictions are correct, but {record.correct} of "
            f"{record.total} are recorded"
        )
    return Counted(right, np.flatnonzero(~answered))


def _certified(run: Run, record: Record, name: str) -> Counted | None:
    certified = run.arrays.get(keys.of(record.backend, record.model, name))
    if certified is None or record.accuracy is None:
        return None
    if (int(certified.sum()), len(certified)) != (record.correct, record.total):
        raise ValueError(
            f"{int(certified.sum())} of {len(certified)} images are certified, but "
            f"{record.correct} of {record.total} are recorded"
        )
    return Counted(certified, np.zeros(0, dtype=np.intp))
