"""What the measurements of a model are judged by."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from harness.spec.part import AccuracyRange, Epsilon, Fraction, Sparse


class ExpectSpec(Sparse):
    """What a model's measurements are judged by.

    Attributes:
        clean: Range for the clean accuracy; anything passes if None.
        attacks: Per attack and epsilon a range for the accuracy under it. The upper end matters
            too: an undefended model that looks robust means that the attack is broken.
        certified: Per certifier and epsilon a range for the certified accuracy.
        saliency_margin: Occluding the most salient pixels must cost at least this much more
            accuracy than occluding as many random ones.
    """

    SILENT: ClassVar[tuple[str, ...]] = ("certified",)

    clean: AccuracyRange | None = None
    attacks: dict[str, dict[Epsilon, AccuracyRange]] = Field(default_factory=dict)
    certified: dict[str, dict[Epsilon, AccuracyRange]] = Field(default_factory=dict)
    saliency_margin: Fraction = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> ExpectSpec:
        named = {"clean": self.clean or (0.0, 1.0)} | {
            f"{section}.{name}.{epsilon:g}": bounds
            for section in ("attacks", "certified")
            for name, ranges in getattr(self, section).items()
            for epsilon, bounds in ranges.items()
        }
        for key, (low, high) in named.items():
            if low > high:
                raise ValueError(f"{key}: the range [{low:g}, {high:g}] is empty")
        return self


class TrainedExpectSpec(ExpectSpec):
    """The same of a model that the harness trains, whose clean accuracy must be in some range."""

    clean: AccuracyRange
