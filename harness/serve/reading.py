"""What requests hold: images, and what is said of those that are not as they should be."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from harness.errors import closest, one_line
from harness.maths.norms import rounding
from harness.protocol import FloatArray
from harness.serve.live import Live, Misfit
from harness.serve.pictures import image_of, sides_of

SHOWN = 40
"""Letters of a wrong value that are repeated in the answer."""


class BadRequest(Exception):  # noqa: N818  # it is an answer to a request
    """A request that is not as OpenAPI says; the message is one sentence."""


def images_of(live: Live, given: Sequence[Any], others: Collection[Live]) -> FloatArray:
    """The images of a request, (n, *shape) within the model's bounds.

    Args:
        live: The model.
        given: Nested numbers, or the base64 of a PNG, each.
        others: All models that are served.

    Raises:
        BadRequest: One is no image of a model that is served.
        Misfit: One is an image of another model, or damaged.
    """
    found = np.empty((len(given), *live.shape), live.dtype)
    for place, one in enumerate(given):
        try:
            if isinstance(one, str):
                found[place] = _picture(one, live, others)
            else:
                found[place] = _numbers(one, live, others)
        except (BadRequest, Misfit) as error:
            raise type(error)(f"images.{place}: {error}") from error
    return found


def _picture(text: str, live: Live, others: Collection[Live]) -> FloatArray:
    sides = sides_of(text)
    if sides != live.plane:
        height, width = live.plane
        wrong = Misfit if sides in {one.plane for one in others} else BadRequest
        raise wrong(
            f"is not the base64 of a PNG of {width} × {height} pixels, which {live.name} takes"
        )
    return image_of(text, live.shape, live.channel_axis, live.bounds)


def _numbers(given: Any, live: Live, others: Collection[Live]) -> FloatArray:
    shape = _shape(given)
    if shape != live.shape:
        wrong = Misfit if shape in {one.shape for one in others} else BadRequest
        raise wrong(f"is not nested lists of shape {_sides(live.shape)}, which {live.name} takes")
    low, high = live.bounds
    slack = rounding(live.bounds)
    flat = [given]
    for _ in live.shape:
        flat = [inner for outer in flat for inner in outer]
    for value in flat:
        if type(value) not in (int, float):
            raise BadRequest(f"holds {shown(value)}, which is no number")
        if not low - slack <= value <= high + slack:
            raise _beyond(value, live, others)
    pixels: FloatArray = np.array(flat, np.float64).reshape(live.shape).astype(live.dtype)
    return pixels.clip(low, high)


def _beyond(value: float, live: Live, others: Collection[Live]) -> Exception:
    """What is said of a pixel outside of the model's bounds."""
    low, high = live.bounds
    alike = [one.bounds for one in others if one.shape == live.shape]
    wrong = Misfit if any(least <= value <= most for least, most in alike) else BadRequest
    return wrong(f"holds {shown(value)}, which is outside of [{low:g}, {high:g}]")


def _shape(given: Any) -> tuple[int, ...] | None:
    """The lengths of nested lists; None if those of one level differ."""
    level, sides = [given], []
    while level and all(isinstance(one, list) for one in level):
        lengths = {len(one) for one in level}
        if len(lengths) > 1:
            return None
        sides.append(lengths.pop())
        level = [inner for outer in level for inner in outer]
    return None if any(isinstance(one, list) for one in level) else tuple(sides)


def _sides(shape: Sequence[int]) -> str:
    return " × ".join(map(str, shape))


def shown(value: Any) -> str:
    """A wrong value, for people: short ones as they are in JSON, else their kind."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if not isinstance(value, str | int | float):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, str) and len(value) > SHOWN:
        return "a long text"
    if isinstance(value, int) and abs(value) > 10**SHOWN:
        return "a number of too many digits"
    return one_line(repr(value))


def sentence_of(findings: Sequence[Any], fields: Sequence[str]) -> str:
    """The first finding of a validation as one sentence: ``key: what is wrong``.

    Args:
        findings: What pydantic has found, at least one.
        fields: Keys that there may be, one of which a misspelt one may mean.
    """
    first = min(findings, key=lambda one: one["type"] != "extra_forbidden")
    path = [str(part) for part in first["loc"] if part not in ("body", "query", "path")]
    joined = ".".join(path)
    key = one_line(joined)[:SHOWN] if joined else ""  # of nothing it would tell the type
    if first["type"] == "extra_forbidden":
        meant = closest(path[-1][:SHOWN], fields)
        said = f"unknown key; did you mean {meant}?" if meant else "unknown key; leave it out"
    elif first["type"] == "missing":
        said = "missing" if path else "the body is missing; send JSON"
    else:
        text = first["msg"].replace(" after validation", "")
        said = f"{text[:1].lower()}{text[1:]}"
        if first["type"] not in ("too_short", "too_long"):  # which say it
            said += f" (got {shown(first.get('input'))})"
    return one_line(f"{key}: {said}" if key else said)
