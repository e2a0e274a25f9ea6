"""How long an attack may be that one request asks for."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from harness.protocol import GRADIENT, Attack

GRADIENT_STEPS, QUERIES, RESTARTS, DRAWS = 100, 1000, 1, 10
"""What an attack may take at most: steps with a gradient each, or queries without; attempts; and
draws that each gradient is averaged over."""


def capped(attack: Attack) -> Attack:
    """The attack with no more steps and restarts than one request may take.

    The defaults of the harness's own attacks stay as they are.
    """
    members = getattr(attack, "members", None)
    changes: dict[str, Any] = {}
    if isinstance(members, tuple):
        changes["members"] = tuple(map(capped, members))
    most = GRADIENT_STEPS if GRADIENT in attack.requires else QUERIES
    limits = (("steps", most), ("queries", QUERIES), ("restarts", RESTARTS), ("eot", DRAWS))
    for key, largest in limits:
        said = getattr(attack, key, None)
        if isinstance(said, int) and said > largest:
            changes[key] = largest
    if not changes or not hasattr(attack, "__dataclass_fields__"):
        return attack
    return cast("Attack", dataclasses.replace(cast("Any", attack), **changes))
