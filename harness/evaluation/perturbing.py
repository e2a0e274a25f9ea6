"""Adversarial images themselves, for who wants to look at them, store them or train on them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.attacks.sweep import attacked
from harness.data.dataset import Part
from harness.errors import HarnessError, MeasurementError, NotApplicable, one_line
from harness.evaluation.arguments import attacks_from, radii_from
from harness.evaluation.asking import attacked_part
from harness.evaluation.given import check_outputs, model_from
from harness.evaluation.named import layout_for
from harness.evaluation.sources import data_from
from harness.maths.around import Laid
from harness.maths.norms import written
from harness.maths.outputs import Outputs
from harness.protocol import Attack, BoolArray, Bounds, IntArray

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Adversarial images, and what the model takes them for.

    All arrays are NumPy's, in the order of the images that were given.

    Attributes:
        images: (n, *shape) float32, within the bounds of the model (of bytes that were given, in
            [0, 1]) and within ``epsilon`` of what was given, in the attack's norm. An image that
            the model did not answer is as it was.
        labels: What the model takes them for, (n,) int32; -1 of one that it did not answer.
        successes: Whether an image is classified otherwise than its true label says, (n,) bool, as
            many also are without an attack. Under an attack that aims at a class of each image:
            whether it is classified as that class, and was of another.
        attack: Name of the attack.
        epsilon: The radius, in pixel units.
    """

    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    successes: BoolArray
    attack: str
    epsilon: float

    def __repr__(self) -> str:
        shape = " × ".join(map(str, self.images.shape[1:]))
        return (
            f"Perturbed({self.attack!r} at ε = {written(self.epsilon)}: {len(self.labels)} "
            f"images of {shape}, {int(self.successes.sum())} successes)"
        )


def perturb(
    model: Any,
    x: Any,
    y: Any,
    attack: str | Attack,
    epsilon: float,
    *,
    bounds: Bounds | None = None,
    outputs: Outputs = "auto",
    channel_axis: int | None = None,
    epsilon_unit: float | None = None,
    device: str | None = None,
    batch_size: int | None = None,
) -> Perturbed:
    """Attack images, and return them.

    It is the way that ``evaluate`` goes, so that of the images that the model answers as many are
    classified correctly as its record at this epsilon says, when it is given this epsilon alone.

    Args:
        model: As in ``evaluate``: what ``wrap`` or ``wrap_function`` returned, any other
            ``protocol.Model``, or a network.
        x: Images, (n, *shape) within the bounds, in any of the forms that ``evaluate`` takes. They
            are not written to.
        y: True labels, (n,) integers from 0; None where ``x`` gives them, too.
        attack: Name of an attack, or an attack with options: ``PGD(steps=100)``.
        epsilon: Radius in pixel units, ≥ 0.
        bounds: Lowest and highest pixel value, of a network that is not wrapped; [0, 1] if None.
        outputs: What the model returns, as in ``wrap``.
        channel_axis: Axis of one image that holds its channels, as in ``evaluate``.
        epsilon_unit: ``epsilon`` is in this part of a pixel unit: with 255, 8 is 8/255.
        device: Where a network that is not wrapped is computed.
        batch_size: Images at a time; by default as many as fit into memory.

    Returns:
        Images, labels and successes.

    Raises:
        HarnessError: An argument is not what it should be; the model lacks what the attack needs,
            such as gradients; or the attack changes no image, or makes images that are not within
            ball and bounds.
        SpecError: There is no attack of that name.

    Example:
        >>> import harness, numpy as np
        >>> x, y = np.array([[[0.45, 0.55]], [[0.9, 0.1]]]), np.array([1, 0])
        >>> model = harness.wrap_function(lambda images: images[:, 0], outputs="logits")
        >>> found = harness.perturb(model, x, y, "square", 0.1)
        >>> found.labels, found.successes
        (array([0, 0], dtype=int32), array([ True, False]))
        >>> bool(abs(found.images - x).max() <= 0.1 + 1e-6)
        True
    """
    wrapped = model_from(model, bounds, outputs, device, batch_size)
    made = attacks_from(attack)
    radii = radii_from(epsilon, epsilon_unit)
    if len(made) != 1 or len(radii) != 1:
        several = "attack" if len(made) != 1 else "epsilon"
        raise HarnessError(f"{several}: there are several; perturb takes one, in one call each")
    if y is None and isinstance(x, str | Path):
        channel_axis = layout_for(wrapped, str(x), channel_axis)
    data = data_from(x, y, wrapped.bounds, channel_axis=channel_axis)
    if channel_axis is not None:
        wrapped = Laid(wrapped, channel_axis)
    check_outputs(wrapped, data)
    LOG.info("perturbing %d images by %s at ε = %g", len(data.test), made[0].name, radii[0])
    return _perturbed(wrapped, data.test, made[0], radii[0])


def _perturbed(model: Any, part: Part, attack: Attack, epsilon: float) -> Perturbed:
    """The images, attacked.

    Raises:
        HarnessError: It could not be done; the message is what a record would say.
    """
    x, y = part.x, part.y
    try:
        found = attacked_part(model, attack, x, y, [epsilon], range(len(y)))
        (one,) = attacked([found.swept], attack.name, y, [epsilon])
    except (NotApplicable, MeasurementError) as error:
        raise HarnessError(one_line(f"{attack.name}: {error}")) from error
    labels = one.predictions.labels.astype(np.int32)
    return Perturbed(
        images=np.asarray(one.kept, dtype=np.float32),
        labels=labels,
        successes=_successes(labels, one.predictions.answered, y, found.goals),
        attack=attack.name,
        epsilon=epsilon,
    )


def _successes(
    labels: IntArray, answered: BoolArray, y: IntArray, goals: IntArray | None
) -> BoolArray:
    """Which of the images (n,) the attack succeeds on."""
    if goals is None:
        return np.asarray(answered & (labels != y))
    return np.asarray(answered & (labels == goals) & (goals != y))
