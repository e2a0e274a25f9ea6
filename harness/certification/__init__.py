"""The certifiers, by name: lower bounds of robust accuracy. Each is written once, over any arrays.

``bounds_of`` bounds the logits of a network between two images, and ``certify`` counts images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from harness.certification.crown import CROWN
from harness.certification.ibp import IBP
from harness.certification.logits import bounds_of
from harness.certification.sweep import certify
from harness.making import made_by_name
from harness.maths.norms import NORMS
from harness.protocol import Certifier
from harness.registry import Registry

OWN: dict[str, Callable[..., Certifier]] = {
    "ibp": IBP,
    "crown": CROWN,
    "ibp-l2": partial(IBP, name="ibp-l2", norm="l2"),
    "crown-l2": partial(CROWN, name="crown-l2", norm="l2"),
}
CERTIFIERS: Registry[Callable[..., Certifier]] = Registry("certifier", "harness.certifiers", OWN)

__all__ = ["CERTIFIERS", "CROWN", "IBP", "bounds_of", "certify", "is_certifier", "make_certifier"]


def make_certifier(
    name: str, kind: str | None = None, options: Mapping[str, Any] | None = None
) -> Certifier:
    """A certifier.

    Args:
        name: What the records call it, after ``certified/``.
        kind: Which certifier it is; the name says so if this is None.
        options: What differs from its defaults.

    Raises:
        SpecError: There is no such certifier, or it has no such option or value; or what another
            package made is not as ``protocol.Certifier`` says.
    """
    certifier: Certifier = made_by_name(
        CERTIFIERS, "certifier", name, kind, options, is_certifier, flaw_of
    )
    return certifier


def is_certifier(candidate: Any) -> bool:
    """Whether an object has what ``protocol.Certifier`` says, whatever it is."""
    has = all(hasattr(candidate, name) for name in ("name", "norm", "certified"))
    return has and not isinstance(candidate, type)


def flaw_of(certifier: Any) -> str:
    """What of a certifier is not as ``protocol.Certifier`` says, as a clause, or nothing."""
    name, norm = certifier.name, certifier.norm
    if not isinstance(norm, str) or norm not in NORMS:
        return f"{name} has the norm {norm!r}, not {' or '.join(NORMS)}"
    if not callable(certifier.certified):
        return f"{name} has {certifier.certified!r} for certified"
    return ""
