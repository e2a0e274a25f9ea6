"""The attacks, by name. Each is written once, over any backend's arrays."""

from __future__ import annotations

from collections.abc import Callable

from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.errors import SpecError
from harness.protocol import Attack

ATTACKS: dict[str, Callable[[], Attack]] = {
    "fgsm": FGSM,
    "pgd": PGD,
}


def make_attack(name: str) -> Attack:
    """The attack of that name.

    Raises:
        SpecError: There is no such attack.
    """
    if name not in ATTACKS:
        raise SpecError(f"{name}: no such attack; the attacks are {', '.join(sorted(ATTACKS))}")
    return ATTACKS[name]()
