"""What the checks look at: a model's logits on test images, and what attacks make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from harness.attacks.substitute import substitute_for
from harness.checks.check import BrokenError
from harness.checks.validity.answers import Answers
from harness.checks.validity.certificate import Certificate
from harness.checks.validity.known import NoOutcome, Probed
from harness.checks.validity.lots import FEW, IMAGES, PANEL, REPORTED, SHARES, Lot, lots_of
from harness.checks.validity.outcome import Outcome, allowed, attacked, predicted
from harness.checks.validity.panel import Attacks, Reported
from harness.checks.validity.surrogate import Transfer
from harness.errors import NotApplicable, one_line
from harness.maths.norms import NORMS
from harness.protocol import GRADIENT, Attack, BoolArray, FloatArray, IntArray

WRONG = 100
"""Misclassified test images that are looked at."""


@dataclass(frozen=True, eq=False)
class Evidence(Answers):
    """A model and its test images, and what attacks make of a bounded number of these.

    Attributes:
        attacks: The attacks of the checks.
        reported: The attacks whose accuracies are reported, with their epsilons.
        counted: Gives the labels that are counted under a reported attack at an epsilon, of all
            test images or the first; or None, if that was not measured.
        certificates: Gives what is certified in the run.
        searched: Gives the smallest epsilons, in L∞, at which the first images were found to be
            misclassified, infinite where they were not, (m,), by the name of the search.
    """

    attacks: Attacks = field(default_factory=Attacks)
    reported: tuple[Reported, ...] = field(default=(), kw_only=True)
    counted: Callable[[Attack, float], IntArray | None] = field(
        default=lambda attack, epsilon: None, repr=False, kw_only=True
    )
    certificates: Callable[[], Sequence[Certificate]] = field(
        default=tuple, repr=False, kw_only=True
    )
    searched: Callable[[], Mapping[str, FloatArray]] = field(default=dict, repr=False, kw_only=True)

    @cached_property
    def transfer(self) -> Attack:
        """Images made against another model."""
        predicted, bounds = self.many_labels, self.model.bounds
        surrogate = substitute_for(predicted, self.test_x[self.many], bounds, self.logits.shape[1])
        return Transfer(surrogate)

    @property
    def black_box(self) -> tuple[Attack, ...]:
        """The attacks that query logits alone, and images made against another model."""
        return (*self.attacks.black_box, self.transfer)

    @cached_property
    def righted(self) -> BoolArray:
        """Which misclassified test images the iterated attack at the first epsilon corrects.

        Raises:
            NotApplicable: The attack cannot be run, or returns what it may not.
        """
        self.require_better_than_chance()
        self._require_admitted(self.attacks.iterated)
        labels = predicted(self.model, self.test_x)
        wrong = self._order[(labels != self.test_y)[self._order]][:WRONG]
        if not len(wrong):
            raise NotApplicable("no image is misclassified")
        x, y = self.test_x[wrong], np.asarray(self.test_y[wrong], dtype=np.int64)
        outcome = self._attacked(self.attacks.iterated, SHARES[0] * self.width, x, y)
        return np.asarray(allowed(outcome).labels == y)

    def outcome(self, attack: Attack, share: float) -> Outcome:
        """What an attack makes of the images at an epsilon, given as a share of the range.

        All but the first two attacks get ``FEW`` images.

        Raises:
            NotApplicable: The model lacks what the attack requires, or cannot be attacked.
        """
        many = attack is self.attacks.single or attack is self.attacks.iterated
        return self.outcome_at(attack, share * self.width, IMAGES if many else FEW)

    def outcome_at(self, attack: Attack, epsilon: float, count: int) -> Outcome:
        """The same of the first images, at an epsilon in pixel units."""
        key = self._key(attack, epsilon, count)

        def make() -> Outcome:
            known = self._known.get(key)
            if isinstance(known, NotApplicable):
                raise known
            return known or self._on_rows(attack, epsilon, slice(count))

        return self.once(key, make)

    def lots(self, group: str = "") -> Iterator[tuple[Lot, Attack]]:
        """What is looked at, as far as the model admits it, with every epsilon in pixel units.

        Args:
            group: How the lots' names begin.
        """
        for lot in lots_of(self.attacks, self.reported):
            if lot.name.startswith(group):
                attack = lot.attack or self.transfer
                unit = self.width if lot.name.startswith(PANEL) else 1.0
                points = tuple((unit * epsilon, count) for epsilon, count in lot.points)
                if attack.requires <= self.model.capabilities:
                    yield replace(lot, points=points), attack

    def points(self, group: str = "") -> Iterator[tuple[Attack, float, int]]:
        """The attacks of lots, with the epsilons and numbers of images."""
        for lot, attack in self.lots(group):
            yield from ((attack, epsilon, count) for epsilon, count in lot.points)

    def outcomes(self, group: str = "") -> Iterator[Outcome]:
        """Those of these points, but of the ones that break."""
        for point in self.points(group):
            with suppress(BrokenError):
                yield self.outcome_at(*point)

    def at_zero(self) -> Iterator[Outcome]:
        """Those at epsilon zero on the first images: of the reported attacks, or of the panel."""
        for attack, epsilon, count in self.points(REPORTED if self.reported else PANEL):
            if epsilon == 0:
                with suppress(BrokenError):
                    yield self.outcome_at(attack, epsilon, count)

    def probe(self, name: str, part: slice) -> Probed:
        """What comes of a lot on some of the images: at each point on those that it asks for."""
        found: list[Outcome | NoOutcome] = []
        for attack, epsilon, count in self._points_of(name):
            rows = slice(part.start, min(part.stop, count))
            try:
                found.append(self._on_rows(attack, epsilon, rows))
            except NotApplicable as error:
                found.append(NoOutcome.of(error))
        return Probed(tuple(found))

    def _points_of(self, name: str) -> list[tuple[Attack, float, int]]:
        return [
            (attack, epsilon, count)
            for lot, attack in self.lots(name) if lot.name == name
            for epsilon, count in lot.points
        ]  # fmt: skip

    @cached_property
    def _known(self) -> dict[object, Outcome | NotApplicable]:
        """The outcomes that were measured elsewhere, by attack, epsilon and number of images."""
        found: dict[object, Outcome | NotApplicable] = {}
        for name in self.known.probed:
            with suppress(NotApplicable):  # without logits nothing was attacked elsewhere either
                for point, outcome in zip(
                    self._points_of(name), self.known.of_lot(name), strict=True
                ):
                    found[self._key(*point)] = outcome
        return found

    def _key(self, attack: Attack, epsilon: float, count: int) -> tuple[int, float, int]:
        return id(attack), epsilon, min(count, len(self.y))

    def _on_rows(self, attack: Attack, epsilon: float, rows: slice) -> Outcome:
        """The outcome of some of the images."""
        index = np.arange(len(self.y))[rows]
        x, y = self.x[rows], self.y[rows]
        return self._attacked(attack, epsilon, x, y, index, gradient=True)

    def correct_under(self, attack: Attack, share: float) -> BoolArray:
        """Which images are classified correctly under an attack, (n,) or (``FEW``,).

        Raises:
            NotApplicable: As in ``outcome``; or the model is no better than chance, or the
                attack returned images that it may not.
        """
        self.require_better_than_chance()
        labels = allowed(self.outcome(attack, share)).labels
        return np.asarray(labels == self.y[: len(labels)])

    def misclassified_under(self, attack: Attack, epsilon: float, rows: IntArray) -> BoolArray:
        """Which of the images in these rows, (m,), are misclassified under an attack, (m,).

        Raises:
            NotApplicable: The attack cannot be run, or returns what it may not.
        """
        for count in (IMAGES, FEW):
            key = self._key(attack, epsilon, count)
            found = self._kept.get(key, self._known.get(key))
            if isinstance(found, Outcome) and rows.max(initial=0) < len(found.labels):
                return np.asarray(allowed(found).labels[rows] != self.y[rows])
        x, y = self.x[rows], self.y[rows]
        return np.asarray(allowed(self._attacked(attack, epsilon, x, y, rows)).labels != y)

    def _attacked(
        self,
        attack: Attack,
        epsilon: float,
        x: FloatArray,
        y: IntArray,
        index: IntArray | None = None,
        *,
        gradient: bool = False,
    ) -> Outcome:
        self.require_attackable()
        if attack.norm not in NORMS:
            known = " or ".join(NORMS)
            raise BrokenError(f"{attack.name} has the norm {attack.norm!r}, not {known}")
        self._require_admitted(attack)
        if GRADIENT in attack.requires:
            try:
                one_mode = self.one_mode
            except BrokenError as error:
                raise NotApplicable(one_line(error)) from error
            if not one_mode:
                raise NotApplicable("the logits change where a gradient is requested")
        return attacked(self.model, attack, epsilon, x, y, index, gradient=gradient)

    def _require_admitted(self, attack: Attack) -> None:
        lacking = ", ".join(sorted(attack.requires - self.model.capabilities))
        if lacking:
            raise NotApplicable(f"{attack.name} needs {lacking}, which the model lacks")
