"""Judging a record by what the spec expects of its model."""

from __future__ import annotations

import numpy as np

from harness.results import keys
from harness.results.records import Record
from harness.results.run import Run
from harness.spec.expect import ExpectSpec

CLEAN = "clean"
ROUNDING = 1e-9
"""Far below one image; in floats 0.3 - 0.1 is less than 0.2."""


def judge(record: Record, expect: ExpectSpec | None, run: Run) -> Record:
    """The record with status ``passed`` or ``failed``, a threshold and a reason.

    A record that could not be measured keeps its status, and one without a threshold in the spec
    stays ``measured``.

    Args:
        record: The measurement.
        expect: Thresholds of its model; None where nothing is expected of it.
        run: The run it belongs to; some checks are judged by others of it.
    """
    if record.status != "measured" or record.accuracy is None:
        return record
    # Two votes on a model that is random on purpose may differ.
    if record.epsilon == 0 and not record.randomised and (moved := _moved_at_zero(record, run)):
        return record.judged(
            "failed", f"{moved} predictions at epsilon 0 differ from the clean ones: "
            "the attack changes images it may not change"
        )  # fmt: skip
    threshold = None if expect is None else _threshold(record, expect, run)
    if threshold is None:
        return record
    low, high = threshold
    if low is not None and record.accuracy < low:
        return record.judged("failed", _beside(_below(record, low), record), threshold)
    if high is not None and record.accuracy > high + ROUNDING:
        return record.judged("failed", _beside(_above(record, high), record), threshold)
    return record.judged("passed", record.reason, threshold)


def _beside(why: str, record: Record) -> str:
    """Why a record failed, and what was said of it before: that some images were not answered."""
    return f"{why}; {record.reason}" if record.reason else why


def _threshold(
    record: Record, expect: ExpectSpec, run: Run
) -> tuple[float | None, float | None] | None:
    if record.check == CLEAN:
        return expect.clean
    if record.epsilon is not None:
        name = keys.certifier_of(record.check)
        ranges = expect.attacks if name is None else expect.certified
        return ranges.get(name or record.check, {}).get(record.epsilon)
    random = run.find((record.model, record.backend, "saliency/random", None))
    if random is None or random.accuracy is None:
        return None
    if record.check == "saliency/top":
        return (None, random.accuracy - expect.saliency_margin)
    if record.check == "saliency/least":
        return (random.accuracy, None)
    return None


def _moved_at_zero(record: Record, run: Run) -> int:
    """Predictions at epsilon 0 that are not the clean ones; of images that were answered twice."""
    clean, attacked = (
        run.arrays.get(keys.of(record.backend, record.model, name))
        for name in (keys.predictions(CLEAN), keys.predictions(record.check, 0.0))
    )
    if clean is None or attacked is None:
        return 0
    clean = clean[: len(attacked)]
    return int(np.sum((clean != attacked) & (clean >= 0) & (attacked >= 0)))


def _below(record: Record, low: float) -> str:
    text = f"accuracy {record.accuracy:.4f} is below {low:.4f}"
    if record.check == "saliency/least":
        return (
            f"{text}, the accuracy with random pixels occluded: the map misses pixels that matter"
        )
    return text


def _above(record: Record, high: float) -> str:
    text = f"accuracy {record.accuracy:.4f} is above {high:.4f}"
    if record.check == "saliency/top":
        return (
            f"{text}: occluding the most salient pixels costs too little more accuracy than "
            "occluding random ones"
        )
    if keys.certifier_of(record.check) is not None:
        return f"{text}: more images are certified than expected; is the certifier sound?"
    if record.epsilon:
        return f"{text}: the model looks too robust; is the attack broken?"
    return text
