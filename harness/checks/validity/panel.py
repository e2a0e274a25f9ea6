"""Who attacks: the attacks that the checks bring along, and those whose numbers are reported."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.attacks.apgd import APGD
from harness.attacks.fgsm import FGSM
from harness.attacks.noise import Noise
from harness.attacks.pgd import PGD
from harness.attacks.square import Square
from harness.protocol import GRADIENT, Attack

STRONG = 20
"""Gradient steps from which an attack claims to be a strong one. One of fewer steps is weaker by
design, as FGSM and noise are: that says nothing of the gradients."""


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """Who attacks. An adapter under test takes the place of one of these.

    Attributes:
        single: One gradient step.
        iterated: Many gradient steps.
        others: More attacks with gradients, the cheap ones first.
        black_box: Attacks that ask for logits alone; transferred images are added to them.
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
    """Whether an attack claims to find what there is to be found, by many steps of a gradient.

    DeepFool does not: it takes the first boundary it meets, whatever epsilon is. Nor does one that
    aims at a single class.
    """
    members: tuple[Attack, ...] = getattr(attack, "members", ())
    if members:
        return any(is_strong(member) for member in members)
    aims = getattr(attack, "aims_at_one", False)
    if GRADIENT not in attack.requires or hasattr(attack, "overshoot") or aims:
        return False
    steps = getattr(attack, "steps", 1)
    return isinstance(steps, int) and steps >= STRONG
