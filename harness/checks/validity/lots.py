"""What the checks ask of each attack: at which epsilons, and of how many of the images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from harness.checks.validity.panel import Attacks, Reported, chosen
from harness.protocol import Attack, IntArray

IMAGES = 300
"""Test images that are looked at."""
FEW = 100
"""Of these, how many are attacked where that is expensive: with many steps or queries each."""
FIRST = 32
"""Of these, how many are attacked at epsilon zero."""
SHARES = (0.05, 0.1, 0.3, 0.5)
"""The epsilons, as shares of the pixel range. At a half, every image can become the same grey."""
BLACK_BOX_SHARES = (0.1, 0.3)
"""Those of attacks other than the first two."""
PANEL, REPORTED = "panel/", "reported/"
"""How names of lots begin."""
TRANSFER = f"{PANEL}transfer"
"""The lot of images made against another model, which is trained when it is attacked."""


@dataclass(frozen=True)
class Lot:
    """One attack, and the points at which it is looked at.

    Attributes:
        name: ``panel/NAME`` or ``reported/NAME``.
        attack: The attack; None of ``TRANSFER``, until that model is trained.
        points: Epsilons, each with the number of images, the first ones, that are attacked there.
            Epsilons of the panel are shares of the pixel range, others are in pixel units.
    """

    name: str
    attack: Attack | None
    points: tuple[tuple[float, int], ...]

    @property
    def images(self) -> int:
        """How many of the images are attacked, at most."""
        return max(count for _, count in self.points)


def lots_of(attacks: Attacks, reported: Iterable[Reported]) -> Iterator[Lot]:
    """All that is looked at, in order, whether a model admits it or not.

    Each epsilon is attacked on its own: an attack that hands on what it found at a smaller one
    would hide that it gets worse. All but the first two attacks get ``FEW`` images.
    """
    zero = (0.0, FIRST)
    for attack in (attacks.single, attacks.iterated):
        points = tuple((share, IMAGES) for share in SHARES)
        yield Lot(f"{PANEL}{attack.name}", attack, (zero, *points))
    points = tuple((share, FEW) for share in BLACK_BOX_SHARES)
    for attack in (*attacks.others, *attacks.black_box):
        yield Lot(f"{PANEL}{attack.name}", attack, (zero, *points))
    yield Lot(TRANSFER, None, (zero, *points))
    for one in reported:
        points = tuple((epsilon, FEW) for epsilon in chosen(one.epsilons))
        yield Lot(f"{REPORTED}{one.attack.name}", one.attack, (zero, *points))


def in_turn(labels: IntArray, seed: int) -> IntArray:
    """Positions of all images (n,): in turn one of each class, so that any first few hold all."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    turn = np.zeros(len(order), dtype=np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels[order] == label)
        turn[places] = np.arange(len(places))
    return np.asarray(order[np.argsort(turn, kind="stable")])
