"""What ``harness search`` tries."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, TypeVar

from pydantic import AfterValidator, Field, model_validator

from harness.spec.part import (
    L2,
    BatchSize,
    Dropout,
    Epochs,
    Epsilon,
    Fraction,
    Hidden,
    LearningRate,
    Part,
    distinct,
)

Value = TypeVar("Value")
Values: TypeAlias = Annotated[tuple[Value, ...], Field(min_length=1), AfterValidator(distinct)]
SEARCHED = ("hidden", "dropout", "l2", "learning_rate", "batch_size")
"""Parameters that a grid can hold."""


class GridSpec(Part):
    """What ``harness search`` tries: every combination of the listed values.

    Attributes:
        model: Whose architecture and recipe are searched; the first model if None.
        hidden: Widths of the hidden layers, a list of lists.
        dropout: Shares of hidden units dropped.
        l2: Factors of the L2 penalty.
        learning_rate: Learning rates.
        batch_size: Images a step.
        epochs: Passes over the training images, at most; the model's own number if None.
        images: So many training images are used; all if None.
        fgsm_weight: Share of the score that is accuracy under FGSM; the rest is clean accuracy.
        fgsm_epsilon: L∞ radius of that FGSM, in pixel units.
    """

    model: str | None = None
    hidden: Values[Hidden] | None = None
    dropout: Values[Dropout] | None = None
    l2: Values[L2] | None = None
    learning_rate: Values[LearningRate] | None = None
    batch_size: Values[BatchSize] | None = None
    epochs: Epochs | None = None
    images: Annotated[int, Field(ge=1)] | None = None
    fgsm_weight: Fraction = 0.0
    fgsm_epsilon: Epsilon = 0.1

    @model_validator(mode="after")
    def _not_empty(self) -> GridSpec:
        if not self.values:
            raise ValueError(f"there is nothing to search; list values of {', '.join(SEARCHED)}")
        return self

    @property
    def values(self) -> dict[str, tuple[Any, ...]]:
        """The values of each parameter that is searched."""
        found = {key: getattr(self, key) for key in SEARCHED}
        return {key: values for key, values in found.items() if values is not None}
