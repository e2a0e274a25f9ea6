"""What the gate lets pass: the part ``[gate]`` of a spec, which a run carries with it."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Share: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]


class GateSettings(BaseModel):
    """How far an accuracy may move; all are fractions of the images.

    Attributes:
        tolerance: So far an accuracy may drop, whatever a test says.
        improvement: So much more than the clean accuracy an accuracy under attack may rise when a
            model was retrained; beyond it the attack is thought to be broken.
        tolerances: Tolerances of single checks, by ``CHECK`` or ``CHECK@EPSILON``: ``fgsm``,
            ``fgsm@0.1``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tolerance: Share = 0.005
    improvement: Share = 0.1
    tolerances: dict[str, Share] = {}

    def tolerance_of(self, check: str, epsilon: float | None) -> float:
        """The tolerance of a check: that of its epsilon, else of its name, else of them all."""
        general = self.tolerances.get(check, self.tolerance)
        return general if epsilon is None else self.tolerances.get(f"{check}@{epsilon:g}", general)
