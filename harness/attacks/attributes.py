"""What an object of somebody else was made with, as far as its attributes tell."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections.abc import Iterator
from typing import Any

NOT_THEIRS = frozenset({"torch", "keras", "tensorflow", "jax", "numpy"}) | sys.stdlib_module_names
"""Packages whose classes have attributes of their own, which are no options of a user."""


class Unreadable:
    """Stands for a value that could not be read."""

    __slots__ = ()


def attributes(value: Any, *, every_property: bool = False) -> dict[str, Any]:
    """The values that an object holds, by name.

    These are its public attributes: fields, slots, those of its class that are no methods, and
    those that hide behind an underscore, if a property or an argument of its constructor has their
    name. Other private ones are caches and states more often than options.

    Args:
        value: Any object.
        every_property: Also read properties that no private attribute of their name stands behind.

    Returns:
        Its attributes; ``Unreadable`` where reading one raises. Nothing else of it is called.
    """
    kind = type(value)
    found: dict[str, Any] = {}
    for name in dict.fromkeys(_names(value, kind, every_property)):
        public = name.removeprefix("_")
        if public.startswith("_") or public in found:
            continue
        try:
            found[public] = getattr(value, name)
        except AttributeError:  # of a slot, a field or a property that is not set
            continue
        except Exception:  # a property of foreign code may do anything
            found[public] = Unreadable()
    held = getattr(value, "named_children", None)  # of losses of PyTorch, which are modules
    if callable(held) and callable(getattr(value, "named_buffers", None)):
        found.pop("training", None)
        found |= {**dict(held()), **dict(value.named_buffers(recurse=False))}
    return found


def _names(value: Any, kind: type, every_property: bool) -> Iterator[str]:
    """Names of attributes to be read, a private one where it is an option."""
    held = dict.fromkeys(getattr(value, "__dict__", {}))
    for cls in kind.__mro__:
        slots = vars(cls).get("__slots__", ())
        held |= dict.fromkeys([slots] if isinstance(slots, str) else map(str, slots))
    if dataclasses.is_dataclass(value):
        held |= dict.fromkeys(field.name for field in dataclasses.fields(value))
    yield from (name for name in held if not name.startswith("_"))
    for name in _properties(kind):
        if every_property or f"_{name}" in held:
            yield name
    for name in _arguments(kind):
        if f"_{name}" in held:
            yield f"_{name}"
    for cls in kind.__mro__:
        if cls.__module__.partition(".")[0] not in NOT_THEIRS:
            yield from (name for name, entry in vars(cls).items() if _is_option(cls, name, entry))


def _properties(kind: type) -> list[str]:
    return [name for cls in kind.__mro__ if cls.__module__.partition(".")[0] not in NOT_THEIRS
            for name, entry in vars(cls).items()
            if isinstance(entry, property) and not name.startswith("_")]  # fmt: skip


def _arguments(kind: type) -> list[str]:
    try:
        return list(inspect.signature(kind).parameters)
    except (TypeError, ValueError):  # of a class that is written in C
        return []


def _is_option(cls: type, name: str, entry: Any) -> bool:
    """Whether a class sets a value; a function of its own body is a method, and none."""
    if name.startswith("_"):
        return False
    if isinstance(entry, staticmethod):
        own = getattr(entry.__func__, "__qualname__", "") == f"{cls.__qualname__}.{name}"
        return not own
    return not hasattr(type(entry), "__get__")
