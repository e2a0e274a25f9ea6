"""What is made by a name and its options: attacks and certifiers, the harness's own or others'."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any

from pydantic import ValidationError

from harness.errors import HarnessError, SpecError, closest, one_line, unknown


def made_by_name(
    registry: Mapping[str, Callable[..., Any]],
    what: str,
    name: str,
    kind: str | None,
    options: Mapping[str, Any] | None,
    is_one: Callable[[Any], bool],
    flaw_of: Callable[[Any], str],
) -> Any:
    """One of what a registry has, with options.

    Args:
        registry: What makes each kind.
        what: What the kinds are called in messages, such as ``attack``.
        name: What the records call it.
        kind: Which one it is; the name says so if this is None.
        options: What differs from its defaults.
        is_one: Whether an object is of this sort.
        flaw_of: What of such an object is not as it should be, as a clause, or nothing.

    Raises:
        SpecError: There is none of that name, or it has no such option or value; or what another
            package made is not one, or has a flaw.
    """
    kind = kind or name
    if kind not in registry:
        raise SpecError(unknown(kind, what, sorted(registry)))
    said = dict(options or {})
    if "name" in said:
        raise SpecError(f"name: {kind} has no such option")
    if name != kind:
        said["name"] = name
    make = registry[kind]
    try:
        made: Any = make(**said)
    except ValidationError as error:
        raise SpecError(_invalid(kind, make, error)) from error
    except HarnessError:
        raise
    except Exception as error:  # another package's refuses its options as it likes
        known = _parameters(make)
        if key := next((one for one in said if known and one not in known), ""):
            raise SpecError(_no_option(kind, key, known)) from error
        raise SpecError(one_line(f"{kind}: {error}")) from error
    if not is_one(made):
        raise SpecError(f"{kind}: makes a {type(made).__name__}, which is no {what}")
    if made.name != name:  # by which its records are found
        raise SpecError(one_line(f"{kind}: its name is {made.name!r}; give it that of its entry"))
    if flaw := flaw_of(made):
        raise SpecError(one_line(f"{kind}: {flaw}"))
    return made


def fields_of(made: Any) -> dict[str, Any]:
    """The fields of a dataclass but its name, as options: tuples are lists there."""
    return {
        field.name: _plain(getattr(made, field.name))
        for field in dataclasses.fields(made)
        if field.name != "name"
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _invalid(kind: str, make: Callable[..., Any], error: ValidationError) -> str:
    """The first thing that is wrong with the options."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # of options together; it names them itself
        return first["msg"].removeprefix("Value error, ")
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "unexpected_keyword_argument":
        return _no_option(kind, key, _parameters(make))
    return f"{key}: {first['msg']} (got {first['input']!r})"


def _parameters(make: Callable[..., Any]) -> list[str]:
    """The names of the options; none where they cannot be told."""
    try:
        parameters = signature(make).parameters.values()
    except (TypeError, ValueError):  # it is no function, or written in C
        return []
    if any(one.kind is Parameter.VAR_KEYWORD for one in parameters):
        return []
    return [one.name for one in parameters]


def _no_option(kind: str, key: str, known: Sequence[str]) -> str:
    close = closest(key, known)
    meant = f"; did you mean {close}?" if close else ""
    return f"{key}: {kind} has no such option{meant}"
