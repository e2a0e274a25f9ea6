"""What an attack was asked: all its options as plain data, to be stored and compared."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np

from harness.attacks import ATTACKS, make_attack
from harness.errors import SpecError
from harness.protocol import Attack

KIND = "attack"
"""Under this key the options say which attack it is: its class."""
DEEPEST = 4
"""Objects within objects are followed so far; a foreign attack may hold anything."""
LONGEST = 64
"""Arrays and lists of more entries are told apart by a hash."""
_NOTHING = object()


def options_of(attack: Any) -> dict[str, Any]:
    """Every option of an attack, those that have their default too, as JSON-like data.

    The name is left out: it says what the records call the attack. Under ``attack`` stands which
    attack it is, so that two attacks of one name differ. Of an attack of somebody else, what its
    own ``options()`` says counts, or else its public attributes that are plain values.

    Args:
        attack: Any attack; that of a user may hold anything. Nothing that it does raises.

    Returns:
        Options by name: numbers, strings, booleans, None, and lists and mappings of these. The
        attacks that an ensemble runs stand as a mapping from their names to their options.
    """
    return _options(attack, DEEPEST)


def options_before(name: str, said: Mapping[str, Any]) -> dict[str, Any] | None:
    """The options of a run that stored only what its spec said.

    What it did not say had the value that its class gives in ``BEFORE`` (what reproduces what the
    attack did before it had the option, or before its default changed), or else the default.

    Args:
        name: Name of the attack in the spec.
        said: Its part of the spec: ``attack``, and the options that differ from the defaults.

    Returns:
        What ``options_of`` would have said; None if it is no attack of ours.
    """
    kind = said.get(KIND) or name
    extras = {key: value for key, value in said.items()
              if key not in (KIND, "epsilons", "images", "options")}  # fmt: skip
    if not isinstance(kind, str) or kind not in ATTACKS:
        return None
    try:
        attack = make_attack(name, kind, extras)
    except SpecError:
        return None
    return _before(attack, extras)


def completed(known: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options with those that only the other side knows, since they came later.

    Each has the value in ``BEFORE`` of its attack's class, or else the default; of a class that is
    not ours nothing is known, so the other side's value is taken.
    """
    if not known:
        return dict(other)
    full = dict(known)
    if KIND in known:
        late = _of_class(str(known[KIND]))
        full |= {key: late.get(key, value) for key, value in other.items() if key not in known}
    for key in known.keys() & other.keys():
        if isinstance(known[key], Mapping) and isinstance(other[key], Mapping):
            full[key] = completed(known[key], other[key])
    return full


def _of_class(kind: str) -> dict[str, Any]:
    """The options of an attack of that class before it had those that came later."""
    # Where several names have one class, the one that is the class itself has its defaults.
    for name in sorted(ATTACKS, key=lambda name: not isinstance(ATTACKS[name], type)):
        attack = make_attack(name)
        if type(attack).__qualname__ == kind:
            return _before(attack, ())
    return {}


def _before(attack: Attack, said: Collection[str]) -> dict[str, Any]:
    """The options of an attack, where those that were not said have their older values."""
    options = options_of(attack)
    members = getattr(attack, "members", None)
    if isinstance(members, Sequence):
        options["members"] = {member.name: _before(member, ()) for member in members}
    old = {key: value for key, value in dict(getattr(attack, "BEFORE", {})).items()
           if key not in said}  # fmt: skip
    return options | {key: _plain(value, DEEPEST, str(value)) for key, value in old.items()}


def _options(attack: Any, depth: int) -> dict[str, Any]:
    kind = type(attack)
    ours = kind.__module__.startswith("harness.")
    found: dict[str, Any] = {KIND: kind.__qualname__ if ours else _qualified(kind)}
    for name, value in _attributes(attack).items():
        plain = _plain(value, depth - 1, _NOTHING)
        if plain is not _NOTHING and name not in ("name", KIND):
            found[name] = plain
    return found


def _attributes(attack: Any) -> dict[str, Any]:
    """The options as they are: what the attack tells, its fields, or its public attributes."""
    try:
        told = attack.options() if callable(getattr(attack, "options", None)) else None
        if isinstance(told, Mapping):
            return {str(name): value for name, value in told.items()}
    except Exception:  # noqa: S110  # of foreign code; its attributes serve
        pass
    if dataclasses.is_dataclass(attack) and not isinstance(attack, type):
        names = [field.name for field in dataclasses.fields(attack)]
    else:
        slots = [slot for cls in type(attack).__mro__ for slot in _words(cls, "__slots__")]
        names = [*getattr(attack, "__dict__", {}), *slots, "norm"]
    found = {}
    for name in dict.fromkeys(names):
        try:
            found[name] = getattr(attack, name)
        except Exception:  # noqa: S112  # a property of foreign code may do anything
            continue
    return {name: value for name, value in found.items() if not name.startswith("_")}


def _words(cls: type, name: str) -> list[str]:
    words = vars(cls).get(name, ())
    return [words] if isinstance(words, str) else [str(word) for word in words]


def _plain(value: Any, depth: int, otherwise: Any) -> Any:
    """A value as JSON-like data, or something else where it is none."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        if value.size <= LONGEST:
            return _plain(value.tolist(), depth, otherwise)
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:12]
        return f"{value.dtype} {value.shape} {digest}"
    if depth <= 0:
        return otherwise
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=repr)
    if isinstance(value, (list, tuple)):
        return _list(value, depth, otherwise)
    if isinstance(value, Mapping):
        entries = {str(key): _plain(entry, depth - 1, _NOTHING) for key, entry in value.items()}
        return {key: entry for key, entry in entries.items() if entry is not _NOTHING}
    if callable(getattr(value, "perturb", None)) and not isinstance(value, type):
        return _options(value, depth)
    return otherwise


def _list(values: Sequence[Any], depth: int, otherwise: Any) -> Any:
    """A list; one of attacks as a mapping from their names."""
    if values and all(callable(getattr(value, "perturb", None)) for value in values):
        names = [str(getattr(value, "name", place)) for place, value in enumerate(values)]
        return {name: _options(value, depth) for name, value in zip(names, values, strict=True)}
    entries = [_plain(value, depth - 1, _NOTHING) for value in values]
    return otherwise if _NOTHING in entries else entries


def _qualified(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
