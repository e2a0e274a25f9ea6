"""The attacks, by name. Each is written once, over any backend's arrays."""

from __future__ import annotations

from harness.attacks.fgsm import FGSM
from harness.errors import SpecError
from harness.protocol import Attack

ATTACKS: dict[str, type[Attack]] = {
    "fgsm": FGSM,
}


def make_attack(name: str) -> Attack:
    """The attack of that name.

    Raises:
        SpecError: There is no such attack.
    """
    if name not in ATTACKS:
        raise SpecError(f"{name}: no such attack; the attacks are {', '.join(sorted(ATTACKS))}")
    return ATTACKS[name]()
