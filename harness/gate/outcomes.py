"""Which images a model classified correctly, packed into a line of text and back."""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np
import numpy.typing as npt

from harness.results import keys
from harness.results.records import Record
from harness.results.run import Run

Outcomes = npt.NDArray[np.bool_]


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


def outcomes_of(run: Run, record: Record) -> Outcomes | None:
    """Which images of a record are correct, (total,); None if the run does not hold them.

    Raises:
        ValueError: They contradict the record's count.
    """
    name = keys.predictions(record.check, record.epsilon)
    predictions = run.arrays.get(keys.of(record.backend, record.model, name))
    labels = run.arrays.get(keys.LABELS)
    if predictions is None or labels is None or record.accuracy is None:
        return None
    right: Outcomes = predictions == labels[: len(predictions)]
    if len(right) != record.total or int(right.sum()) != record.correct:
        raise ValueError(
            f"{int(right.sum())} of {len(right)} predictions are correct, but {record.correct} of "
            f"{record.total} are recorded"
        )
    return right
