"""A certifier."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cautious:
    """Certifies images as they are, and nothing beyond a radius."""

    least: float = 0.0
    name: str = "cautious"
    norm: str = "linf"

    def certified(self, network, model, x, y, epsilons):
        return (np.full(x.shape[0], epsilon <= self.least) for epsilon in epsilons)
