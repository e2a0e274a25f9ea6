"""Errors whose message is meant for the person at the keyboard, and text that is safe to show.

Messages are on one line, without what a terminal would obey.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, get_args, get_origin

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

UNSEEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that a terminal obeys or cannot encode: controls, half pairs, line breaks."""
BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Signs that change the direction of reading, so that a text looks like another one."""

GIST = 200
"""Letters of a framework's message that are shown at most."""
TRACEBACK = re.compile(r"traceback|most recent call last|serialized code", re.IGNORECASE)
OPENING = re.compile(
    r"(Exception encountered when calling .*?\.(?=\s|$)|Graph execution error:)\s*"
)
"""What frameworks say before they come to the point."""
VALUES = re.compile(
    r"\.?\s*(Received args|Arguments received|Call arguments|\[Op:|\[\[\{\{).*|"
    r"<?(tf\.Tensor|tensor|array)\(.*|[\[(]{2,}\s*-?\d.*",
    re.DOTALL,
)
"""Where they begin to list what they were given."""
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z<])|\n\s*\n")
MARK = re.compile(r"\[\w+\]|(constrained-)?(float|int|str|tuple)(\[.*\])?")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class HarnessError(Exception):
    """A wrong request: one line that names the file, key or value, and what to do (exit code 2)."""

    def __str__(self) -> str:
        """The message without what a terminal would obey: it may quote a file or a server."""
        return printable(super().__str__())


class SpecError(HarnessError):
    """A spec file that is missing, not TOML, or says something that cannot be."""


class DataError(HarnessError):
    """A dataset that is missing, damaged, or cannot be downloaded."""


class BackendError(HarnessError):
    """A backend that is unknown, not installed, or cannot do what was requested."""


class RunError(HarnessError):
    """A stored run or baseline that is missing, truncated, or of another schema."""


class MeasurementError(Exception):
    """A measurement that cannot be trusted, so that no number is given."""


class BatchTooLarge(MeasurementError):  # noqa: N818  # it is an answer: ask with fewer images
    """A batch does not fit into memory; with fewer images at a time it may."""


class Unanswered(MeasurementError):  # noqa: N818
    """A black box gave no answer on a batch, however often it was asked."""


class CheckFailed(Exception):  # noqa: N818  # it is a finding, and no error of ours
    """What a check has found wrong, in one line.

    Args:
        finding: What was seen; before an advice a full stop at its end is left out.
        advice: A sentence on what to do, if the finding does not say it.
        of: What the finding is of, such as the name of the check.
    """

    def __init__(self, finding: str, advice: str = "", *, of: str = "") -> None:
        about = f"{of}: " if of else ""
        said = f"{finding.rstrip('. ')}. {advice}" if advice else finding
        super().__init__(f"{about}{said}")


class NotApplicable(Exception):  # noqa: N818  # nor is this one
    """A check or a measurement that cannot be made of this model; the message says why."""


def printable(text: str) -> str:
    r"""Text as it is, but for signs that move, colour or hide: an escape becomes ``\x1b``.

    For whatever comes from a file, a server or an exception, before it reaches a terminal.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode() if obeyed(sign) else sign for sign in text
    )


def encoded(text: str) -> bytes:
    """Text for people as UTF-8; half a surrogate pair, which has none, becomes its number."""
    return text.encode("utf-8", "backslashreplace")


def one_line(message: object) -> str:
    """Any message or exception squeezed onto one printable line of bounded length."""
    text = printable(" ".join(str(message).split())) or type(message).__name__
    return text if len(text) <= 500 else text[:499] + "…"


def gist(error: BaseException) -> str:
    """The first sentence of a framework's message that says something, without values of arrays."""
    text = COLOURS.sub("", str(error)).strip()
    if TRACEBACK.search(text):  # it ends with what went wrong, as Python's do
        lines = [line.strip() for line in VALUES.sub("", text).splitlines() if line.strip()]
        text = lines[-1] if lines else ""
    sentence = SENTENCE.split(VALUES.sub("", OPENING.sub("", text)).strip())[0]
    said = one_line(sentence) if sentence else type(error).__name__
    return said if len(said) <= GIST else said[: GIST - 1] + "…"


def obeyed(sign: str) -> bool:
    """Whether a character does something instead of being seen."""
    return unicodedata.category(sign) in UNSEEN or sign in BIDI


def unknown(name: object, kind: str, known: Iterable[str]) -> str:
    """What to say of a name that nothing has: ``pdg: no such attack; the attacks are ...``.

    Args:
        name: The name.
        kind: What it should be a name of, such as ``attack``; ``s`` makes it a plural.
        known: The names that there are.
    """
    there = list(known)
    close = closest(name, there)
    meant = f"; did you mean {close}?" if close else ""
    said = "''" if name == "" else name  # as an unset variable of a shell is
    return f"{said}: no such {kind}; the {kind}s are {', '.join(there)}{meant}"


def closest(name: object, known: Iterable[str]) -> str:
    """The known name that was probably meant; empty if none is close."""
    return next(iter(get_close_matches(str(name), list(known), n=1)), "")


def first_problem(
    error: ValidationError, model: type[BaseModel] | None = None, beside: Iterable[str] = ()
) -> str:
    """The first finding of a validation as ``key: what is wrong``, on one line.

    An unknown key comes first, since it is mostly the misspelt name of one that is missing then.

    Args:
        error: What pydantic has found.
        model: What was validated, to name the key that was probably meant.
        beside: Other keys that may have been meant.
    """
    found = [_misspelt(one, model) for one in error.errors(include_url=False)]
    # A misspelt key is found twice: as unknown, and as what is missing then.
    findings = list({(one["loc"], one["type"]): one for one in found}.values())
    first = min(findings, key=lambda one: one["type"] != "extra_forbidden")
    # Without pydantic's marks, of a key itself or of a kind of part.
    path = [str(part) for part in first["loc"] if not MARK.fullmatch(str(part))]
    key, message = ".".join(path), first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        meant = closest(path[-1], (*_fields(model, path), *beside)) if model else ""
        remedy = f"did you mean {meant}?" if meant else "check the spelling or remove it"
        message = f"unknown key; {remedy}"
    elif first["type"] not in ("value_error", "missing"):
        message = f"{message} (got {first['input']!r})"
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return one_line(f"{key}: {message}{more}" if key else f"{message}{more}")


def _misspelt(found: ErrorDetails, model: type[BaseModel] | None) -> ErrorDetails:
    """A key that is missing, as the unknown one that is there in its place, if there is one.

    Where a part of a spec takes any key, as options of an attack, none is unknown by itself.
    """
    if model is None or found["type"] != "missing" or not isinstance(found["input"], dict):
        return found
    *path, name = (str(part) for part in found["loc"] if not MARK.fullmatch(str(part)))
    others = set(found["input"]) - set(_fields(model, [*path, name]))
    there = closest(name, others)
    return {**found, "type": "extra_forbidden", "loc": (*path, there)} if there else found


def _fields(model: type[BaseModel], path: Sequence[str]) -> tuple[str, ...]:
    """The keys of the part of a model that holds the end of a path; of all kinds that it may be."""
    steps, models = iter(path[:-1]), [model]
    for step in steps:
        annotations = [m.model_fields[step].annotation for m in models if step in m.model_fields]
        parts = [kind for a in annotations for kind in _within(a) if hasattr(kind, "model_fields")]
        if not parts:
            break
        models = parts
        if any(get_origin(annotation) is dict for annotation in annotations):
            next(steps, None)  # a name
    return tuple(dict.fromkeys(field for one in models for field in one.model_fields))


def _within(annotation: object) -> Iterator[Any]:
    """A type, and all that it is made of."""
    yield annotation
    for inner in get_args(annotation):
        yield from _within(inner)
