"""Attacks of users and of other packages: whether each is what ``protocol.Attack`` says."""

from __future__ import annotations

from typing import Any

from harness.maths.norms import NORMS

TAKEN = frozenset({"clean"})
"""Names of checks that no attack may have; all others of records hold a ``/``, as no name may."""


def is_attack(candidate: Any) -> bool:
    """Whether an object has what ``protocol.Attack`` says, whatever it is."""
    has = all(hasattr(candidate, name) for name in ("name", "norm", "requires", "perturb"))
    return has and not isinstance(candidate, type)


def flaw_of(attack: Any) -> str:
    """What of an attack is not as ``protocol.Attack`` says, as a clause, or nothing."""
    name, norm, requires = attack.name, attack.norm, attack.requires
    if name in TAKEN:
        return f"{name!r} is what records call the images without an attack; name it otherwise"
    if not isinstance(norm, str) or norm not in NORMS:
        return f"{name} has the norm {norm!r}, not {' or '.join(NORMS)}"
    if not isinstance(requires, frozenset | set) or not all(
        isinstance(capability, str) for capability in requires
    ):
        return f"{name} requires {requires!r}; give a frozenset, such as frozenset({{'gradient'}})"
    return "" if callable(attack.perturb) else f"{name} has {attack.perturb!r} for perturb"
