"""A spec from a TOML file, validated, with one-line errors."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.errors import SpecError, first_problem, one_line, unknown
from harness.files import DEEPEST, read_bounded
from harness.spec.spec import Spec
from harness.spec.units import in_pixel_units
from robustness_harness import shadowed

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T", bound=BaseModel)
LARGEST = 1 << 20
"""Bytes of a spec; that of MNIST has 3,500."""
TOKENS = re.compile(
    r""""{3}(?:\\.|[^\\])*?"{3}|\'{3}.*?\'{3}|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'"""
    r"""|#[^\n]*|[]["'{},=.\n]|[^]["'{},=.\n#]+""",
    re.DOTALL,
)
"""Of TOML: strings and comments as a whole, signs, and what is between them."""


def suites_folder() -> Path:
    """The folder of the suites, in a checkout or an installed wheel.

    Raises:
        SpecError: There is none, or another package of its name hides it.
    """
    if reason := shadowed("suites"):
        raise SpecError(reason)
    found = importlib.util.find_spec("suites")
    if found is None or not found.submodule_search_locations:
        raise SpecError("the package 'suites' is not installed: pip install robustness-harness")
    return Path(next(iter(found.submodule_search_locations)))


def spec_names() -> list[str]:
    """Names of the specs that ship with the suites."""
    return sorted(path.stem for path in (suites_folder() / "specs").glob("*.toml"))


def spec_path(name_or_path: str) -> Path:
    """Where a spec is, of a name in ``suites/specs`` or a path that ends in ``.toml``.

    Raises:
        SpecError: There is no spec of that name.
    """
    path = Path(name_or_path)
    if path.suffix == ".toml":
        return path
    if name_or_path not in spec_names():
        raise SpecError(f"{unknown(name_or_path, 'spec', spec_names())} (or give a .toml file)")
    return suites_folder() / "specs" / f"{name_or_path}.toml"


def load_spec(name_or_path: str) -> Spec:
    """Read a spec by the name of a file in ``suites/specs`` or by path.

    What its names mean is not looked up; ``evaluation.resolve`` does.

    Raises:
        SpecError: There is no such file, or its content is wrong; the message is one line.
    """
    path = spec_path(name_or_path)
    return parse_spec(read_text(path), source=str(path)).model_copy(update={"home": path.parent})


def read_text(path: Path) -> str:
    """The text of a spec's file.

    Raises:
        SpecError: It cannot be read; the message is one line.
    """
    try:
        return read_bounded(path, LARGEST).decode("utf-8")
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read ({one_line(error)})") from error


def parse_spec(text: str, source: str) -> Spec:
    """Validate the text of a spec; ``source`` names it in errors.

    Raises:
        SpecError: The text is not TOML or not a spec, or nested too deeply.
    """
    return checked(parsed(text, source), Spec, source)


def parsed(text: str, source: str) -> dict[str, Any]:
    """The data of a TOML text; ``source`` names it in errors.

    Raises:
        SpecError: The text is not TOML, or nested too deeply.
    """
    if _too_deep(text):
        raise SpecError(
            f"{source}: a key of more than {DEEPEST} parts, or lists nested more than {DEEPEST} "
            "levels deep; no spec needs them"
        )
    try:
        found: dict[str, Any] = tomllib.loads(text)
        return found
    except ValueError as error:  # besides TOMLDecodeError that of an integer of 5,000 digits
        raise SpecError(f"{source}: not valid TOML: {one_line(error)}") from error


def checked(document: dict[str, Any], kind: type[T], source: str) -> T:
    """The data of a file as what it describes; epsilons are brought to pixel units.

    Raises:
        SpecError: They are none; the message is one line, and begins with the source.
    """
    try:
        # Strict: true and "2" are no numbers. As JSON: lists become tuples, and keys numbers.
        said = json.dumps(in_pixel_units(document), default=str)
        return kind.model_validate_json(said, strict=True)
    except ValidationError as error:
        raise SpecError(f"{source}: {first_problem(error, kind)}") from error
    except ValueError as error:
        raise SpecError(f"{source}: not valid TOML: {one_line(error)}") from error


def _too_deep(text: str) -> bool:
    """Whether a TOML text would take the parser long or break it: it is seen before it is parsed.

    A key of n parts takes tomllib n² steps, and a list within a list a call within a call.
    """
    depth = parts = 0
    for sign in TOKENS.finditer(text):
        piece = sign[0]
        if piece in "\"'":
            return False  # a string without an end, which the parser tells of
        depth += (piece in "[{") - (piece in "]}")
        if piece == ".":
            parts += 1
        elif piece in "[]{},=\n":
            parts = 0
        if max(depth, parts) > DEEPEST:
            return True
    return False


def seeded(spec: Spec, seed: int | None) -> Spec:
    """The spec with another seed of its trainings; the same one if None.

    Raises:
        SpecError: The seed is not one.
    """
    if seed is None:
        return spec
    if not 0 <= seed < 2**32:
        raise SpecError(f"--seed: {seed} is not from 0 to 2**32 - 1")
    return spec.model_copy(update={"seed": seed})
