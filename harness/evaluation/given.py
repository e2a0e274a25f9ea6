"""The model and the images that a person passes, held against each other before much is done."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from harness.data.dataset import Dataset
from harness.errors import HarnessError, Unanswered, gist, one_line
from harness.evaluation.arguments import bounds_from
from harness.evaluation.wrapping import wrap
from harness.maths.around import Limited
from harness.maths.outputs import Outputs, declared, looked_through
from harness.maths.query import answers_of, logits_of
from harness.protocol import Images, IntArray, Model, is_model


def model_from(
    model: Any, bounds: Any, outputs: Outputs, device: str | None, batch_size: int | None
) -> Model:
    """What is evaluated or attacked: a model as it is, or a network, wrapped.

    Args:
        model: Either.
        bounds: As in ``evaluate``.
        outputs: Likewise.
        device: Likewise.
        batch_size: Likewise.

    Raises:
        HarnessError: What is said of the model has been said otherwise where it was wrapped, or the
            object is no network.
    """
    if is_model(model):
        if bounds is not None and bounds_from(bounds) != tuple(model.bounds):
            raise HarnessError(
                f"bounds: the model was wrapped with {list(model.bounds)}; say them there"
            )
        if device is not None:
            raise HarnessError("device: the model is wrapped already; say it to harness.wrap")
        model = declared(model, outputs)
        return model if batch_size is None else Limited(model, batch_size)
    limits = (0.0, 1.0) if bounds is None else bounds
    return wrap(model, limits, outputs, device=device, batch_size=batch_size)


def check_outputs(model: Model, data: Dataset) -> int:
    """Catch early what would make every later number wrong; returns the number of classes.

    Raises:
        HarnessError: The model does not take these images, returns probabilities undeclared, or
            has no class of a label.
    """
    images, labels = data.test.x, data.test.y
    try:
        logits = answers_of(model, images[:64]).logits
    except Exception as error:
        shape = images.shape[1:]
        why = str(error) if isinstance(error, HarnessError) else gist(error)
        raise HarnessError(
            one_line(
                f"the model cannot be evaluated on images of shape {shape}: {why}"
                f"{'' if isinstance(error, Unanswered) else _other_layout(model, images)}"
            )
        ) from error
    if found := looked_through(model, images):
        raise HarnessError(
            f"the model returns probabilities, not logits: {found}; leave the softmax or sigmoid "
            "at its end out, or say outputs='logits' if they are, or outputs='probabilities' for "
            "attacks without gradients"
        )
    _require_fitting(labels, int(logits.shape[1]), data.classes)
    return int(logits.shape[1])


def _other_layout(model: Model, images: Images) -> str:
    """What to do if a model takes images with their channels at the other end; else nothing."""
    if len(images.shape) != 4:
        return ""
    few = np.asarray(images[:2])
    for source, target in ((-1, 1), (1, -1)):
        with suppress(Exception):  # whatever a network makes of images that are none of its own
            logits_of(model, np.ascontiguousarray(np.moveaxis(few, source, target)))
            return (
                "; it takes their channels at the other end: pass "
                f"np.moveaxis(x, {source}, {target})"
            )
    return ""


def _require_fitting(labels: IntArray, count: int, classes: Sequence[str]) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= count:
        remedy = "; pass y - 1" if (low, high) == (1, count) else ""
        raise HarnessError(
            f"y: labels span [{low}, {high}], but the model has {count} classes from 0{remedy}"
        )
    if classes and len(classes) != count:
        raise HarnessError(
            f"classes: {len(classes)} names, but the model has {count} classes; name each"
        )
