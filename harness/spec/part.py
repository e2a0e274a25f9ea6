"""What all parts of a spec share: they are frozen, know no other key, and check their values."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

Seed: TypeAlias = Annotated[int, Field(ge=0, lt=2**32)]
Fraction: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]
# Adding zero turns -0.0 into 0.0, which would otherwise be another key.
Epsilon: TypeAlias = Annotated[
    float, Field(ge=0.0, allow_inf_nan=False), AfterValidator(lambda epsilon: epsilon + 0.0)
]
Width: TypeAlias = Annotated[int, Field(ge=1)]
Hidden: TypeAlias = Annotated[tuple[Width, ...], Field(min_length=1)]
Dropout: TypeAlias = Annotated[float, Field(ge=0.0, lt=1.0)]
Epochs: TypeAlias = Annotated[int, Field(ge=1)]
BatchSize: TypeAlias = Annotated[int, Field(ge=1)]
LearningRate: TypeAlias = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
L2: TypeAlias = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
AccuracyRange: TypeAlias = tuple[Fraction, Fraction]
"""Lowest and highest accuracy that passes, both included."""


def distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, each of which is there once.

    Raises:
        ValueError: One is there twice.
    """
    if len(set(values)) < len(values):
        raise ValueError("a value is there twice")
    return values


class Part(BaseModel):
    """A frozen part of a spec; an unknown key is an error, because it is mostly a typo."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sparse(Part):
    """A part of which no dump tells what was not said, so that hashes of older specs stay.

    Attributes:
        SILENT: The keys that are left out where they have their default.
    """

    SILENT: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        said: dict[str, Any] = dump(self)
        for key in self.SILENT:
            if getattr(self, key) == type(self).model_fields[key].get_default(
                call_default_factory=True
            ):
                said.pop(key, None)
        return said
