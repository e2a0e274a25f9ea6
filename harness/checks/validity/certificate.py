"""What a run has certified, as the checks look at it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.protocol import BoolArray, NormName


@dataclass(frozen=True)
class Certificate:
    """Which of the first images of a run are certified in balls of one radius.

    Attributes:
        name: Of the certifier.
        norm: The norm of the ball.
        epsilon: Its radius, in pixel units.
        certified: Of which images no other within the ball gets another label, (m,).
    """

    name: str
    norm: NormName
    epsilon: float
    certified: BoolArray
