"""Asking in portions: what is too large is halved, and what is not answered is given up alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from harness.errors import BatchTooLarge, MeasurementError, Unanswered
from harness.progress import images_bar
from harness.protocol import Images, Model

T = TypeVar("T")
LIMITS: WeakKeyDictionary[Model, dict[tuple[int, ...], int]] = WeakKeyDictionary()
"""How many images models that are still in use have turned out to take, by the images' shape."""
HOPELESS = 16
"""After so many images without any answer others are tried, before all are given up."""


def limit_of(model: Model, x: Images) -> int | None:
    """How many of images like x, (n, *shape), a model takes at a time; None if any number so far.

    It is known once a batch has been too large.
    """
    try:
        return LIMITS.get(model, {}).get(x.shape[1:])
    except TypeError:  # a user's own that cannot be a key
        return None


def portions(
    model: Model, x: Images, size: int, ask: Callable[[slice], T]
) -> Iterator[tuple[slice, T | Unanswered]]:
    """Slices of images (n, *shape) that cover them in order, each with what came of it.

    A slice that is too large for the model is asked in halves, and so are all later ones. One that
    is not answered is asked in halves too, until the images are found that are not answered alone.

    Args:
        model: What is asked.
        x: The images.
        size: How many are asked at a time, at most.
        ask: What is done with a slice; it may be done again with parts of it.

    Yields:
        A slice, and what ``ask`` returned; of a single image, also why it was not answered.

    Raises:
        MeasurementError: One image alone is too large; or what else ``ask`` raises.
        Unanswered: Image after image is not answered, wherever they are taken from.
    """
    with images_bar(len(x), size) as advance:
        for part, found in _portions(model, x, size, ask):
            advance(part.stop - part.start)
            yield part, found


def _portions(
    model: Model, x: Images, size: int, ask: Callable[[slice], T]
) -> Iterator[tuple[slice, T | Unanswered]]:
    pending, lost, any_answer = [slice(0, len(x))] if len(x) else [], 0, False
    while pending:
        part = pending.pop()
        count = part.stop - part.start
        most = min(size, limit_of(model, x) or size)
        if count > most:
            pending += _cut(part, most)
            continue
        found: T | Unanswered
        try:
            found = ask(part)
            any_answer = True
        except BatchTooLarge as error:
            if count == 1:
                raise MeasurementError(f"one image alone is too large: {error}") from error
            size = (count + 1) // 2
            _limit(model, x, size)
            pending.append(part)
            continue
        except Unanswered as error:
            if count > 1:
                pending += _cut(part, (count + 1) // 2)
                continue
            found, lost = error, lost + 1
            if lost == HOPELESS and not any_answer:
                _require_any_answer(len(x), ask, error)
        yield part, found


def whole(
    model: Model, x: Images, size: int, ask: Callable[[slice], T]
) -> Iterator[tuple[slice, T]]:
    """The same where each image must be answered.

    Raises:
        Unanswered: One is not.
    """
    for part, found in portions(model, x, size, ask):
        if isinstance(found, Unanswered):
            raise found
        yield part, found


def _cut(part: slice, first: int) -> list[slice]:
    """A slice in two, the first of so many images; on a stack it lies on top."""
    return [slice(part.start + first, part.stop), slice(part.start, part.start + first)]


def _limit(model: Model, x: Images, size: int) -> None:
    """Remember how many images a model may take."""
    try:
        LIMITS.setdefault(model, {})[x.shape[1:]] = size
    except TypeError:  # see ``limit_of``
        return


def _require_any_answer(count: int, ask: Callable[[slice], T], error: Unanswered) -> None:
    """Images may be in the order of their classes, so others are tried, evenly from all."""
    for place in np.unique(np.linspace(0, count - 1, HOPELESS).astype(int)).tolist():
        try:
            ask(slice(place, place + 1))
        except Unanswered:
            continue
        return
    raise Unanswered(f"no image is answered, first or last: {error}")
