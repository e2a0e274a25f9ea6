"""A spec file (TOML) parsed and validated into frozen objects, with one-line errors."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.attacks import ATTACKS
from harness.errors import SpecError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Fraction: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
# Adding zero turns -0.0 into 0.0, which would otherwise be another key.
Epsilon: TypeAlias = Annotated[
    float, Field(ge=0.0, allow_inf_nan=False), AfterValidator(lambda epsilon: epsilon + 0.0)
]
Width: TypeAlias = Annotated[int, Field(ge=1)]
AccuracyRange: TypeAlias = tuple[Fraction, Fraction]
"""Lowest and highest accuracy that passes, both included."""


class Part(BaseModel):
    """A frozen part of a spec; an unknown key is an error, because it is mostly a typo."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSpec(Part):
    """Which dataset, and how it is split.

    ``70-20-10`` is a seeded stratified split of all images into training, validation and test.
    ``canonical`` keeps the publisher's own test set, and holds a seeded stratified sixth of the
    publisher's training set out for validation.
    """

    name: str
    split: Literal["70-20-10", "canonical"] = "70-20-10"
    seed: Annotated[int, Field(ge=0)] = 0


class ModelSpec(Part):
    """A fully connected ReLU network."""

    hidden: Annotated[tuple[Width, ...], Field(min_length=1)]
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0


class TrainingSpec(Part):
    """A recipe: Adam on cross-entropy, stopped early on validation accuracy."""

    epochs: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1e-3
    schedule: Literal["constant", "cosine"] = "cosine"
    l2: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    patience: Annotated[int, Field(ge=1)] = 5


class AttackSpec(Part):
    """The epsilons (L∞ radii, in pixel units) an attack is swept over."""

    epsilons: Annotated[tuple[Epsilon, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _increasing(self) -> AttackSpec:
        if any(a >= b for a, b in zip(self.epsilons, self.epsilons[1:], strict=False)):
            raise ValueError("epsilons must increase from each to the next")
        return self


class SaliencySpec(Part):
    """How the occlusion test of the saliency maps is done."""

    top: Annotated[float, Field(gt=0.0, le=1.0)] = 0.15
    random_draws: Annotated[int, Field(ge=1)] = 5


class ExpectSpec(Part):
    """What a target's measurements are judged by.

    Attributes:
        clean: Range for the clean accuracy.
        attacks: Per attack and epsilon a range for the accuracy under it. The upper end matters
            too: an undefended model that looks robust means that the attack is broken.
        saliency_margin: Occluding the most salient pixels must cost at least this much more
            accuracy than occluding as many random ones.
    """

    clean: AccuracyRange
    attacks: dict[str, dict[Epsilon, AccuracyRange]] = {}
    saliency_margin: Fraction = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> ExpectSpec:
        named = {"clean": self.clean} | {
            f"attacks.{attack}.{epsilon:g}": bounds
            for attack, ranges in self.attacks.items()
            for epsilon, bounds in ranges.items()
        }
        for key, (low, high) in named.items():
            if low > high:
                raise ValueError(f"{key}: the range [{low:g}, {high:g}] is empty")
        return self


class TargetSpec(Part):
    """A model to train, and what is expected of it."""

    model: ModelSpec
    training: TrainingSpec
    expect: ExpectSpec


class Spec(Part):
    """One benchmark: data, targets, attacks and expectations."""

    name: str
    description: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    backends: Annotated[tuple[str, ...], Field(min_length=1)]
    data: DataSpec
    attacks: dict[str, AttackSpec]
    saliency: SaliencySpec = SaliencySpec()
    targets: Annotated[dict[str, TargetSpec], Field(min_length=1)]

    @model_validator(mode="after")
    def _attacks_exist(self) -> Spec:
        for name in self.attacks:
            if name not in ATTACKS:
                known = ", ".join(sorted(ATTACKS))
                raise ValueError(f"attacks.{name}: no such attack; the attacks are {known}")
        return self

    @model_validator(mode="after")
    def _expectations_are_measured(self) -> Spec:
        for name, target in self.targets.items():
            for attack, ranges in target.expect.attacks.items():
                where = f"targets.{name}.expect.attacks.{attack}"
                if attack not in self.attacks:
                    raise ValueError(f"{where}: there is no [attacks.{attack}]")
                for epsilon in ranges:
                    if epsilon not in self.attacks[attack].epsilons:
                        raise ValueError(f"{where}: epsilon {epsilon:g} is not in the sweep")
        return self

    @property
    def sha256(self) -> str:
        """Hash of what the spec says (not of how the file is laid out)."""
        return fingerprint(self.model_dump(mode="json"))


def fingerprint(value: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON-like value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def suites_folder() -> Path:
    """The folder of the suites, in a checkout or an installed wheel."""
    found = importlib.util.find_spec("suites")
    if found is None or not found.submodule_search_locations:
        raise SpecError("the package 'suites' is not installed: pip install robustness-harness")
    return Path(next(iter(found.submodule_search_locations)))


def spec_names() -> list[str]:
    """Names of the specs that ship with the suites."""
    return sorted(path.stem for path in (suites_folder() / "specs").glob("*.toml"))


def load_spec(name_or_path: str) -> Spec:
    """Read a spec by the name of a file in ``suites/specs`` or by path.

    Raises:
        SpecError: There is no such file, or its content is wrong; the message is one line.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = suites_folder() / "specs" / f"{name_or_path}.toml"
        if name_or_path not in spec_names():
            raise SpecError(
                f"{name_or_path}: no such spec; use one of {', '.join(spec_names())}, "
                "or the path of a .toml file"
            )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: cannot be read ({one_line(error)})") from error
    return parse_spec(text, source=str(path))


def parse_spec(text: str, source: str) -> Spec:
    """Validate the text of a spec; ``source`` names it in errors.

    Raises:
        SpecError: The text is not TOML or not a spec.
    """
    try:
        # Strict: true and "2" are no numbers. As JSON: lists become tuples, and keys numbers.
        document = json.dumps(tomllib.loads(text), default=str)
        return Spec.model_validate_json(document, strict=True)
    except ValidationError as error:
        raise SpecError(f"{source}: {first_problem(error)}") from error
    except ValueError as error:  # besides TOMLDecodeError that of an integer of 5,000 digits
        raise SpecError(f"{source}: not valid TOML: {one_line(error)}") from error


def first_problem(error: ValidationError) -> str:
    """The first finding of a validation as ``key: what is wrong``, on one line."""
    findings = error.errors(include_url=False)
    first = findings[0]
    key = ".".join(str(part) for part in first["loc"] if part != "[key]")
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "unknown key; check the spelling or remove it"
    elif first["type"] not in ("value_error", "missing"):
        message = f"{message} (got {first['input']!r})"
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return one_line(f"{key}: {message}{more}" if key else f"{message}{more}")


def one_line(message: object) -> str:
    """Any message or exception squeezed onto one line of bounded length."""
    text = " ".join(str(message).split()) or type(message).__name__
    return text if len(text) <= 500 else text[:499] + "…"
