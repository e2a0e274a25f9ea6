"""What an attack was asked: all its options as plain data, to be stored and compared."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

from harness.attacks import ATTACKS, make_attack
from harness.attacks.attributes import attributes
from harness.attacks.description import Describer
from harness.errors import SpecError
from harness.protocol import Attack

KIND, CERTIFIER = "attack", "certifier"
"""Under this key the options of an attack, or of a certifier, say which one it is: its class."""
BEFORE = "(before)"
"""Under this key those of a foreign attack have the values that a baseline counts as having."""
UNTOLD = "(not compared)"
"""Under this key stand the names of those of which no value can be told."""


def options_of(attack: Any, kind: str = KIND) -> dict[str, Any]:
    """Every option of an attack, those that have their default too, as JSON-like data.

    The name is left out: it says what the records call the attack. Under ``attack`` stands which
    attack it is, so that two attacks of one name differ. Of an attack of somebody else, what its
    own ``options()`` says counts, or else its attributes (see ``attributes.py``); of a class that
    derives from one of ours without an ``options()`` of its own, both.

    Args:
        attack: Any attack; that of a user may hold anything. Nothing that it does raises. A
            certifier's options are told likewise.
        kind: Under which key it says what it is.

    Returns:
        Options by name: numbers, strings, booleans, None, and lists and mappings of these; the same
        in every process. The attacks that an ensemble runs stand as a mapping from their names to
        their options. Networks and what has no value that can be told, such as the state of a
        random generator, are named under ``UNTOLD``.
    """
    describer = Describer(_special)
    with describer.within(attack):
        options = _options(attack, describer, "", 0)
    options = {kind: options.pop(KIND)} | options
    return options | ({UNTOLD: listed} if (listed := describer.listed) else {})


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


def completed(
    known: Mapping[str, Any], other: Mapping[str, Any], kind: str = KIND
) -> dict[str, Any]:
    """Stored options with those that only the other side knows, where it is known what they were.

    Each has the value in ``BEFORE`` of its attack's class, or else the default; that of a foreign
    class stands beside the options of the other side, since it cannot be asked any more.
    """
    full = dict(known)
    if kind in known and kind in other:
        late = _of_class(str(known[kind])) | _mapping(other.get(BEFORE))
        full |= {key: late[key] for key in other if key not in known and key in late}
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
    return options | Describer().entries(old, "", 0)


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _options(attack: Any, describer: Describer, name: str, depth: int) -> dict[str, Any]:
    kind = type(attack)
    found: dict[str, Any] = {KIND: _kind(attack)}
    held = _held(attack)
    # What the records call it is no option; nor is what it does.
    held = {key: value for key, value in held.items() if key not in ("name", "perturb", "BEFORE")}
    if KIND in held:  # an attack that runs another one, say
        held[f"{KIND} (option)"] = held.pop(KIND)
    found |= describer.entries(held, name, depth + 1)
    if not _is_ours(kind) and (late := _declared(kind)):
        found[BEFORE] = Describer(_special).entries(late, "", depth + 1)
    return found


def _held(attack: Any) -> dict[str, Any]:
    """The options as they are: what the attack tells, or its attributes.

    What a method of ours tells of a class derived from ours is not all that it may hold.
    """
    inherited: dict[str, Any] = {}
    try:
        told = attack.options() if callable(getattr(attack, "options", None)) else None
        if isinstance(told, Mapping):
            inherited = {str(name): value for name, value in told.items()}
            if _is_ours(type(attack)) or not _is_ours(attack.options):
                return inherited
    except Exception:  # noqa: S110  # of foreign code; its attributes serve
        pass
    return attributes(attack, every_property=True) | inherited


def _declared(kind: type) -> dict[str, Any]:
    """What options of a foreign class were, where unknown: as its ``BEFORE`` says, or default."""
    late: dict[str, Any] = {}
    with suppress(Exception):  # foreign, and perhaps written in C
        fields = dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
        made = {field.name: field.default_factory() for field in fields
                if field.default_factory is not dataclasses.MISSING}  # fmt: skip
        signature = inspect.signature(kind).parameters.items()
        late = {name: made.get(name, parameter.default) for name, parameter in signature
                if parameter.default is not parameter.empty}  # fmt: skip
    said = getattr(kind, "BEFORE", {})
    return late | _mapping(said)


def _special(value: Any, describer: Describer, name: str, depth: int) -> Any:
    """Attacks within attacks, and lists of them as a mapping from their names."""
    if _attacks(value):
        return _options(value, describer, name, depth)
    if isinstance(value, list | tuple) and value and all(map(_attacks, value)):
        names = [str(getattr(one, "name", place)) for place, one in enumerate(value)]
        if len(set(names)) == len(names):
            return {one: describer.of(attack, f"{name}.{one}", depth + 1)
                    for one, attack in zip(names, value, strict=True)}  # fmt: skip
    return None


def _attacks(value: Any) -> bool:
    return not isinstance(value, type) and callable(getattr(value, "perturb", None))


def _is_ours(kind: Any) -> bool:
    return str(kind.__module__).startswith("harness.")


def _kind(attack: Any) -> str:
    kind = type(attack)
    return kind.__qualname__ if _is_ours(kind) else f"{kind.__module__}.{kind.__qualname__}"
