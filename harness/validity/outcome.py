"""What an attack makes of images, whether it keeps its promises or not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.measure import batch_size_for, batches, rounding, rounding_of_length
from harness.norms import NORMS
from harness.protocol import Attack, BoolArray, Bounds, FloatArray, IntArray, Model


@dataclass(frozen=True)
class Outcome:
    """What became of n images at one epsilon.

    Attributes:
        attack: Name of the attack.
        epsilon: Radius in pixel units.
        distance: How far the farthest image is from its original, in the attack's norm.
        lowest: The smallest pixel.
        highest: The largest pixel.
        in_ball: Whether no image is outside the ball, but for rounding.
        in_box: Whether no pixel is outside the bounds, but for rounding.
        unchanged: Which images are exactly the clean ones, (n,).
        labels: Labels that the model predicts of them, (n,).
    """

    attack: str
    epsilon: float
    distance: float
    lowest: float
    highest: float
    in_ball: bool
    in_box: bool
    unchanged: BoolArray
    labels: IntArray

    @property
    def finite(self) -> bool:
        """Whether no pixel is NaN or infinite."""
        return bool(np.isfinite(self.lowest + self.highest))

    @property
    def allowed(self) -> bool:
        """Whether the attack may return these images, so that they may be counted."""
        return self.finite and self.in_ball and self.in_box


def attacked(model: Model, attack: Attack, epsilon: float, x: FloatArray, y: IntArray) -> Outcome:
    """Attack images; unlike ``measure.sweep``, nothing that comes back is refused.

    Args:
        model: The classifier under attack.
        attack: What perturbs; it sees the true labels.
        epsilon: Radius in pixel units.
        x: Clean images, (n, *shape) within the model's bounds; n may be 0.
        y: Their true labels, (n,) int64.
    """
    images, labels = [x[:0]], [y[:0]]
    for part in batches(len(x), batch_size_for(x)):
        # Copies, so that an attack that works in place does not move what it is checked by.
        given, true = model.asarray(x[part].copy()), model.asarray(y[part].copy())
        places = np.arange(part.start, part.stop)
        (found,) = attack.perturb(model, given, true, [epsilon], index=places)
        images.append(model.numpy(found))
        labels.append(model.numpy(model.logits(found)).argmax(axis=1))
    return _described(attack, epsilon, model.bounds, x, np.concatenate(images), labels)


def outputs(model: Model, x: FloatArray) -> FloatArray:
    """What a model says of images (n, *shape), (n, k); unlike ``measure.logits_of`` also NaN."""
    parts = batches(len(x), batch_size_for(x))
    return np.concatenate([model.numpy(model.logits(model.asarray(x[p].copy()))) for p in parts])


def in_box(lowest: float, highest: float, bounds: Bounds) -> bool:
    """Whether pixels of that span are not outside the bounds, but for rounding; also if NaN."""
    slack = rounding(bounds)
    return not (lowest < bounds[0] - slack or highest > bounds[1] + slack)


def _described(
    attack: Attack,
    epsilon: float,
    bounds: Bounds,
    x: FloatArray,
    images: FloatArray,
    labels: list[IntArray],
) -> Outcome:
    slack = rounding_of_length(attack.norm, epsilon, bounds)
    distance = float(NORMS[attack.norm].length(np, images - x).max(initial=0.0))
    low, high = bounds
    lowest, highest = float(images.min(initial=high)), float(images.max(initial=low))
    return Outcome(
        attack.name, epsilon, distance, lowest, highest,
        in_ball=not distance > epsilon + slack,
        in_box=in_box(lowest, highest, bounds),
        unchanged=(images == x).reshape(len(x), -1).all(axis=1),
        labels=np.concatenate(labels),
    )  # fmt: skip
