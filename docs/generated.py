"""Parts of the reference that are written by the code itself, when the site is built.

A page holds ``<!-- generated: NAME -->`` where a part belongs, behind a sentence for those who read
its source; ``filled`` puts the part in place of both. What is printed comes from the pydantic
models of a spec, the registries and their docstrings.
"""

from __future__ import annotations

import inspect
import posixpath
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.main import get_command

import harness
from harness.attacks import ATTACKS, make_attack
from harness.certification import CERTIFIERS, make_certifier
from harness.checks import conformance, validity
from harness.checks.sanity import checks as sanity
from harness.cli import app
from harness.networks.families import FAMILIES
from harness.saliency.methods import METHODS
from harness.spec.expect import ExpectSpec, TrainedExpectSpec
from harness.spec.models import ModelSpec
from harness.spec.own import OwnModelSpec, WeightsSpec
from harness.spec.published import NumberSpec, PaperSpec
from harness.spec.spec import Spec
from harness.spec.training import RECIPES

MARK = re.compile(r"(?:\*[^*\n]*\* )?<!-- generated: ([a-z-]+) -->")
LINK = re.compile(r"(?<=\]\()(\.\./[^)#\s]*)")
ENTRY = re.compile(r"^    (\w+): (.*)$")
NORMS = {"linf": "L∞", "l2": "L2"}
HIDDEN = {"home"}
"""Fields of a spec that no file has."""
OF_OTHERS: dict[type[Any], set[str]] = {WeightsSpec: {"load", "options", "votes"}}
"""Fields of a part that only what it derives from can have."""
KINDS: dict[type[Any], str] = {
    ModelSpec: "trained here",
    OwnModelSpec: "your own",
    WeightsSpec: "weights of others",
    TrainedExpectSpec: "of one trained here",
    ExpectSpec: "of others",
}
"""What is said beside a heading that several parts have."""
WORDS = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}
LIMITS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def filled(text: str, page: str = "", repository: str = "") -> str:
    """A page as the site shows it.

    Args:
        text: Of the page.
        page: Its path within ``docs``, without the suffix, such as ``learn/fgsm``.
        repository: Address of a folder of the repository; links to files outside of ``docs`` are
            made links to there.
    """
    text = MARK.sub(lambda mark: PARTS[mark[1]](), text)
    home = posixpath.join("docs", posixpath.dirname(page))

    def absolute(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(home, link[1]))
        return link[1] if path.startswith("docs/") else f"{repository}/{path}"

    return LINK.sub(absolute, text)


# Docstrings


def summary(thing: object) -> str:
    """The first paragraph of a docstring, on one line."""
    return _marked(" ".join(inspect.cleandoc(thing.__doc__ or "").partition("\n\n")[0].split()))


def described(thing: Any) -> dict[str, str]:
    """What a docstring says of each attribute, or argument; of a class and its bases."""
    if isinstance(thing, partial):
        thing = thing.func
    found: dict[str, str] = {}
    for one in reversed(inspect.getmro(thing)) if inspect.isclass(thing) else [thing]:
        found |= _entries(vars(one).get("__doc__") if inspect.isclass(one) else one.__doc__)
    return found


def _entries(doc: str | None) -> dict[str, str]:
    """The entries of the sections ``Attributes`` and ``Args`` of a docstring."""
    found: dict[str, str] = {}
    within, name = False, ""
    for line in inspect.cleandoc(doc or "").splitlines():
        if line and not line.startswith(" "):
            within, name = line in ("Attributes:", "Args:"), ""
        elif within and (entry := ENTRY.match(line)):
            name = entry[1]
            found[name] = entry[2]
        elif within and name and line:
            found[name] += f" {line.strip()}"
    return {name: _marked(text) for name, text in found.items()}


def _marked(text: str) -> str:
    return text.replace("``", "`")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    cells = ([str(cell).replace("|", "\\|") for cell in row] for row in lines)
    return "\n".join(f"| {' | '.join(row)} |" for row in cells) + "\n"


# Keys of a spec


def spec_parts(model: type[BaseModel] = Spec, path: str = "") -> Iterator[tuple[str, type[Any]]]:
    """Every part of a spec, with its path in the file, such as ``models.NAME.training``."""
    seen: set[tuple[str, type[Any]]] = set()

    def walk(part: type[BaseModel], at: str) -> Iterator[tuple[str, type[Any]]]:
        if (at, part) in seen:
            return
        seen.add((at, part))
        yield at, part
        for name, field in _keys(part).items():
            for inner, named in _within(field.annotation):
                yield from walk(inner, ".".join(filter(None, (at, name, named and "NAME"))))

    yield from walk(model, path)


def _keys(part: type[BaseModel]) -> dict[str, FieldInfo]:
    absent = {*HIDDEN, *getattr(part, "ELSEWHERE", {}), *OF_OTHERS.get(part, ())}
    return {key: field for key, field in part.model_fields.items() if key not in absent}


def _within(kind: Any, named: bool = False) -> Iterator[tuple[type[BaseModel], bool]]:
    """The parts in a type, and whether they are there by names."""
    if _is_part(kind):
        yield kind, named
    for inner in get_args(kind):
        yield from _within(inner, named or get_origin(kind) is dict)


def _is_part(kind: Any) -> TypeGuard[type[BaseModel]]:
    # Up to Python 3.10 list[str] is a class, too.
    return get_origin(kind) is None and inspect.isclass(kind) and issubclass(kind, BaseModel)


def spec_keys() -> str:
    """A table for each part of a spec."""
    return "\n".join(_part(path, part) for path, part in spec_parts())


def published_keys() -> str:
    """The same of what a published table has beside a spec."""
    return _part("paper", PaperSpec) + "\n" + _part("published", NumberSpec, "[[{}]]")


def _part(path: str, part: type[BaseModel], form: str = "[{}]") -> str:
    heading = f"`{form.format(path)}`" if path else "At the top"
    heading += f", {KINDS[part]}" if part in KINDS else ""
    told = described(part)
    rows = (
        (f"`{key}`", _field_kind(field), _default(field), told.get(key, ""))
        for key, field in _keys(part).items()
    )
    table = _table(("key", "value", "default", "meaning"), rows)
    return f"## {heading}\n\n{summary(part)}\n\n{_rest(part)}{table}"


def _rest(part: type[BaseModel]) -> str:
    """What a docstring says between its first paragraph and its attributes."""
    _, _, rest = inspect.cleandoc(part.__doc__ or "").partition("\n\n")
    prose = rest.partition("Attributes:")[0].strip()
    return f"{_marked(' '.join(prose.split()))}\n\n" if prose else ""


def _field_kind(field: FieldInfo) -> str:
    limits = _limits(field.metadata)
    return " ".join(filter(None, (kind_of(field.annotation), limits)))


def _limits(metadata: Iterable[Any]) -> str:
    single: list[Any] = []
    for one in metadata:
        single += one.metadata if isinstance(one, FieldInfo) else [one]
    return ", ".join(
        f"{sign} {getattr(one, name)}".removesuffix(".0")
        for one in single
        for name, sign in LIMITS
        if hasattr(one, name)
    )


def kind_of(kind: Any) -> str:
    """A type in words, as of a value in TOML."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return " ".join(filter(None, (kind_of(inner[0]), _limits(inner[1:]))))
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind_of(one) for one in inner if one is not type(None)))
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return f"list of {kind_of(inner[0])}"
        return f"list of {len(inner)}: {kind_of(inner[0])}"
    if origin is dict and next(_within(inner[1]), None):
        return "a table for each name"
    if origin is dict:
        return f"table: {kind_of(inner[0])} = {kind_of(inner[1])}"
    if _is_part(kind):
        return "a table of its own"
    return WORDS.get(kind, "any")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return value_of(field.get_default(call_default_factory=True))


def value_of(value: Any) -> str:
    """A default as TOML has it; nothing where there is none."""
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel) or value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f'`"{value}"`'
    if isinstance(value, list | tuple):
        return f"`{str(list(value)).replace(chr(39), chr(34))}`"
    return f"`{value}`" if value != {} else ""


def recipes() -> str:
    """What each recipe of training says."""
    rows = []
    for name, said in RECIPES.items():
        keys = ", ".join(f"`{key} = {_toml(value)}`" for key, value in said.items())
        rows.append((f"`{name}`", keys))
    return _table(("recipe", "says"), rows)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(one)}' for key, one in value.items())} }}"
    return f'"{value}"' if isinstance(value, str) else f"{value}"


def architectures() -> str:
    """The options of each family of networks."""
    return "\n".join(f"#{_part(name, family.options, '{}')}" for name, family in FAMILIES.items())


# What has a name


def attacks() -> str:
    """Every attack: what it does, its norm, what it needs, and its options."""
    return "\n".join(_made(name, ATTACKS[name], make_attack(name)) for name in ATTACKS)


def certifiers() -> str:
    """The same of the certifiers."""
    return "\n".join(_made(name, CERTIFIERS[name], make_certifier(name)) for name in CERTIFIERS)


def _made(name: str, make: Callable[..., Any], made: Any) -> str:
    source = make.func if isinstance(make, partial) else make
    needs = " and ".join(f"`{one}`" for one in sorted(getattr(made, "requires", ())))
    about = f"{NORMS[made.norm]}{f'; needs {needs}' if needs else ''}."
    told = described(source)
    rows = [
        (f"`{key}`", value_of(one.default if one.default is not one.empty else None), told[key])
        for key, one in inspect.signature(make).parameters.items()
        if key not in ("name", "home") and key in told
    ]
    table = _table(("option", "default", "meaning"), rows) if rows else "It has no options.\n"
    return f"## `{name}`\n\n{summary(source)}\n\n{about}\n\n{table}"


def saliency_methods() -> str:
    """The methods that make saliency maps."""
    return _named(METHODS, "method", "is")


def validity_checks() -> str:
    """What each check of validity asks."""
    return _named(validity.CHECKS, "check", "holds if", "validity/")


def conformance_checks() -> str:
    """The same of conformance."""
    return _named(conformance.CHECKS, "check", "holds if", "conformance/")


def sanity_checks() -> str:
    """The same of saliency maps, of each method."""
    return _named(sanity.CHECKS, "check", "holds if", "saliency-sanity/METHOD/")


def _named(registry: Mapping[str, Any], kind: str, does: str, before: str = "") -> str:
    rows = ((f"`{before}{name}`", summary(registry[name])) for name in registry)
    return _table((kind, does), rows)


def public_names() -> str:
    """The public names of the package, for autodoc; those of its modules lead to their pages."""
    return "\n".join(_public(name, getattr(harness, name)) for name in sorted(harness.__all__))


def _public(name: str, thing: Any) -> str:
    if inspect.ismodule(thing):
        return f"## `{name}`\n\n{summary(thing)} [They have a page of their own]({name}.md).\n"
    kind = "autoclass" if inspect.isclass(thing) else "autofunction"
    members = "   :members:\n   :exclude-members: model_config\n" if kind == "autoclass" else ""
    return f"## `{name}`\n\n```{{eval-rst}}\n.. {kind}:: harness.{name}\n{members}```\n"


def commands() -> str:
    """Every command with its arguments and options."""
    return "\n".join(_commands(get_command(app), "harness"))


def _commands(command: Any, called: str) -> Iterator[str]:
    for name, one in sorted(getattr(command, "commands", {}).items()):
        yield from _commands(one, f"{called} {name}")
    if hasattr(command, "commands"):
        return
    rows = []
    for one in command.params:
        given = one.metavar or ""
        named = given if one.param_type_name == "argument" else f"{', '.join(one.opts)} {given}"
        rows.append((f"`{named.strip() or one.name.upper()}`", one.help or ""))
    table = _table(("argument or option", "is"), rows)
    yield f"## `{called}`\n\n{' '.join((command.help or '').split())}\n\n{table}"


PARTS: dict[str, Callable[[], str]] = {
    "spec-keys": spec_keys,
    "published-keys": published_keys,
    "recipes": recipes,
    "architectures": architectures,
    "attacks": attacks,
    "certifiers": certifiers,
    "saliency-methods": saliency_methods,
    "validity-checks": validity_checks,
    "conformance-checks": conformance_checks,
    "sanity-checks": sanity_checks,
    "public-names": public_names,
    "commands": commands,
}
"""By the names that pages mark them with."""
