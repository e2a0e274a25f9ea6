"""For people who only want the library: wrap a network, evaluate it, read a table."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.attacks import make_attack
from harness.attacks.strongest import require_distinct
from harness.conformance import EPSILONS, looks_like_probabilities
from harness.errors import HarnessError
from harness.measure import logits_of, rounding
from harness.protocol import Attack, Bounds, FloatArray, IntArray, Model
from harness.provenance import new_run
from harness.records import Run
from harness.registry import backend_of, made_by
from harness.subject import Subject
from harness.text import one_line


def wrap(net: Any, bounds: Bounds = (0.0, 1.0)) -> Model:
    """A user's own network as a model to evaluate; the network is not changed.

    Args:
        net: A ``torch.nn.Module`` or a ``keras.Model`` that returns logits, (n, k).
        bounds: Lowest and highest pixel value that the network takes.

    Raises:
        HarnessError: The bounds are not an interval.
        BackendError: The object is not a network of a known framework.
    """
    try:
        low, high = (float(end) for end in bounds)
    except (TypeError, ValueError) as error:
        raise HarnessError(f"bounds: {bounds!r} is not a pair of numbers") from error
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise HarnessError(f"bounds: [{low:g}, {high:g}] is not a finite interval")
    return backend_of(net).wrap(net, bounds=(low, high))


def evaluate(
    model: Model,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    attacks: Sequence[str | Attack] = ("fgsm",),
    epsilons: Sequence[float] = EPSILONS,
    *,
    name: str = "model",
) -> Run:
    """Clean accuracy, and accuracy under each attack at each epsilon.

    Accuracy under an attack is an *upper bound* on robust accuracy: an attack that fails proves
    nothing, and a stronger one may succeed.

    Args:
        model: A wrapped network, or any other ``protocol.Model``.
        x: Images, (n, *shape), floats within ``model.bounds``.
        y: True labels, (n,) integers from 0.
        attacks: Names of attacks, or attacks with options: ``PGD(steps=100, restarts=5)``.
        epsilons: Radii in pixel units, each ≥ 0; they are swept in rising order.
        name: What the records call the model.

    Returns:
        A run whose records are ``measured`` (or ``error``, with the reason), not judged:
        ``run.frame()`` is the table.

    Raises:
        HarnessError: The model, the images, the labels, or the epsilons are not what they should
            be; or the model returns probabilities instead of logits.
        SpecError: There is no attack of that name, or two attacks have one name.
    """
    if not isinstance(model, Model):
        raise HarnessError(f"{type(model).__name__}: not a model; pass harness.wrap(net)")
    images, labels = _images(x, model.bounds), _labels(y)
    if len(images) != len(labels):
        raise HarnessError(f"x has {len(images)} images, but y has {len(labels)} labels")
    made = [make_attack(one) if isinstance(one, str) else one for one in attacks]
    require_distinct(made)
    radii = _radii(epsilons)
    classes = _check_outputs(model, images, labels)

    kind, versions = made_by(model)
    run = new_run({"name": name, "attacks": {a.name: {"epsilons": radii} for a in made}})
    run.versions |= versions
    run.data_sha256 = _content_hash(images, labels)
    run.classes = tuple(str(label) for label in range(classes))
    run.arrays["labels"] = labels.astype(np.int16)
    subject = Subject(run, kind, name, model, images, labels)
    subject.clean()
    for attack in made:
        subject.attacked(attack, radii)
    run.finished = True
    return run


def _images(x: npt.ArrayLike, bounds: Bounds) -> FloatArray:
    images = np.asarray(x)
    if images.dtype.kind != "f":
        raise HarnessError(
            f"x: pixels are {images.dtype}; pass floats within {list(bounds)}, for bytes x / 255"
        )
    if images.ndim < 2 or len(images) == 0:
        raise HarnessError(f"x: the shape {images.shape} is not (n, *image_shape) with n ≥ 1")
    lowest, highest = float(images.min()), float(images.max())
    slack = rounding(bounds)
    if not (bounds[0] - slack <= lowest and highest <= bounds[1] + slack):
        raise HarnessError(
            f"x: pixels span [{lowest:g}, {highest:g}], outside the model's bounds {list(bounds)}; "
            "scale the images, or wrap the network with its own bounds"
        )
    return images


def _labels(y: npt.ArrayLike) -> IntArray:
    labels = np.asarray(y)
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise HarnessError(
            f"y: {labels.dtype} of shape {labels.shape} is not (n,) integer labels; "
            "for one-hot labels pass y.argmax(axis=1)"
        )
    return labels.astype(np.int64)


def _radii(epsilons: Sequence[float]) -> list[float]:
    try:
        radii = sorted(float(epsilon) + 0.0 for epsilon in epsilons)  # no -0.0
    except (TypeError, ValueError):
        radii = []
    if not radii or not all(np.isfinite(radius) and radius >= 0 for radius in radii):
        raise HarnessError(f"epsilons: {epsilons!r} is not one or more finite numbers ≥ 0")
    if len({f"{radius:g}" for radius in radii}) < len(radii):
        raise HarnessError(f"epsilons: {radii} must differ in their first six digits")
    return radii


def _content_hash(images: FloatArray, labels: IntArray) -> str:
    """SHA-256 of images and labels, by which the gate knows the same data again."""
    digest = hashlib.sha256()
    for array in (images, labels):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _check_outputs(model: Model, images: FloatArray, labels: IntArray) -> int:
    """Catch early what would make every later number wrong; returns the number of classes."""
    try:
        logits, again = logits_of(model, images[:64]), logits_of(model, images[:64])
    except Exception as error:
        shape = images.shape[1:]
        raise HarnessError(
            one_line(f"the model cannot be evaluated on images of shape {shape}: {error}")
        ) from error
    if not np.allclose(logits, again, rtol=1e-4, atol=1e-4):
        raise HarnessError(
            "the model's outputs change from call to call; turn its dropout or noise off"
        )
    if looks_like_probabilities(logits):
        raise HarnessError(
            "the model returns probabilities; attacks need logits: leave its softmax out"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= logits.shape[1]:
        raise HarnessError(
            f"y: labels span [{low}, {high}], but the model has {logits.shape[1]} classes from 0"
        )
    return int(logits.shape[1])
