"""The data and the models of a spec."""

from __future__ import annotations

from typing import Literal

from harness.spec.expect import ExpectSpec
from harness.spec.part import Dropout, Hidden, Part, Seed
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


class ModelSpec(Part):
    """A fully connected ReLU network."""

    hidden: Hidden
    dropout: Dropout = 0.0
    batch_norm: bool = False


class TargetSpec(Part):
    """A model to train, and what is expected of it."""

    model: ModelSpec
    training: TrainingSpec
    expect: ExpectSpec
