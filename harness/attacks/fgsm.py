"""The fast gradient sign method (Goodfellow, Shlens & Szegedy 2015, section 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic.dataclasses import dataclass

from harness.attacks.iterated import EOT_OFF, OPTIONS, Count
from harness.attacks.own import Own
from harness.maths.adaptive import averaged
from harness.maths.objectives import TemperedLogOdds
from harness.maths.pieces import Place, copied, shifted, steepest
from harness.protocol import GRADIENT, Array, IntArray, Model, NormName, differentiable


@dataclass(frozen=True, kw_only=True, config=OPTIONS)
class FGSM(Own):
    """One step of length epsilon along the steepest direction of the loss.

    In the L∞ norm that is x + ε·sign(∇ₓ loss(x, y)), in the L2 norm (``fgm-l2``) the gradient
    itself, scaled. The loss is the cross-entropy with the *true* label; its direction is taken from
    ``TemperedLogOdds``, which do not vanish on confident images, nor depend on the scale of logits
    that are so small that the softmax is nearly uniform. It does not depend on epsilon, so one
    gradient serves the whole sweep.

    Attributes:
        name: What the records call it.
        norm: The norm that bounds the perturbation.
        eot: Draws of a random model that the gradient is averaged over.
    """

    name: str = "fgsm"
    norm: NormName = "linf"
    eot: Count = 1
    requires: ClassVar[frozenset[str]] = frozenset({GRADIENT})

    def options(self) -> dict[str, Any]:
        """See ``protocol.Attack``; without ``eot`` where it does nothing, as it was always."""
        return {key: value for key, value in super().options().items() if (key, value) != EOT_OFF}

    def perturb(
        self, model: Model, x: Array, y: Array, epsilons: Sequence[float], *, index: IntArray
    ) -> Iterator[Array]:
        """One adversarial batch per epsilon, clipped to the box; see ``protocol.Attack``."""
        averages = differentiable(averaged(model, self.eot))
        _, gradient = averages.logits_and_gradient(x, y, TemperedLogOdds())
        place = Place.of(model, x)
        direction = steepest(place, gradient, self.norm)
        for epsilon in epsilons:
            moved = epsilon > 0
            yield shifted(place, x, direction, float(epsilon)) if moved else copied(place, x)
