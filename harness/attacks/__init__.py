"""The attacks, by name. Each is written once, over any backend's arrays.

Example:
    >>> from harness.attacks import PGD, make_attack
    >>> make_attack("pgd").steps, PGD(steps=100, restarts=5).steps
    (40, 100)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from harness.attacks.apgd import APGD
from harness.attacks.cw import CarliniWagner
from harness.attacks.ddn import DDN
from harness.attacks.deepfool import DeepFool
from harness.attacks.fab import FAB
from harness.attacks.fgsm import FGSM
from harness.attacks.fmn import FMN
from harness.attacks.foreign import flaw_of, is_attack
from harness.attacks.hopskipjump import HopSkipJump
from harness.attacks.noise import Noise
from harness.attacks.pgd import MIM, PGD
from harness.attacks.square import Square
from harness.attacks.square_l2 import SquareL2
from harness.attacks.strongest import Strongest, require_ensemble
from harness.attacks.transfer import Transfer
from harness.errors import SpecError
from harness.making import made_by_name
from harness.protocol import Attack, NormName
from harness.registry import Registry

__all__ = [
    "APGD",
    "ATTACKS",
    "DDN",
    "FAB",
    "FGSM",
    "FMN",
    "MIM",
    "PGD",
    "CarliniWagner",
    "DeepFool",
    "HopSkipJump",
    "Noise",
    "Square",
    "SquareL2",
    "Strongest",
    "Transfer",
    "autoattack",
    "flaw_of",
    "is_attack",
    "make_attack",
    "require_ensemble",
    "strongest",
    "strongest_l2",
    "transfer",
]
ENSEMBLE = ("fgsm", "pgd", "apgd", "apgd-t", "square")
"""What ``strongest`` runs unless it is told otherwise."""
ENSEMBLE_L2 = ("fgm-l2", "pgd-l2", "deepfool", "apgd-l2", "apgd-t-l2", "square-l2")
"""What ``strongest-l2`` runs unless it is told otherwise."""

TRANSFERS = ("transfer", "transfer-l2")
"""Those that take images from another model, which may lie in a file."""


def strongest(members: Sequence[str] = ENSEMBLE, name: str = "strongest") -> Strongest:
    """The ensemble of the named attacks, each with its defaults; all of one norm.

    Raises:
        SpecError: A name is unknown, an ensemble's, or twice there; there is none; or the norms
            differ.
    """
    return Strongest(members=_members(members), name=name)


def strongest_l2(members: Sequence[str] = ENSEMBLE_L2, name: str = "strongest-l2") -> Strongest:
    """The ensemble in L2: of the named attacks, or of their kin if these are bounded in L∞.

    The kin of ``pgd`` is ``pgd-l2``, for example.

    Raises:
        SpecError: As for ``strongest``.
    """
    attacks = _members(members)
    if attacks[0].norm != "l2":
        attacks = tuple(_kin_in_l2(attack.name) for attack in attacks)
    return Strongest(members=attacks, name=name)


def transfer(
    source: Any = None,
    method: str | None = None,
    steps: int = 20,
    norm: NormName = "linf",
    rounds: int = 2,
    name: str = "transfer",
    home: Path | None = None,
) -> Transfer:
    """Images made against another model; see ``Transfer``.

    Args:
        source: The other model; a substitute, trained on the attacked one's answers, if None.
        method: The attack that makes them, with its defaults; steps up the loss if None.
        steps: How many, without a method.
        norm: The norm, without a method.
        rounds: Of a substitute's training.
        name: What the records call it.
        home: Where files and functions are looked for.

    Raises:
        SpecError: There is no such attack, or an option is not what it should be.
    """
    try:
        attack = None if method is None else make_attack(method)
    except SpecError as error:
        raise SpecError(f"method: {error}") from error
    return Transfer(
        source=source, attack=attack, steps=steps, norm=norm, rounds=rounds, name=name, home=home
    )


def _members(members: Sequence[str]) -> tuple[Attack, ...]:
    names = [members] if isinstance(members, str) else members
    if not (isinstance(names, Sequence) and all(isinstance(one, str) for one in names)):
        raise SpecError(f"members: {members!r} is no list of names")
    if not names or {"strongest", "strongest-l2"} & set(names):
        raise SpecError("members: name one or more attacks, other than strongest")
    try:
        attacks = tuple(make_attack(member) for member in names)
    except SpecError as error:
        raise SpecError(f"members: {error}") from error
    require_ensemble(attacks)
    return attacks


def _kin_in_l2(name: str) -> Attack:
    """The attack that does within a ball in L2 what the named one does in L∞."""
    kin = "fgm-l2" if name == "fgsm" else f"{name}-l2"
    return make_attack(kin) if kin in ATTACKS else make_attack(kin, name, {"norm": "l2"})


def autoattack(name: str = "autoattack", norm: NormName = "linf", seed: int = 0) -> Strongest:
    """AutoAttack's standard ensemble (Croce & Hein 2020, section 5), with its published budgets.

    Auto-PGD with the cross-entropy, and at nine other classes with the ratio of logits, 100 steps
    each; FAB at nine classes, 100 steps each; and 5,000 queries of Square Attack. A network of
    fewer classes has fewer to aim at, and margins where there are too few for the ratio. Of a black
    box the Square Attack alone is left.

    Args:
        name: What the records call it.
        norm: The norm that bounds the perturbation.
        seed: Seed of all random starts and draws.
    """
    square = Square if norm == "linf" else SquareL2
    return Strongest(
        members=(
            APGD(name="apgd-ce", norm=norm, losses=("cross-entropy",), seed=seed),
            APGD(name="apgd-t", norm=norm, losses=("dlr",), target="each", seed=seed),
            FAB(name="fab-t", norm=norm, target="each", seed=seed),
            square(name="square", steps=5000, seed=seed),
        ),
        name=name,
    )


OWN: dict[str, Callable[..., Attack]] = {
    "noise": Noise,
    "fgsm": FGSM,
    "fgsm-rs": partial(
        PGD, name="fgsm-rs", steps=1, rel_stepsize=1.25, losses=("tempered-cross-entropy",)
    ),
    "i-fgsm": partial(PGD, name="i-fgsm", steps=10, rel_stepsize=0.1, start="clean"),
    "pgd": PGD,
    "mim": MIM,
    "apgd": APGD,
    "apgd-t": partial(APGD, name="apgd-t", losses=("dlr",), target="each"),
    "fgm-l2": partial(FGSM, name="fgm-l2", norm="l2"),
    "pgd-l2": partial(PGD, name="pgd-l2", norm="l2"),
    "apgd-l2": partial(APGD, name="apgd-l2", norm="l2"),
    "apgd-t-l2": partial(APGD, name="apgd-t-l2", norm="l2", losses=("dlr",), target="each"),
    "deepfool": DeepFool,
    "square": Square,
    "square-l2": SquareL2,
    "hopskipjump": HopSkipJump,
    "hopskipjump-l2": partial(HopSkipJump, name="hopskipjump-l2", norm="l2"),
    "transfer": transfer,
    "transfer-l2": partial(transfer, name="transfer-l2", norm="l2"),
    "strongest": strongest,
    "strongest-l2": strongest_l2,
    "fab": FAB,
    "fab-t": partial(FAB, name="fab-t", target="each"),
    "fab-l2": partial(FAB, name="fab-l2", norm="l2"),
    "fab-t-l2": partial(FAB, name="fab-t-l2", norm="l2", target="each"),
    "ddn": DDN,
    "fmn": FMN,
    "fmn-l2": partial(FMN, name="fmn-l2", norm="l2"),
    "cw-l2": CarliniWagner,
    "autoattack": autoattack,
    "autoattack-l2": partial(autoattack, name="autoattack-l2", norm="l2"),
}
ATTACKS: Registry[Callable[..., Attack]] = Registry("attack", "harness.attacks", OWN)


def make_attack(
    name: str, kind: str | None = None, options: Mapping[str, Any] | None = None
) -> Attack:
    """An attack.

    Args:
        name: What the records call it.
        kind: Which attack it is; the name says so if this is None.
        options: What differs from its defaults.

    Raises:
        SpecError: There is no such attack, or it has no such option or value; or what another
            package made is not as ``protocol.Attack`` says.
    """
    attack: Attack = made_by_name(ATTACKS, "attack", name, kind, options, is_attack, flaw_of)
    return attack
