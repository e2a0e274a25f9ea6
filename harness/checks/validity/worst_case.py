"""Images under one attack after another, each given what the others have left: the worst case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from harness.attacks.apgd import APGD
from harness.attacks.pgd import PGD
from harness.checks.conformance import NotApplicableError
from harness.checks.validity.evidence import FEW, Evidence
from harness.checks.validity.panel import is_strong
from harness.protocol import GRADIENT, Attack, BoolArray, IntArray, NormName

SHARES = (0.1, 0.2, 0.3, 0.4)
"""Epsilons that are looked at beside the reported ones, as shares of the pixel range: gradients may
be masked where pixels are clamped or squashed, and nowhere else."""
REPORTED = 4
"""Of more reported epsilons so many are looked at, evenly chosen."""
NEAR = 1.2
"""A share is left out where a reported epsilon is larger or smaller by less than this factor."""
SUSPECT = 0.02
"""If more of the first images fall to other attacks only, all are looked at."""
LAST: tuple[Attack, ...] = (
    PGD(name="pgd-t", steps=10, losses=("margin",), target="each"),
    APGD(name="apgd-l2", norm="l2", steps=30, losses=("cross-entropy", "margin")),
)
"""Who attacks what is left by those that follow gradients."""


@dataclass
class WorstCase:
    """What became of n images at one epsilon in one norm.

    Attributes:
        epsilon: Radius in pixel units.
        stand: By the name of each attack that is judged, which images withstand it, (n,).
        guided: Which images withstand all attacks that follow gradients, (n,).
        left: Which images withstand all attacks, (n,).
        first: By the name of each attack, how many images fall to it that withstood those before.
    """

    epsilon: float
    stand: dict[str, BoolArray]
    guided: BoolArray
    left: BoolArray
    first: dict[str, int]

    def __add__(self, other: WorstCase) -> WorstCase:
        """That of both lots of images."""
        both = self.stand.keys() & other.stand.keys()
        names = dict.fromkeys([*self.first, *other.first])
        return WorstCase(
            self.epsilon,
            {name: np.concatenate([self.stand[name], other.stand[name]]) for name in both},
            np.concatenate([self.guided, other.guided]),
            np.concatenate([self.left, other.left]),
            {name: self.first.get(name, 0) + other.first.get(name, 0) for name in names},
        )

    @property
    def best(self) -> float:
        """The share of images that withstand the best attack that is judged, but not all."""
        return min(map(self.share, self.stand.values()), default=0.0)

    @property
    def suspect(self) -> bool:
        """Whether some images withstand the gradients, or the best that is judged, but not all."""
        return max(self.best, self.share(self.guided)) > SUSPECT

    def share(self, stand: BoolArray) -> float:
        """The share of all images that withstand these attacks, but not all of them."""
        return float(stand.sum() - self.left.sum()) / len(self.left)


def worst_cases(evidence: Evidence, norm: NormName) -> Iterator[WorstCase]:
    """The worst case at each epsilon, on more images where the first ones give cause for it.

    Raises:
        NotApplicableError: The model cannot be attacked, or is no better than chance.
    """
    evidence.require_better_than_chance()
    evidence.require_attackable()
    few, rest = np.split(np.arange(len(evidence.y)), [FEW])
    for epsilon in _radii(evidence, norm):
        case = _worst_case(evidence, norm, epsilon, few)
        if case.suspect and len(rest):
            case += _worst_case(evidence, norm, epsilon, rest, all_judged=True)
        yield case


def _radii(evidence: Evidence, norm: NormName) -> list[float]:
    """The epsilons of reported strong attacks, or else of any, and some shares of the range."""
    ours = [one for one in evidence.reported if one.attack.norm == norm]
    strong = [one for one in ours if is_strong(one.attack)]
    radii = sorted({epsilon for one in strong or ours for epsilon in one.epsilons if epsilon > 0})
    places = np.linspace(0, len(radii) - 1, min(len(radii), REPORTED)).round().astype(int)
    radii = [radii[place] for place in places]
    if evidence.attacks.iterated.norm == norm:
        shares = [share * evidence.width for share in SHARES]
        radii += [e for e in shares if not any(e < NEAR * r and r < NEAR * e for r in radii)]
    return sorted(radii)


def _worst_case(
    evidence: Evidence, norm: NormName, epsilon: float, rows: IntArray, *, all_judged: bool = False
) -> WorstCase:
    key = ("worst case", norm, epsilon, int(rows[0]), all_judged)
    return evidence.once(
        key, lambda: _attacked_in_turn(evidence, norm, epsilon, rows, all_judged=all_judged)
    )


def _attacked_in_turn(
    evidence: Evidence, norm: NormName, epsilon: float, rows: IntArray, *, all_judged: bool
) -> WorstCase:
    panel, reported = evidence.attacks, _reported(evidence, norm, epsilon)
    strong = [attack for attack in reported if is_strong(attack)]
    weak = [attack for attack in reported if not is_strong(attack)]
    right = evidence.right[rows]
    case = WorstCase(epsilon, {}, right.copy(), right.copy(), {})
    for attack in _in_norm([panel.iterated], norm):
        _judge(evidence, attack, rows, right, case)
    for attack in _in_norm([panel.single, *panel.others, *LAST, *weak], norm):
        if GRADIENT in attack.requires:
            _go_on(evidence, attack, rows, case)
    case.guided = case.left.copy()
    for attack in _in_norm([*weak, *evidence.black_box], norm):
        if GRADIENT not in attack.requires:
            _go_on(evidence, attack, rows, case)
    ours = dict(case.stand)
    if strong:  # what is reported is judged, and nothing else
        case.stand.clear()
    for attack in strong:
        if attack == panel.iterated and attack.name in ours:
            case.stand[attack.name] = ours[attack.name]
        else:
            _judge(evidence, attack, rows, right, case)
            case.guided &= case.stand.get(attack.name, case.guided)
        if not all_judged and case.best <= SUSPECT:
            break
    return case


def _reported(evidence: Evidence, norm: NormName, epsilon: float) -> list[Attack]:
    """The attacks that are reported at this epsilon, in this norm."""
    return [
        one.attack
        for one in evidence.reported
        if epsilon in one.epsilons and one.attack.norm == norm
    ]


def _in_norm(attacks: Sequence[Attack], norm: NormName) -> list[Attack]:
    """Those that bound their perturbation by that norm: others cannot be compared."""
    return [attack for attack in attacks if attack.norm == norm]


def _judge(
    evidence: Evidence, attack: Attack, rows: IntArray, right: BoolArray, case: WorstCase
) -> None:
    """Attack all images that are right, whoever has got them misclassified already."""
    with suppress(NotApplicableError):
        stand = right & ~evidence.broken_by(attack, case.epsilon, rows)
        case.stand[attack.name] = stand
        case.first[attack.name] = int((case.left & ~stand).sum())
        case.left &= stand


def _go_on(evidence: Evidence, attack: Attack, rows: IntArray, case: WorstCase) -> None:
    """Attack the images that are left."""
    left = np.flatnonzero(case.left)
    if len(left):
        with suppress(NotApplicableError):
            fallen = left[evidence.broken_by(attack, case.epsilon, rows[left])]
            case.left[fallen] = False
            case.first[attack.name] = case.first.get(attack.name, 0) + len(fallen)
