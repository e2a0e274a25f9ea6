"""Families of networks: from the options in a spec to an architecture that fits the data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.errors import SpecError, first_problem, unknown
from harness.protocol import Architecture
from harness.registry import Registry
from harness.spec.part import Dropout, Hidden


@dataclass(frozen=True)
class Family:
    """A kind of network of which a spec may have one of any size.

    Attributes:
        options: What a spec can say of it, as a pydantic model that forbids other keys.
        build: Its architecture, from the shape of an image, the number of classes, and validated
            options.
    """

    options: type[BaseModel]
    build: Callable[[tuple[int, ...], int, Any], Architecture]


class MlpOptions(BaseModel):
    """A fully connected ReLU network.

    Attributes:
        hidden: Width of each hidden layer.
        dropout: Share in [0, 1) of hidden units dropped while training.
        batch_norm: Whether training normalises before each ReLU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    # A spec's lists become tuples.
    hidden: Annotated[Hidden, Field(strict=False)]
    dropout: Dropout = 0.0
    batch_norm: bool = False


def mlp(input_shape: tuple[int, ...], classes: int, options: MlpOptions) -> Architecture:
    """A fully connected network: see ``Architecture``."""
    return Architecture(input_shape, options.hidden, classes, options.dropout, options.batch_norm)


FAMILIES: Registry[Family] = Registry(
    "architecture", "harness.architectures", {"mlp": Family(MlpOptions, mlp)}
)


def options_from(family: str, said: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a family, with its defaults where a spec says nothing.

    Raises:
        SpecError: There is no such family, or it has no such option or value.
    """
    return dict(_validated(family, said))


def architecture_of(
    family: str, said: Mapping[str, Any], input_shape: tuple[int, ...], classes: int
) -> Architecture:
    """The network of a family with these options, for images of a shape.

    Raises:
        SpecError: There is no such family, or it has no such option or value.
    """
    return FAMILIES[family].build(input_shape, classes, _validated(family, said))


def _validated(family: str, said: Mapping[str, Any]) -> BaseModel:
    if family not in FAMILIES:
        raise SpecError(f"architecture: {unknown(family, 'architecture', FAMILIES)}")
    kind = FAMILIES[family].options
    try:
        return kind.model_validate(dict(said))
    except ValidationError as error:
        raise SpecError(first_problem(error, kind)) from error
