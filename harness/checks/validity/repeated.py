"""The same images evaluated in other ways, and how much rounding may change the logits."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from harness.checks.check import BrokenError
from harness.checks.validity.outcome import outputs, said
from harness.errors import BatchTooLarge, one_line
from harness.maths.objectives import LogOdds
from harness.maths.portions import whole
from harness.maths.query import batch_size_for
from harness.protocol import FloatArray, IntArray, Model, differentiable

PIECE = 16
"""Images per batch, where the same images are evaluated in other batches."""
ALONE = 8
"""Images that are evaluated one by one."""
RELATIVE = 1e-3
"""Difference of float32 logits that is rounding, relative to the largest of them."""
ALIKE = 1e-4
"""The same of a second call that is like the first: it rounds alike."""
COARSE = 0.05
"""The same of logits of any precision: that of bfloat16, after many layers."""
NUDGE = 1e-6
"""Share by which each pixel is made smaller, to see how much a change of rounding size does."""
HEADROOM = 10.0
"""How many times larger the rounding of another batch may be than what such a nudge does."""
CALLS = 12
"""How often a model whose logits change is called, to see whether they drift or repeat."""


def differ(found: FloatArray, expected: FloatArray, relative: float = 0.0) -> bool:
    """Whether logits (n, k) are others, beyond rounding.

    Args:
        found: The logits now.
        expected: The logits before.
        relative: Difference that is rounding, relative to the largest logit; by default that of a
            second call alike, which rounds alike.
    """
    return not apart_by(found, expected) <= _rounding(expected, relative)


def relabelled(labels: IntArray, logits: FloatArray, relative: float) -> IntArray:
    """Which labels, (n,), are none that these logits (n, k) can have, beyond rounding.

    Args:
        labels: Predicted labels of the same images, in other batches.
        logits: The logits now.
        relative: As in ``differ``; the two that are compared may each move by so much.
    """
    lead = logits.max(axis=1) - logits[np.arange(len(labels)), labels]
    return np.flatnonzero(lead > 2 * _rounding(logits, relative))


def apart_by(found: FloatArray, expected: FloatArray) -> float:
    """The largest difference of two arrays of logits."""
    return float(np.abs(found - expected).max(initial=0.0))


def slack(model: Model, x: FloatArray, logits: FloatArray) -> float:
    """Difference of logits (n, k) in other batches that is rounding, relative to the largest.

    A network in half precision, or a very steep one, turns a change of the pixels by a millionth
    into a much larger one of the logits; another order of summation does the same.
    """
    nudged = np.clip(x * (1 - NUDGE), *model.bounds).astype(x.dtype)
    scale = max(float(np.abs(logits).max()), 1e-12)
    response = apart_by(outputs(model, nudged), logits) / scale
    return float(np.clip(HEADROOM * response, RELATIVE, COARSE))


def apart(model: Model, x: FloatArray, y: IntArray) -> FloatArray:
    """The logits, (n, k), in small batches that each hold images of one class, or of few."""
    order = np.argsort(y, kind="stable")
    return _in_pieces(model, x, np.array_split(order, max(1, len(order) // PIECE)))


def elsewhere(model: Model, x: FloatArray) -> FloatArray:
    """The logits, (n, k), with every image in another place, in a batch that is one shorter."""
    turned = np.roll(np.arange(len(x))[::-1], len(x) // 3)
    return _in_pieces(model, x, [turned[:-1], turned[-1:]] if len(x) > 1 else [turned])


def alone(model: Model, x: FloatArray) -> FloatArray:
    """The logits of the first images, (m, k), each evaluated alone."""
    places = range(min(ALONE, len(x)))
    return np.concatenate([outputs(model, x[place : place + 1]) for place in places])


def with_gradient(model: Model, x: FloatArray, y: IntArray) -> tuple[FloatArray, FloatArray]:
    """Logits (n, k), and the input gradient of the log-odds that came with them, (n, *shape).

    Raises:
        BrokenError: None comes.
    """

    def ask(part: slice) -> tuple[FloatArray, FloatArray]:
        given, true = model.asarray(x[part].copy()), model.asarray(y[part].copy())
        try:
            answer = differentiable(model).logits_and_gradient(given, true, LogOdds())
            logits, gradient = map(model.numpy, answer)
        except BatchTooLarge:
            raise
        except Exception as error:
            why = said(error).removeprefix("the network gives no gradient: ")
            raise BrokenError(one_line(f"the model gives no gradient: {why}")) from error
        if logits.shape != (len(y[part]), *logits.shape[1:2]) or not np.isfinite(logits).all():
            raise BrokenError("the logits beside the gradient are of another shape, or not finite")
        if getattr(gradient, "shape", None) != x[part].shape or gradient.dtype.kind != "f":
            what = "nothing" if gradient.dtype.kind == "O" else f"the shape {gradient.shape}"
            raise BrokenError(
                f"the model gives no gradient: {what} comes back for images of the shape "
                f"{x[part].shape}"
            )
        return logits, gradient

    found = [answer for _, answer in whole(model, x, batch_size_for(model, x), ask)]
    logits, gradients = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return logits, gradients


def has_memory(first: FloatArray, calls: list[FloatArray]) -> bool:
    """Whether logits depend on how often the model was called before.

    Random logits scatter: they neither move on in one direction, nor come back in turn, nor stay
    what they were until they change for good.

    Args:
        first: Those of a first call, (n, k).
        calls: Those of later calls, one right after the other, each (n, k).
    """
    changes = [after - before for before, after in pairwise([first, *calls])]
    if all(float(np.sum(a * b)) > 0 for a, b in pairwise(changes)):
        return True
    states: list[int] = []
    for place, call in enumerate(calls):
        same = (other for other in range(place) if not differ(call, calls[other]))
        states.append(next(same, place))
    turns = range(1, len(states) // 2 + 1)
    in_turn = any(states[turn:] == states[:-turn] for turn in turns)
    changed = sum(a != b for a, b in pairwise(states))
    for_good = changed + 1 == len(set(states)) < len(states)
    return in_turn or for_good


def _in_pieces(model: Model, x: FloatArray, pieces: list[IntArray]) -> FloatArray:
    parts = [outputs(model, x[piece]) for piece in pieces]
    logits = np.empty((len(x), parts[0].shape[1]), dtype=parts[0].dtype)
    for piece, values in zip(pieces, parts, strict=True):
        logits[piece] = values
    return logits


def _rounding(logits: FloatArray, relative: float) -> float:
    """By how much such logits may be apart."""
    return max(relative, _step(logits)) * max(float(np.abs(logits).max()), 1e-12)


def _step(logits: FloatArray) -> float:
    """What two roundings of such logits may be apart, relative to the largest.

    It follows from the coarsest format that holds all of them. Of ordinary size, those of bfloat16
    (8 bits) are held by float16 (11 bits) too: the coarser one is tried first.
    """
    with np.errstate(over="ignore"):
        single, half = logits.astype(np.float32), logits.astype(np.float16)
    if np.array_equal(logits, single) and not (single.view(np.uint32) & 0xFFFF).any():
        return 2e-2
    return 4e-3 if np.array_equal(logits, half) else ALIKE
