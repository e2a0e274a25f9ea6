"""Which class each image is to be classified as."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np
from pydantic import PlainValidator

from harness.errors import MeasurementError
from harness.protocol import FloatArray, IntArray

Rule: TypeAlias = Literal["none", "next", "runner-up", "least-likely", "each"]
RULES: tuple[Rule, ...] = get_args(Rule)


def _checked(value: Any) -> Rule | int | tuple[int, ...]:
    """A target as it is kept: a rule, a class, or a tuple of classes, whatever held them.

    Raises:
        ValueError: It is none of these; the message names the value.
    """
    if isinstance(value, str) and value in RULES:
        return value
    # Of arrays and tensors, whichever framework they are from.
    told = value.tolist() if callable(getattr(value, "tolist", None)) else value
    if (one := _class(told)) is not None:
        return one
    if not isinstance(told, list | tuple):
        raise ValueError(f"target: {SAY} (got {value!r})")
    if not told:
        raise ValueError("target: the list is empty; give a class for each image")
    classes = [_class(entry) for entry in told]
    if None in classes:
        place = classes.index(None)
        raise ValueError(
            f"target: entry {place} is no class; they are whole numbers from 0 "
            f"(got {str(told[place])[:50]})"
        )
    return tuple(entry for entry in classes if entry is not None)


def _class(value: Any) -> int | None:
    """A class as an int; None if the value is none."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    return int(value) if whole and value >= 0 else None


SAY = f"choose one of {', '.join(RULES)}, a class from 0, or a list of classes, one for each image"
Target: TypeAlias = Annotated[Rule | int | tuple[int, ...], PlainValidator(_checked)]
"""A rule by which the class is chosen for each image; one class; or one for each image."""


def aims(
    logits: FloatArray, labels: IntArray, target: Target, index: IntArray, rank: int = 0
) -> IntArray:
    """The class that each image is to be classified as, (n,).

    Args:
        logits: What the model says of the clean images, (n, k).
        labels: Their true labels, (n,).
        target: Which class it is.
        index: Positions of the images in their dataset, (n,).
        rank: For ``each``, how many are more likely.

    Raises:
        MeasurementError: The model has no such class, or there is none for an image.
    """
    if not isinstance(target, str):
        return _said(target, index, logits.shape[1])
    if target == "next":
        return np.asarray((labels + 1) % logits.shape[1])
    others = np.array(logits)
    others[np.arange(len(labels)), labels] = -np.inf
    order = np.argsort(-others, axis=1, kind="stable")
    return np.asarray(order[:, -2 if target == "least-likely" else rank])


def signs(logits: FloatArray, labels: IntArray, goals: IntArray) -> FloatArray:
    """What ``Towards`` takes for its mask: 1 for the goal, -1 for the true class, (n, k)."""
    signed, rows = np.zeros(logits.shape, dtype=np.float32), np.arange(len(labels))
    signed[rows, goals] = 1.0
    signed[rows, labels] = -1.0
    return signed


def _said(target: int | tuple[int, ...], index: IntArray, classes: int) -> IntArray:
    """The classes that were said, (n,)."""
    if isinstance(target, int):
        found = np.full(len(index), target)
    elif len(index) and (last := int(np.max(index))) >= len(target):
        raise MeasurementError(
            f"target: there are {len(target)} classes for at least {last + 1} images; give one for "
            "each image"
        )
    else:
        found = np.asarray(target)[index]
    if found.size and found.max() >= classes:
        raise MeasurementError(
            f"target: there is no class {found.max()}; the model has {classes} classes from 0"
        )
    return found
