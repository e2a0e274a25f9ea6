"""Which of a network's outputs are its logits, whatever it returns them in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.errors import MeasurementError
from harness.protocol.model import Array, ArrayNamespace

LOGITS = "logits"


def one_output(outputs: Any, is_array: Callable[[Any], bool], name: str | None = None) -> Array:
    """The array of logits among what a network returns.

    That is the array itself, the first one of a tuple or list, ``logits`` of a mapping or an
    object, the only one of a mapping, or the one of a given name.

    Args:
        outputs: What the network returned.
        is_array: Whether something is an array of its framework.
        name: The name of the output, where it is said.

    Raises:
        MeasurementError: There is none, or it cannot be told which it is; the message says how to
            say so.
    """
    if is_array(outputs) and name is None:
        return outputs
    named = _named(outputs)
    if name is not None:
        if name in named:
            return _checked(named[name], is_array, name)
        there = _list(named) or "without names"
        raise MeasurementError(f"the network has no output {name!r}; its outputs are {there}")
    if LOGITS in named:
        return _checked(named[LOGITS], is_array, LOGITS)
    if isinstance(outputs, Mapping):
        if len(named) == 1:
            return _checked(next(iter(named.values())), is_array, next(iter(named)))
        raise MeasurementError(
            f"the network returns {_list(named) or 'nothing'}; say which are the logits: "
            "output='NAME'"
        )
    if isinstance(outputs, tuple | list) and outputs:
        return _checked(outputs[0], is_array, "0")
    raise MeasurementError(
        f"the network returns {type(outputs).__name__}, not logits; return one tensor, (n, k), a "
        "tuple whose first is it, or a dict or an object with logits"
    )


def two_classes(xp: ArrayNamespace, logits: Array) -> Array:
    """Logits (n, k) as they are; one an image, z, as those of two classes, (-0.0, z).

    Then the sigmoid of z is the probability of the second class. The sign of the zero says that
    the network gave one number, (n,) or (n, 1): see ``maths.outputs.Probabilities``.
    """
    if len(logits.shape) == 1:
        logits = xp.reshape(logits, (-1, 1))
    if len(logits.shape) != 2 or logits.shape[1] != 1:
        return logits
    return joined(xp, [-xp.zeros_like(logits), logits], axis=1)


def joined(xp: ArrayNamespace, arrays: Sequence[Array], axis: int = 0) -> Array:
    """Arrays one after another along an axis."""
    join = xp.concat if hasattr(xp, "concat") else xp.concatenate  # NumPy before 2, and Keras
    return join(arrays, axis=axis)


def _named(outputs: Any) -> dict[str, Any]:
    """The outputs that have names."""
    if isinstance(outputs, Mapping):
        return {str(key): value for key, value in outputs.items()}
    if isinstance(outputs, tuple) and hasattr(outputs, "_asdict"):
        return dict(outputs._asdict())
    logits = getattr(outputs, LOGITS, None)
    return {} if logits is None else {LOGITS: logits} | _public(outputs)


def _public(outputs: Any) -> dict[str, Any]:
    found = getattr(outputs, "__dict__", {})
    return {key: value for key, value in found.items() if not key.startswith("_")}


def _checked(value: Any, is_array: Callable[[Any], bool], name: str) -> Array:
    if not is_array(value):
        raise MeasurementError(
            f"the network's output {name} is {type(value).__name__}, not a tensor of logits"
        )
    return value


def _list(named: Mapping[str, Any]) -> str:
    return ", ".join(named)
