"""The fast gradient sign method (Goodfellow, Shlens & Szegedy 2015, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.objectives import LogOdds
from harness.protocol import GRADIENT, Array, Model


class FGSM:
    """One step of size epsilon along the sign of the loss gradient: x + ε·sign(∇ₓ loss(x, y)).

    The loss is the cross-entropy with the *true* label; the sign of its gradient is taken from
    ``LogOdds``, which has the same direction and does not vanish on confident images. It does not
    depend on epsilon, so one gradient serves the whole sweep.
    """

    name = "fgsm"
    requires = frozenset({GRADIENT})

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float]
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon, clipped to the box; see ``protocol.Attack``."""
        _, gradient = model.logits_and_gradient(x, y, LogOdds())
        direction = model.xp.sign(gradient)
        low, high = model.bounds
        for epsilon in epsilons:
            yield model.xp.clip(x + epsilon * direction, low, high)
