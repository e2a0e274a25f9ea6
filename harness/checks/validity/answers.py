"""What a model says of test images, as they are; each is asked once, when needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np

from harness.checks.validity import repeated
from harness.checks.validity.known import Basis, Known
from harness.checks.validity.lots import IMAGES, in_turn
from harness.checks.validity.outcome import in_box, outputs, predicted
from harness.errors import NotApplicable
from harness.maths.adaptive import RANDOM_ON_PURPOSE, is_randomised
from harness.maths.around import why_no_gradient
from harness.maths.images import IN_MEMORY, Chosen
from harness.maths.query import NO_LABEL
from harness.maths.statistics import beats_chance, falls_short
from harness.protocol import GRADIENT, BoolArray, FloatArray, Images, IntArray, Model

MANY = 2000
"""Test images whose predicted labels are looked at, and that train a surrogate."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Answers:
    """A model and its test images, of which a bounded number is looked at.

    Attributes:
        model: The model as it is measured.
        test_x: Test images, (m, *shape) float32.
        test_y: Their labels, (m,) int64.
        seed: Which images are looked at.
        measured: Gives the labels, (m,), that clean accuracy counts, in the batches it is measured
            in; or None, if it cannot be measured.
        known: What was measured elsewhere.
    """

    model: Model
    test_x: Images
    test_y: IntArray
    seed: int = field(default=0, kw_only=True)
    measured: Callable[[], IntArray | None] = field(default=lambda: None, repr=False, kw_only=True)
    known: Known = field(default_factory=Known, repr=False, kw_only=True)
    _kept: dict[object, object] = field(default_factory=dict, repr=False, kw_only=True)

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
        basis = self.known.basis
        return basis.logits if basis else self.once("raw_logits", self._first_call)

    def _first_call(self) -> FloatArray:
        return outputs(self.model, self.x)

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
        if self.known.basis:
            return self.known.basis.many_labels
        return predicted(self.model, Chosen(self.test_x, self.many))

    @cached_property
    def chance(self) -> float:
        """Accuracy of the best constant prediction."""
        return float(np.bincount(self.y).max() / len(self.y))

    @cached_property
    def second_calls(self) -> FloatArray:
        """The logits of two more calls, (2, n, k): one alone may come in turn."""
        if self.known.basis:
            return self.known.basis.again
        return np.stack([outputs(self.model, self.x), outputs(self.model, self.x)])

    @cached_property
    def steady(self) -> bool:
        """Whether they are those of the first call."""
        return not any(repeated.differ(again, self.logits) for again in self.second_calls)

    @cached_property
    def logits_apart(self) -> FloatArray:
        """The logits, (n, k), in small batches that each hold images of one class, or of few."""
        if self.known.basis:
            return self.known.basis.apart
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
        if self.known.basis:
            return self.known.basis.slack
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
    def basis(self) -> Basis:
        """What other evidence of the same model needs not ask again.

        Raises:
            NotApplicable: A logit is NaN or infinite, or the model is random on purpose, or breaks.
        """
        if is_randomised(self.model):
            raise NotApplicable(RANDOM_ON_PURPOSE)
        return Basis(
            self.logits, self.second_calls, self.logits_apart, self.slack, self.many_labels
        )

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
        """Positions of all test images."""
        return in_turn(self.test_y, self.seed)

    def _require_fitting_labels(self) -> None:
        if not self.labels_fit:
            raise NotApplicable("the model has no logit for some labels")
