"""What the checks look at: a model's answers on test images, each measured once, when asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from harness.attacks.apgd import APGD
from harness.attacks.fgsm import FGSM
from harness.attacks.noise import Noise
from harness.attacks.pgd import PGD
from harness.attacks.square import Square
from harness.conformance import NotApplicableError
from harness.measure import batch_size_for, batches
from harness.objectives import LogOdds
from harness.protocol import GRADIENT, Attack, BoolArray, FloatArray, IntArray, Model
from harness.validity.finding import exceeds
from harness.validity.outcome import Outcome, attacked, in_box, outputs
from harness.validity.surrogate import Transfer, taught_by

IMAGES = 300
"""Test images that are looked at."""
FEW = 100
"""Of these, how many are attacked where that is dear: with many steps or queries each."""
LESSON_IMAGES = 2000
"""Test images whose predicted labels a surrogate learns."""
WRONG = 100
"""Misclassified test images that are looked at."""
PIECE = 16
"""Images per batch, where the same images are asked in other batches."""
RELATIVE = 1e-3
"""Difference of float32 logits that is rounding, relative to the largest of them."""
SHARES = (0.05, 0.1, 0.3, 0.5)
"""The epsilons, as shares of the pixel range. At a half, every image can become the same grey."""
BLACK_BOX_SHARES = (0.1, 0.3)
"""Those at which attacks with and without gradients are compared."""


@dataclass(frozen=True, kw_only=True)
class Attacks:
    """Who attacks. An adapter under test takes the place of one of these.

    Attributes:
        single: One gradient step.
        iterated: Many gradient steps.
        others: More attacks with gradients, for the comparison with those without.
        black_box: Attacks that ask for logits alone; transferred images are added to them.
    """

    single: Attack = field(default_factory=FGSM)
    iterated: Attack = field(default_factory=PGD)
    others: tuple[Attack, ...] = field(
        default_factory=lambda: (APGD(steps=30, losses=("cross-entropy", "margin")),)
    )
    black_box: tuple[Attack, ...] = field(
        default_factory=lambda: (Noise(draws=10), Square(steps=300))
    )


@dataclass(frozen=True, eq=False)
class Evidence:
    """A model and its test images, of which a bounded number is looked at.

    Attributes:
        model: The model as it is measured.
        test_x: Test images, (m, *shape) float32.
        test_y: Their labels, (m,) int64.
        attacks: Who attacks.
        seed: Which images are looked at.
    """

    model: Model
    test_x: FloatArray
    test_y: IntArray
    attacks: Attacks = field(default_factory=Attacks)
    seed: int = 0
    _outcomes: dict[tuple[int, float], Outcome] = field(default_factory=dict, repr=False)

    @cached_property
    def x(self) -> FloatArray:
        """The images that are looked at, (n, *shape); any first few hold all classes alike."""
        return np.array(self.test_x[self._chosen])

    @cached_property
    def y(self) -> IntArray:
        """Their labels, (n,)."""
        return np.asarray(self.test_y[self._chosen], dtype=np.int64)

    @cached_property
    def in_bounds(self) -> bool:
        """Whether no pixel is outside the model's bounds, but for rounding."""
        return in_box(float(self.x.min()), float(self.x.max()), self.model.bounds)

    @cached_property
    def labels_fit(self) -> bool:
        """Whether the model has a logit for every label."""
        return bool(self.test_y.min() >= 0 and self.test_y.max() < self.raw_logits.shape[1])

    @property
    def width(self) -> float:
        """Length of the pixel range."""
        return self.model.bounds[1] - self.model.bounds[0]

    @cached_property
    def raw_logits(self) -> FloatArray:
        """What the model says of the images, (n, k), finite or not."""
        return outputs(self.model, self.x)

    @cached_property
    def logits(self) -> FloatArray:
        """The same, (n, k).

        Raises:
            NotApplicableError: A logit is NaN or infinite.
        """
        if not np.isfinite(self.raw_logits).all():
            raise NotApplicableError("a logit is NaN or infinite")
        return self.raw_logits

    @cached_property
    def labels(self) -> IntArray:
        """Predicted labels of the clean images, (n,)."""
        return np.asarray(self.logits.argmax(axis=1))

    @cached_property
    def right(self) -> BoolArray:
        """Which clean images are classified rightly, (n,)."""
        return np.asarray(self.labels == self.y)

    @cached_property
    def chance(self) -> float:
        """Accuracy of the best constant answer."""
        return float(np.bincount(self.y).max() / len(self.y))

    @cached_property
    def asked_again(self) -> FloatArray:
        """The logits of a second call, (n, k)."""
        return outputs(self.model, self.x)

    @cached_property
    def asked_apart(self) -> FloatArray:
        """The logits, (n, k), in small batches that each hold images of one class, or of few."""
        order = np.argsort(self.y, kind="stable")
        apart = np.empty_like(self.logits)
        for piece in np.array_split(order, max(1, len(order) // PIECE)):
            apart[piece] = outputs(self.model, self.x[piece])
        return apart

    @cached_property
    def gradients(self) -> FloatArray:
        """Input gradients of the log-odds, which attacks climb, (n, *shape).

        Raises:
            NotApplicableError: The model gives no gradients, or has no logit for a label.
        """
        self._require_fitting_labels()
        if GRADIENT not in self.model.capabilities:
            raise NotApplicableError("the model gives no gradients")
        parts = []
        for part in batches(len(self.x), batch_size_for(self.x)):
            x, y = self.model.asarray(self.x[part].copy()), self.model.asarray(self.y[part])
            parts.append(self.model.numpy(self.model.logits_and_gradient(x, y, LogOdds())[1]))
        return np.concatenate(parts)

    @cached_property
    def black_box(self) -> tuple[Attack, ...]:
        """The attacks that ask for logits alone, and images made against another model."""
        x = self.test_x[:LESSON_IMAGES]
        answers = outputs(self.model, x).argmax(axis=1)
        surrogate = taught_by(answers, x, self.model.bounds, self.logits.shape[1])
        return (*self.attacks.black_box, Transfer(surrogate))

    @cached_property
    def righted(self) -> BoolArray:
        """Which misclassified test images the iterated attack at the first epsilon puts right.

        Raises:
            NotApplicableError: The attack cannot be run, or returns what it may not.
        """
        self.require_better_than_chance()
        labels = outputs(self.model, self.test_x).argmax(axis=1)
        wrong = np.flatnonzero(labels != self.test_y)[:WRONG]
        x, y = self.test_x[wrong], np.asarray(self.test_y[wrong], dtype=np.int64)
        outcome = self._attacked(self.attacks.iterated, SHARES[0], x, y)
        return np.asarray(_allowed(outcome).labels == y)

    def require_better_than_chance(self) -> None:
        """An attack on a model that guesses anyway says nothing.

        Raises:
            NotApplicableError: Clean accuracy is not significantly above chance.
        """
        if not exceeds(int(self.right.sum()), len(self.y), self.chance):
            raise NotApplicableError("the model is no better than chance on clean images")

    def require_attackable(self) -> None:
        """An attack says nothing where answers depend on more than the image, or are none.

        Raises:
            NotApplicableError: The images are outside the model's bounds, or a label has no logit,
                or a logit is not finite, or changes from call to call or with the batch.
        """
        self._require_fitting_labels()
        if not self.in_bounds:
            raise NotApplicableError("the images are outside the model's bounds")
        if differ(self.asked_again, self.logits):
            raise NotApplicableError("the logits change from call to call")
        if differ(self.asked_apart, self.logits):
            raise NotApplicableError("the logits depend on the batch")

    def outcome(self, attack: Attack, share: float) -> Outcome:
        """What an attack makes of the images at an epsilon, given as a share of the range.

        Each epsilon is attacked on its own: an attack that hands on what it found at a smaller one
        would hide that it gets worse. All but the first two attacks get ``FEW`` images.

        Raises:
            NotApplicableError: The model lacks what the attack requires, or cannot be attacked.
        """
        key = id(attack), share
        if key not in self._outcomes:
            many = attack is self.attacks.single or attack is self.attacks.iterated
            count = len(self.y) if many else FEW
            self._outcomes[key] = self._attacked(attack, share, self.x[:count], self.y[:count])
        return self._outcomes[key]

    def outcomes(self) -> Iterator[Outcome]:
        """Those of every attack that the model admits, at no distance and at each epsilon."""
        for attack in (self.attacks.single, self.attacks.iterated):
            if attack.requires <= self.model.capabilities:
                yield from (self.outcome(attack, share) for share in (0.0, *SHARES))
        for attack in (*self.attacks.others, *self.black_box):
            if attack.requires <= self.model.capabilities:
                yield from (self.outcome(attack, share) for share in (0.0, *BLACK_BOX_SHARES))

    def withstands(self, attack: Attack, share: float) -> BoolArray:
        """Which images are classified rightly under an attack, (n,) or (``FEW``,).

        Raises:
            NotApplicableError: As in ``outcome``; or the model is no better than chance, or the
                attack returned images that it may not.
        """
        self.require_better_than_chance()
        labels = _allowed(self.outcome(attack, share)).labels
        return np.asarray(labels == self.y[: len(labels)])

    @cached_property
    def _chosen(self) -> IntArray:
        """Positions of the images that are looked at: in turn one of each class."""
        random = np.random.default_rng(self.seed)
        order = random.permutation(len(self.test_y))
        turn = np.zeros(len(order), dtype=np.int64)
        for label in np.unique(self.test_y):
            places = np.flatnonzero(self.test_y[order] == label)
            turn[places] = np.arange(len(places))
        return np.asarray(order[np.argsort(turn, kind="stable")][:IMAGES])

    def _require_fitting_labels(self) -> None:
        if not self.labels_fit:
            raise NotApplicableError("the model has no logit for some labels")

    def _attacked(self, attack: Attack, share: float, x: FloatArray, y: IntArray) -> Outcome:
        self.require_attackable()
        lacking = ", ".join(sorted(attack.requires - self.model.capabilities))
        if lacking:
            raise NotApplicableError(f"{attack.name} needs {lacking}, which the model lacks")
        return attacked(self.model, attack, share * self.width, x, y)


def differ(found: FloatArray, expected: FloatArray) -> bool:
    """Whether logits (n, k) are others, beyond rounding."""
    scale = max(float(np.abs(expected).max()), 1e-12)
    return not float(np.abs(found - expected).max()) <= RELATIVE * scale


def _allowed(outcome: Outcome) -> Outcome:
    if not outcome.allowed:
        raise NotApplicableError(f"{outcome.attack} returns images that it may not")
    return outcome
