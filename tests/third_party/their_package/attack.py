"""An attack."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dimming:
    """Makes an image darker, by a part of epsilon."""

    strength: float = 1.0
    name: str = "dimming"
    norm: str = "linf"
    requires: frozenset = frozenset()

    def perturb(self, model, x, y, epsilons, *, index):
        return (model.xp.maximum(x - self.strength * e, 0.0 * x) for e in epsilons)
