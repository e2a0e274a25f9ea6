"""The data and the models of a spec."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from harness.spec.expect import ExpectSpec
from harness.spec.part import Part, Seed
from harness.spec.training import TrainingSpec


class DataSpec(Part):
    """Which dataset, and how it is split.

    ``70-20-10`` is a seeded stratified split of all images into training, validation and test.
    ``canonical`` keeps the publisher's own test set, and holds a seeded stratified sixth of the
    publisher's training set out for validation.
    """

    name: str
    split: Literal["70-20-10", "canonical"] = "70-20-10"
    seed: Seed = 0


class ModelSpec(BaseModel):
    """A model to train; any other key is an option of its architecture, such as ``hidden``.

    Attributes:
        architecture: The family of networks that it is of, by its name in ``FAMILIES``.
        training: How it is trained.
        expect: What its measurements are judged by.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    architecture: str = "mlp"
    training: TrainingSpec
    expect: ExpectSpec

    @property
    def options(self) -> dict[str, Any]:
        """Options of the architecture, by their names."""
        return dict(self.model_extra or {})
