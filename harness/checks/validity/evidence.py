"""What the checks look at: a model's logits on test images, each measured once, when needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TypeVar

import numpy as np

from harness.attacks.substitute import substitute_for
from harness.checks.check import BrokenError
from harness.checks.validity import repeated
from harness.checks.validity.certificate import Certificate
from harness.checks.validity.outcome import Outcome, allowed, attacked, in_box, outputs, predicted
from harness.checks.validity.panel import Attacks, Reported, chosen
from harness.checks.validity.surrogate import Transfer
from harness.errors import NotApplicable, one_line
from harness.maths.adaptive import is_randomised
from harness.maths.around import why_no_gradient
from harness.maths.images import IN_MEMORY, Chosen
from harness.maths.norms import NORMS
from harness.maths.query import NO_LABEL
from harness.maths.statistics import beats_chance, falls_short
from harness.protocol import GRADIENT, Attack, BoolArray, FloatArray, Images, IntArray, Model

IMAGES = 300
"""Test images that are looked at."""
FEW = 100
"""Of these, how many are attacked where that is expensive: with many steps or queries each."""
FIRST = 32
"""Of these, how many are attacked at epsilon zero."""
MANY = 2000
"""Test images whose predicted labels are looked at, and that train a surrogate."""
WRONG = 100
"""Misclassified test images that are looked at."""
SHARES = (0.05, 0.1, 0.3, 0.5)
"""The epsilons, as shares of the pixel range. At a half, every image can become the same grey."""
BLACK_BOX_SHARES = (0.1, 0.3)
"""Those of attacks other than the first two."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Evidence:
    """A model and its test images, of which a bounded number is looked at.

    Attributes:
        model: The model as it is measured.
        test_x: Test images, (m, *shape) float32.
        test_y: Their labels, (m,) int64.
        attacks: The attacks of the checks.
        seed: Which images are looked at.
        reported: The attacks whose accuracies are reported, with their epsilons.
        measured: Gives the labels, (m,), that clean accuracy counts, in the batches it is measured
            in; or None, if it cannot be measured.
        counted: Gives the labels that are counted under a reported attack at an epsilon, of all
            test images or the first; or None, if that was not measured.
        certificates: Gives what is certified in the run.
        searched: Gives the smallest epsilons, in L∞, at which the first images were found to be
            misclassified, infinite where they were not, (m,), by the name of the search.
    """

    model: Model
    test_x: Images
    test_y: IntArray
    attacks: Attacks = field(default_factory=Attacks)
    seed: int = 0
    reported: tuple[Reported, ...] = ()
    measured: Callable[[], IntArray | None] = field(default=lambda: None, repr=False)
    counted: Callable[[Attack, float], IntArray | None] = field(
        default=lambda attack, epsilon: None, repr=False
    )
    certificates: Callable[[], Sequence[Certificate]] = field(default=tuple, repr=False)
    searched: Callable[[], Mapping[str, FloatArray]] = field(default=dict, repr=False)
    _kept: dict[object, object] = field(default_factory=dict, repr=False)

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

    @property
    def raw_logits(self) -> FloatArray:
        """The logits of the images, (n, k), finite or not.

        Raises:
            BrokenError: The model returns nothing that could be logits.
        """
        return self.once("raw_logits", lambda: outputs(self.model, self.x))

    @property
    def logits(self) -> FloatArray:
        """The same, (n, k).

        Raises:
            NotApplicable: A logit is NaN or infinite.
        """
        if not np.isfinite(self.raw_logits).all():
            raise NotApplicable("a logit is NaN or infinite")
        return self.raw_logits

    @cached_property
    def labels(self) -> IntArray:
        """Predicted labels of the clean images, (n,); of a random model by votes."""
        if is_randomised(self.model):
            return predicted(self.model, self.x)
        return np.asarray(self.logits.argmax(axis=1))

    @cached_property
    def right(self) -> BoolArray:
        """Which clean images are classified correctly, (n,)."""
        return np.asarray(self.labels == self.y)

    @cached_property
    def many_labels(self) -> IntArray:
        """Predicted labels of more test images, those at ``many``, (m,)."""
        return predicted(self.model, Chosen(self.test_x, self.many))

    @cached_property
    def chance(self) -> float:
        """Accuracy of the best constant prediction."""
        return float(np.bincount(self.y).max() / len(self.y))

    @cached_property
    def second_calls(self) -> tuple[FloatArray, FloatArray]:
        """The logits of two more calls, (n, k) each: one alone may come in turn."""
        return outputs(self.model, self.x), outputs(self.model, self.x)

    @cached_property
    def steady(self) -> bool:
        """Whether they are those of the first call."""
        return not any(repeated.differ(again, self.logits) for again in self.second_calls)

    @cached_property
    def logits_apart(self) -> FloatArray:
        """The logits, (n, k), in small batches that each hold images of one class, or of few."""
        return repeated.apart(self.model, self.x, self.y)

    @cached_property
    def mislabelled(self) -> IntArray:
        """Which images, (i,), clean accuracy counts under another label, beyond rounding."""
        if is_randomised(self.model) or (everything := self.measured()) is None:
            return np.zeros(0, dtype=np.int64)
        counted = np.asarray(everything[self._chosen], dtype=np.int64)
        said = np.flatnonzero(counted != NO_LABEL)
        return said[repeated.relabelled(counted[said], self.logits[said], self.slack)]

    @cached_property
    def slack(self) -> float:
        """Difference of logits that is rounding, relative to the largest of them."""
        return repeated.slack(self.model, self.x, self.logits)

    def differ(self, found: FloatArray) -> bool:
        """Whether logits (n, k) of the images differ from the first ones, beyond rounding."""
        return repeated.differ(found, self.logits, self.slack)

    @property
    def with_gradient(self) -> tuple[FloatArray, FloatArray]:
        """Logits (n, k), and the input gradients of the log-odds beside them, (n, *shape).

        Raises:
            NotApplicable: The model gives no gradients, or has no logit for a label.
            BrokenError: The model breaks when they are requested.
        """
        self._require_fitting_labels()
        if GRADIENT not in self.model.capabilities:
            raise NotApplicable(f"the model gives no gradients{why_no_gradient(self.model)}")
        return self.once(
            "with_gradient", lambda: repeated.with_gradient(self.model, self.x, self.y)
        )

    @cached_property
    def one_mode(self) -> bool:
        """Whether the logits beside a gradient are those of a plain call; see above."""
        beside, _ = self.with_gradient
        return is_randomised(self.model) or not self.differ(beside)

    @property
    def gradients(self) -> FloatArray:
        """Input gradients of the log-odds, which attacks climb, (n, *shape); see above."""
        return self.with_gradient[1]

    @cached_property
    def black_box(self) -> tuple[Attack, ...]:
        """The attacks that query logits alone, and images made against another model."""
        predicted, bounds = self.many_labels, self.model.bounds
        surrogate = substitute_for(predicted, self.test_x[self.many], bounds, self.logits.shape[1])
        return (*self.attacks.black_box, Transfer(surrogate))

    @cached_property
    def righted(self) -> BoolArray:
        """Which misclassified test images the iterated attack at the first epsilon corrects.

        Raises:
            NotApplicable: The attack cannot be run, or returns what it may not.
        """
        self.require_better_than_chance()
        labels = predicted(self.model, self.test_x)
        wrong = self._order[(labels != self.test_y)[self._order]][:WRONG]
        if not len(wrong):
            raise NotApplicable("no image is misclassified")
        x, y = self.test_x[wrong], np.asarray(self.test_y[wrong], dtype=np.int64)
        outcome = self._attacked(self.attacks.iterated, SHARES[0] * self.width, x, y)
        return np.asarray(allowed(outcome).labels == y)

    @cached_property
    def better_than_chance(self) -> bool:
        """Whether the predicted labels have to do with the true ones, or are as by guessing.

        Raises:
            NotApplicable: The images are too few to tell one from the other, or a label has
                no logit.
        """
        self._require_fitting_labels()
        if len(np.unique(self.y)) < 2:
            raise NotApplicable("all images are of one class")
        if beats_chance(self.labels, self.y):
            return True
        if not falls_short(self.labels, self.y):
            raise NotApplicable(f"{len(self.y)} images are too few to tell it from chance")
        return False

    def require_better_than_chance(self) -> None:
        """An attack on a model that guesses anyway says nothing.

        Raises:
            NotApplicable: Clean accuracy is not significantly above chance, or the images are
                too few to tell.
        """
        if not self.better_than_chance:
            raise NotApplicable("the model is no better than chance on clean images")

    def require_attackable(self) -> None:
        """An attack says nothing where logits depend on more than the image, or are invalid.

        Raises:
            NotApplicable: The images are outside the model's bounds, or a label has no logit,
                or a logit is not finite, or changes from call to call or with the batch.
        """
        self._require_fitting_labels()
        if not self.in_bounds:
            raise NotApplicable("the images are outside the model's bounds")
        if is_randomised(self.model):
            return
        if not self.steady:
            raise NotApplicable("the logits change from call to call")
        if self.differ(self.logits_apart):
            raise NotApplicable("the logits depend on the batch")

    def outcome(self, attack: Attack, share: float) -> Outcome:
        """What an attack makes of the images at an epsilon, given as a share of the range.

        Each epsilon is attacked on its own: an attack that hands on what it found at a smaller one
        would hide that it gets worse. All but the first two attacks get ``FEW`` images.

        Raises:
            NotApplicable: The model lacks what the attack requires, or cannot be attacked.
        """
        many = attack is self.attacks.single or attack is self.attacks.iterated
        return self.outcome_at(attack, share * self.width, len(self.y) if many else FEW)

    def outcome_at(self, attack: Attack, epsilon: float, count: int) -> Outcome:
        """The same of the first images, at an epsilon in pixel units."""
        x, y = self.x[:count], self.y[:count]
        make = partial(self._attacked, attack, epsilon, x, y, gradient=True)
        return self.once((id(attack), epsilon, count), make)

    def panel_points(self) -> Iterator[tuple[Attack, float]]:
        """Every attack that the model admits, at no distance and at each of its shares."""
        for attack in (self.attacks.single, self.attacks.iterated):
            yield from ((attack, share) for share in (0.0, *SHARES) if self._admits(attack))
        for attack in (*self.attacks.others, *self.black_box):
            shares = (0.0, *BLACK_BOX_SHARES)
            yield from ((attack, share) for share in shares if self._admits(attack))

    def outcomes(self) -> Iterator[Outcome]:
        """Those of the panel, and of the reported attacks, but of the ones that break."""
        yield from self.panel_outcomes()
        for attack, epsilon in self.reported_points():
            with suppress(BrokenError):
                yield self.outcome_at(attack, epsilon, FEW)

    def panel_outcomes(self) -> Iterator[Outcome]:
        """Those of ``panel_points``, but of the ones that break."""
        for attack, share in self.panel_points():
            with suppress(BrokenError):
                yield self.outcome(attack, share)

    def reported_points(self) -> Iterator[tuple[Attack, float]]:
        """Every reported attack that the model admits, at its epsilons, in pixel units."""
        for one in self.reported:
            radii = [*([0.0] if 0 in one.epsilons else []), *chosen(one.epsilons)]
            yield from ((one.attack, e) for e in radii if self._admits(one.attack))

    def at_zero(self) -> Iterator[Outcome]:
        """Those at epsilon zero on the first images: of the reported attacks, or of the panel."""
        panel = self.attacks
        ours = (panel.single, panel.iterated, *panel.others, *panel.black_box)
        for attack in [one.attack for one in self.reported] or ours:
            if self._admits(attack):
                with suppress(BrokenError):
                    yield self.outcome_at(attack, 0.0, FIRST)

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
        for count in (len(self.y), FEW):
            known = self._kept.get((id(attack), epsilon, count))
            if isinstance(known, Outcome) and rows.max(initial=0) < count:
                return np.asarray(allowed(known).labels[rows] != self.y[rows])
        x, y = self.x[rows], self.y[rows]
        return np.asarray(allowed(self._attacked(attack, epsilon, x, y, rows)).labels != y)

    def once(self, key: object, make: Callable[[], T]) -> T:
        """What is made when first needed; also that it could not be."""
        if key not in self._kept:
            try:
                self._kept[key] = make()
            except NotApplicable as error:
                self._kept[key] = error
        kept = self._kept[key]
        if isinstance(kept, NotApplicable):
            raise kept
        return kept  # type: ignore[return-value]

    @cached_property
    def many(self) -> IntArray:
        """Positions of more test images, (m,): an even choice, whatever order they come in."""
        image = self.test_x.nbytes // len(self.test_x)
        return np.sort(self._order[: min(MANY, max(IMAGES, IN_MEMORY // max(1, image)))])

    @property
    def _chosen(self) -> IntArray:
        """Positions of the images that are looked at."""
        return self._order[:IMAGES]

    @cached_property
    def _order(self) -> IntArray:
        """Positions of all test images: in turn one of each class."""
        random = np.random.default_rng(self.seed)
        order = random.permutation(len(self.test_y))
        turn = np.zeros(len(order), dtype=np.int64)
        for label in np.unique(self.test_y):
            places = np.flatnonzero(self.test_y[order] == label)
            turn[places] = np.arange(len(places))
        return np.asarray(order[np.argsort(turn, kind="stable")])

    def _admits(self, attack: Attack) -> bool:
        return attack.requires <= self.model.capabilities

    def _require_fitting_labels(self) -> None:
        if not self.labels_fit:
            raise NotApplicable("the model has no logit for some labels")

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
        lacking = ", ".join(sorted(attack.requires - self.model.capabilities))
        if lacking:
            raise NotApplicable(f"{attack.name} needs {lacking}, which the model lacks")
        if GRADIENT in attack.requires:
            try:
                one_mode = self.one_mode
            except BrokenError as error:
                raise NotApplicable(one_line(error)) from error
            if not one_mode:
                raise NotApplicable("the logits change where a gradient is requested")
        return attacked(self.model, attack, epsilon, x, y, index, gradient=gradient)
