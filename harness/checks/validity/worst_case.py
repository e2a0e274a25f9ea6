"""A worst-case attack: one attack after another, each on the images that are left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from harness.attacks.apgd import APGD
from harness.attacks.pgd import PGD
from harness.checks.validity.evidence import Evidence
from harness.checks.validity.lots import FEW
from harness.checks.validity.panel import chosen, shortfall
from harness.errors import NotApplicable
from harness.protocol import GRADIENT, Attack, BoolArray, IntArray, NormName

SHARES = (0.1, 0.2, 0.3, 0.4)
"""Epsilons that are looked at beside the reported ones, as shares of the pixel range: gradients may
be masked where pixels are clamped or squashed, and nowhere else."""
NEAR = 1.2
"""A share is left out where a reported epsilon is larger or smaller by less than this factor."""
SUSPECT = 0.02
"""If other attacks alone succeed on more of the first images, all are looked at."""
LAST: tuple[Attack, ...] = (
    PGD(name="pgd-t", steps=10, losses=("margin",), target="each"),
    APGD(name="apgd-l2", norm="l2", steps=30, losses=("cross-entropy", "margin")),
)
"""Further attacks on what is left by those of the panel."""


@dataclass
class WorstCase:
    """The outcome of n images at one epsilon in one norm.

    Attributes:
        epsilon: Radius in pixel units.
        panel: Which images are correct under the iterated attack of the panel, (n,).
        told: By the name of each attack that is reported here, which are correct under it, (n,).
        allowed: By the same names, how far each may fall short; see ``panel.shortfall``.
        guided: Which images are correct under all attacks that follow gradients, (n,).
        left: Which images are correct under all attacks, (n,).
        first: By the name of each attack, on how many images it succeeds where those before failed.
    """

    epsilon: float
    panel: BoolArray | None
    told: dict[str, BoolArray]
    allowed: dict[str, float | None]
    guided: BoolArray
    left: BoolArray
    first: dict[str, int]

    def __add__(self, other: WorstCase) -> WorstCase:
        """That of both lots of images."""
        both = self.told.keys() & other.told.keys()
        names = dict.fromkeys([*self.first, *other.first])
        panel = None
        if self.panel is not None and other.panel is not None:
            panel = np.concatenate([self.panel, other.panel])
        return WorstCase(
            self.epsilon,
            panel,
            {name: np.concatenate([self.told[name], other.told[name]]) for name in both},
            self.allowed,
            np.concatenate([self.guided, other.guided]),
            np.concatenate([self.left, other.left]),
            {name: self.first.get(name, 0) + other.first.get(name, 0) for name in names},
        )

    @property
    def judged(self) -> dict[str, BoolArray]:
        """Of the reported attacks those that are to find what there is, the lowest count first."""
        found = {name: at for name, at in self.told.items() if self.allowed[name] is not None}
        return dict(sorted(found.items(), key=lambda each: int(each[1].sum())))

    @property
    def short(self) -> dict[str, BoolArray]:
        """Of these the ones that fall shorter than they may, likewise."""
        allowed = self.allowed
        return {n: at for n, at in self.judged.items() if self.share(at) > (allowed[n] or 0.0)}

    @property
    def best(self) -> float:
        """The share of images that are correct under the best that is reported, but not under all.

        That of the panel's, where nothing is reported that is to find what there is.
        """
        correct = list(self.told.values())
        if not self.judged and self.panel is not None:
            correct.append(self.panel)
        return min(map(self.share, correct), default=0.0)

    @property
    def suspect(self) -> bool:
        """Whether images are correct under gradients, or the best reported, but not under all."""
        return max(self.best, self.share(self.guided)) > SUSPECT

    def share(self, correct: BoolArray) -> float:
        """The share of all images that are correct under these attacks, but not under all."""
        return float(correct.sum() - self.left.sum()) / len(self.left)


def worst_cases(evidence: Evidence, norm: NormName) -> Iterator[WorstCase]:
    """The worst case at each epsilon, on more images where the first ones give cause for it.

    Raises:
        NotApplicable: The model cannot be attacked, or is no better than chance.
    """
    evidence.require_better_than_chance()
    evidence.require_attackable()
    few, rest = np.split(np.arange(len(evidence.y)), [FEW])
    for epsilon in _radii(evidence, norm):
        case = _worst_case(evidence, norm, epsilon, few)
        if case.suspect and len(rest):
            case += _worst_case(evidence, norm, epsilon, rest)
        yield case


def _radii(evidence: Evidence, norm: NormName) -> list[float]:
    """The epsilons of reported attacks that are judged, or else of any, and some of the range."""
    ours = [one for one in evidence.reported if one.attack.norm == norm]
    judged = [one for one in ours if shortfall(one.attack) is not None]
    radii = chosen(epsilon for one in judged or ours for epsilon in one.epsilons)
    if evidence.attacks.iterated.norm == norm:
        shares = [share * evidence.width for share in SHARES]
        radii += [e for e in shares if not any(e < NEAR * r and r < NEAR * e for r in radii)]
    return sorted(radii)


def _worst_case(evidence: Evidence, norm: NormName, epsilon: float, rows: IntArray) -> WorstCase:
    key = ("worst case", norm, epsilon, int(rows[0]))
    return evidence.once(key, lambda: _attacked_in_turn(evidence, norm, epsilon, rows))


def _attacked_in_turn(
    evidence: Evidence, norm: NormName, epsilon: float, rows: IntArray
) -> WorstCase:
    panel, reported = evidence.attacks, _reported(evidence, norm, epsilon)
    right = evidence.right[rows]
    case = WorstCase(epsilon, None, {}, {}, right.copy(), right.copy(), {})
    for attack in _in_norm([panel.iterated], norm):
        found = _correct_under(evidence, attack, rows, case)
        case.panel = None if found is None else right & found
    for attack in _in_norm([panel.single, *panel.others, *LAST], norm):
        if GRADIENT in attack.requires:
            _go_on(evidence, attack, rows, case)
    for guided in (True, False):
        for attack in reported:  # each is judged, whoever has got an image misclassified already
            if (GRADIENT in attack.requires) is guided:
                correct = case.panel if attack == panel.iterated else None
                if correct is None:
                    correct = _correct_under(evidence, attack, rows, case)
                if correct is not None:
                    case.told[attack.name] = correct
                    case.allowed[attack.name] = shortfall(attack)
        if guided:
            case.guided = case.left.copy()
    for attack in _in_norm(evidence.black_box, norm):
        if GRADIENT not in attack.requires:
            _go_on(evidence, attack, rows, case)
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


def _correct_under(
    evidence: Evidence, attack: Attack, rows: IntArray, case: WorstCase
) -> BoolArray | None:
    """Which images are correct under an attack, as reports count it; None if it cannot be run.

    An image that was misclassified before counts if the attack corrects it.
    """
    try:
        correct = ~evidence.misclassified_under(attack, case.epsilon, rows)
    except NotApplicable:
        return None
    found = int((case.left & ~correct).sum())
    case.first[attack.name] = case.first.get(attack.name, 0) + found
    case.left &= correct
    return correct


def _go_on(evidence: Evidence, attack: Attack, rows: IntArray, case: WorstCase) -> None:
    """Attack the images that are left."""
    left = np.flatnonzero(case.left)
    if len(left):
        with suppress(NotApplicable):
            found = left[evidence.misclassified_under(attack, case.epsilon, rows[left])]
            case.left[found] = False
            case.first[attack.name] = case.first.get(attack.name, 0) + len(found)
