"""The attacks: those that the checks make, and those whose accuracies are reported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from harness.attacks.apgd import APGD
from harness.attacks.fgsm import FGSM
from harness.attacks.noise import Noise
from harness.attacks.pgd import PGD
from harness.attacks.square import Square
from harness.protocol import GRADIENT, Attack, is_targeted

STRONG = 20
"""Gradient steps from which an attack claims to be a strong one. One of fewer steps is weaker by
design: that says nothing of the gradients."""
WEAKER = 0.045
"""Share of the images that may be correct under one attack of many steps, but not under all attacks
together. On sound networks it is less: targeted attacks find a hundredth that PGD misses."""
FAR = 0.15
"""The same of an attack of few steps, or of an unknown number, or without gradients."""

REPORTED = 4
"""Of more epsilons that are reported so many are looked at, evenly chosen."""


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """The attacks of the checks. An adapter under test takes the place of one of these.

    Attributes:
        single: One gradient step.
        iterated: Many gradient steps.
        others: More attacks with gradients, the cheap ones first.
        black_box: Attacks that query logits alone; transferred images are added to them.
    """

    single: Attack = field(default_factory=FGSM)
    iterated: Attack = field(default_factory=lambda: PGD(losses=("cross-entropy", "margin")))
    others: tuple[Attack, ...] = field(
        default_factory=lambda: (APGD(steps=30, losses=("cross-entropy", "margin")),)
    )
    black_box: tuple[Attack, ...] = field(
        default_factory=lambda: (Noise(draws=10), Square(steps=300))
    )


@dataclass(frozen=True)
class Reported:
    """An attack whose accuracies are reported, and at which epsilons.

    Attributes:
        attack: The attack as it is measured.
        epsilons: Radii in pixel units.
    """

    attack: Attack
    epsilons: tuple[float, ...]


def is_strong(attack: Attack) -> bool:
    """Whether an attack claims to find what there is to be found, by many steps of a gradient."""
    allowed = shortfall(attack)
    return allowed is not None and allowed <= WEAKER


def shortfall(attack: Attack) -> float | None:
    """Of which share of the images an attack may fall short of all attacks together.

    None if it is meant to be weak, or for something else, so that to fall short says nothing: a
    single step, one that aims at a single class, and of our own those without gradients, and
    DeepFool, which takes the first boundary it meets, whatever epsilon is. A foreign attack is
    judged in any case, but by a wider measure if it does not say that it takes many ``steps``.
    """
    members: tuple[Attack, ...] = getattr(attack, "members", ())
    if members:
        return min((s for s in map(shortfall, members) if s is not None), default=None)
    said = getattr(attack, "steps", None)
    steps = said if isinstance(said, int) else None
    if (steps is not None and steps < 2) or is_targeted(attack):
        return None
    guided = GRADIENT in attack.requires
    if _is_ours(attack) and (steps is None or not guided or hasattr(attack, "overshoot")):
        return None
    return WEAKER if guided and steps is not None and steps >= STRONG else FAR


def _is_ours(attack: Attack) -> bool:
    return type(attack).__module__.partition(".")[0] == __name__.partition(".")[0]


def chosen(epsilons: Iterable[float]) -> list[float]:
    """The radii above zero, in order; of more than ``REPORTED`` an even choice, with both ends."""
    radii = sorted({epsilon for epsilon in epsilons if epsilon > 0})
    places = np.linspace(0, len(radii) - 1, min(len(radii), REPORTED)).round().astype(int)
    return [radii[place] for place in places]
