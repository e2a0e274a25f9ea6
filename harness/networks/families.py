"""The architectures, by name: their options, and the network of each for some data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import HarnessError, SpecError, first_problem, unknown
from harness.protocol import Architecture
from harness.registry import Registry
from harness.spec.models import ModelSpec
from harness.spec.part import Dropout, Hidden


@dataclass(frozen=True)
class Family:
    """Networks of one kind.

    Attributes:
        options: The options of a network of this kind, as a pydantic model.
        build: Makes the network of the shape of one image, the number of classes, and the options.
    """

    options: type[BaseModel]
    build: Callable[[tuple[int, ...], int, Any], Architecture]


class MLPOptions(BaseModel):
    """A fully connected ReLU network; see ``protocol.Architecture``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    # A spec's lists become tuples.
    hidden: Annotated[Hidden, Field(strict=False)]
    dropout: Dropout = 0.0
    batch_norm: bool = False


def mlp(input_shape: tuple[int, ...], classes: int, options: MLPOptions) -> Architecture:
    """A fully connected ReLU network for images of that shape."""
    return Architecture(
        input_shape, options.hidden, classes, options.dropout, options.batch_norm
    )  # fmt: skip


FAMILIES: Registry[Family] = Registry(
    "architecture", "harness.architectures", {"mlp": Family(MLPOptions, mlp)}
)
"""The kinds of network that a spec can name."""


def options_for(name: str, given: Mapping[str, Any]) -> BaseModel:
    """The options of an architecture, checked, and those that are not given at their defaults.

    Raises:
        SpecError: There is no such architecture, or an option is unknown, missing or wrong; the
            message begins with its key.
        HarnessError: Another package's architecture does not import, or two have one name.
    """
    options = _family(name).options
    try:
        return options.model_validate(dict(given))
    except ValidationError as error:
        raise SpecError(first_problem(error, options, ModelSpec.model_fields)) from error


def architecture_of(
    name: str, given: Mapping[str, Any], input_shape: tuple[int, ...], classes: int
) -> Architecture:
    """A network, by the name of its kind.

    Args:
        name: Name of the architecture, such as ``mlp``.
        given: Its options.
        input_shape: Shape of one image, such as ``(28, 28)``.
        classes: Number of classes, at least 2.

    Raises:
        SpecError: As for ``options_for``.
        HarnessError: As for ``options_for``; or what another package made is no architecture.
    """
    made = _family(name).build(input_shape, classes, options_for(name, given))
    if not isinstance(made, Architecture):
        raise HarnessError(f"{name}: made a {type(made).__name__}, not an Architecture")
    return made


def _family(name: str) -> Family:
    if name not in FAMILIES:
        raise SpecError(f"architecture: {unknown(name, 'architecture', FAMILIES)}")
    found = FAMILIES[name]
    if not isinstance(found, Family):
        raise HarnessError(f"{name}: is a {type(found).__name__}, not a networks.families.Family")
    return found
