"""What every backend's model must do, as plain functions; usable without pytest.

Each ``check_...`` takes ``Evidence`` and raises ``CheckFailed`` with one line on what is wrong,
or ``NotApplicable`` where the evidence lacks what the check compares with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.attacks.fgsm import FGSM
from harness.attacks.sweep import sweep
from harness.checks.check import Check
from harness.errors import CheckFailed, NotApplicable
from harness.maths.adaptive import (
    RANDOM_ON_PURPOSE,
    STOOD_IN,
    is_randomised,
    is_transformed,
    stands_in,
)
from harness.maths.differences import NO_SLOPE, off_the_ties, slopes
from harness.maths.norms import written
from harness.maths.objectives import ClassLogit, CrossEntropy, LogOdds
from harness.maths.outputs import kind_of, looked_through
from harness.maths.query import correct_count
from harness.protocol import (
    GRADIENT,
    FloatArray,
    Images,
    IntArray,
    Model,
    Objective,
    differentiable,
)
from harness.registry import Registry

OBJECTIVES: tuple[Objective, ...] = (CrossEntropy(), LogOdds(), ClassLogit())
EPSILONS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""The sweep whose counts are compared."""
RELATIVE = 1e-4
"""Agreement required of float32 logits and gradients, relative to the largest of them."""


@dataclass(frozen=True)
class Evidence:
    """A model to check, and what to compare it with.

    Attributes:
        model: The model as it will be measured.
        x: A few images, (n, *shape) float32, n ≥ 3.
        y: Their labels, (n,) int64.
        exact: The same network with the same weights in float64, where it can be built.
        oracle: The NumPy backend's network with the same weights in float64, likewise.
        test_x: Many images, (m, *shape) float32, for counting; the few if there are no more.
        test_y: Their labels, (m,) int64.
    """

    model: Model
    x: FloatArray
    y: IntArray
    exact: Model | None = None
    oracle: Model | None = None
    test_x: Images | None = None
    test_y: IntArray | None = None


def check_shapes(evidence: Evidence) -> None:
    """Logits are (n, k) with every label below k; the gradient has the shape of the images."""
    found = _outputs(evidence.model, evidence.x, evidence.y)
    logits, gradient = found["logits"], found.get("gradients")
    if logits.ndim != 2 or logits.shape[0] != len(evidence.x):
        raise CheckFailed(f"logits have shape {logits.shape} for {len(evidence.x)} images")
    if logits.shape[1] < 2:
        raise CheckFailed("there is one logit per image, not one per class")
    if evidence.y.max() >= logits.shape[1]:
        raise CheckFailed(f"label {evidence.y.max()} has no logit among {logits.shape[1]}")
    if gradient is not None and gradient.shape != evidence.x.shape:
        raise CheckFailed(f"the gradient has shape {gradient.shape}, not {evidence.x.shape}")


def check_dtypes(evidence: Evidence) -> None:
    """float32 images give float32 logits and gradients, or float64 ones if the network computes so.

    Those of a black box may be wider than its images. Labels stay int64.
    """
    images = evidence.model.numpy(evidence.model.asarray(evidence.x))
    if images.dtype not in (np.float32, np.float64):
        raise CheckFailed(f"float32 images became {images.dtype}, not float32 or float64")
    for name, values in _outputs(evidence.model, evidence.x, evidence.y).items():
        wider = GRADIENT not in evidence.model.capabilities and values.dtype == np.float64
        if values.dtype != images.dtype and not wider:
            raise CheckFailed(f"{name} have dtype {values.dtype}, not {images.dtype}")
    labels = evidence.model.numpy(evidence.model.asarray(evidence.y))
    if labels.dtype != np.int64:
        raise CheckFailed(f"labels became {labels.dtype}, not int64")


def check_batch_split(evidence: Evidence) -> None:
    """An image's logits and gradient do not depend on the batch it comes in.

    The images are moved a little first: where the inputs of a max-pooling tie, rounding decides
    which of them gets the gradient, and it differs with the size of a batch; see
    ``differences.off_the_ties``.
    """
    _require_steady(evidence)
    x = off_the_ties(evidence.x, evidence.model.bounds).astype(evidence.x.dtype)
    whole = _outputs(evidence.model, x, evidence.y)
    parts = [
        _outputs(evidence.model, x[part], evidence.y[part])
        for part in (slice(0, 1), slice(1, 3), slice(3, None))
        if len(x[part])
    ]
    for name, together in whole.items():
        apart = np.concatenate([part[name] for part in parts])
        _require_close(apart, together, f"{name} depend on how the images are batched")


def check_inference_mode(evidence: Evidence) -> None:
    """Two calls give the same logits: dropout is off, and no call updates anything."""
    _require_steady(evidence)
    images = evidence.model.asarray(evidence.x)
    first = evidence.model.numpy(evidence.model.logits(images))
    second = evidence.model.numpy(evidence.model.logits(images))
    _require_close(
        second, first, "logits change from call to call; is the network in training mode?"
    )


def check_logits_not_probabilities(evidence: Evidence) -> None:
    """The outputs come before softmax; after it gradients saturate, and attacks look weak."""
    if (kind := kind_of(evidence.model)) != "auto":
        raise NotApplicable(f"the outputs are declared to be {kind}")
    if found := looked_through(
        evidence.model, evidence.x if evidence.test_x is None else evidence.test_x
    ):
        raise CheckFailed(f"outputs look like probabilities: {found}; leave the softmax out")


def check_gradient(evidence: Evidence) -> None:
    """In float64, input gradients match central differences at random pixels.

    The class is not the true one: there the loss is steep, while on an image that is classified
    with confidence it is so flat that differences are mostly rounding. And the images are moved a
    little: see ``differences.off_the_ties``.
    """
    _require_steady(evidence)
    if stands_in(evidence.model):
        raise NotApplicable(STOOD_IN)
    if evidence.exact is None:
        raise NotApplicable("the network cannot be rebuilt in float64")
    model, x = evidence.exact, off_the_ties(evidence.x[:3], evidence.exact.bounds)
    other = (evidence.y[:3] + 1) % model.numpy(model.logits(model.asarray(x))).shape[1]
    pixels = np.random.default_rng(0).integers(0, x[0].size, size=(len(x), 40))
    for objective in OBJECTIVES:
        gradient = _outputs(model, x, other, objective)["gradients"]
        chosen = np.take_along_axis(gradient.reshape(len(x), -1), pixels, axis=1)
        found = slopes(model, x, other, objective, pixels, RELATIVE)
        if not found.enough:
            raise NotApplicable(NO_SLOPE)
        error = np.where(found.smooth, np.abs(chosen - found.values), 0.0)
        if not (error <= found.allowed).all():
            worst = np.unravel_index(np.argmax(error - found.allowed), error.shape)
            raise CheckFailed(
                f"the gradient of {objective.name} is off finite differences by "
                f"{error[worst]:.1e}, where {found.allowed[worst]:.1e} is allowed"
            )


def check_input_unchanged(evidence: Evidence) -> None:
    """Neither logits nor gradients change the images they are given."""
    given = evidence.x.copy()
    native = evidence.model.asarray(given)
    evidence.model.logits(native)
    if GRADIENT in evidence.model.capabilities:
        labels = evidence.model.asarray(evidence.y)
        differentiable(evidence.model).logits_and_gradient(native, labels, CrossEntropy())
    if not np.array_equal(given, evidence.x) or not np.array_equal(
        evidence.model.numpy(native), evidence.x
    ):
        raise CheckFailed("the images were changed by being classified")


def check_oracle(evidence: Evidence) -> None:
    """Logits and gradients agree with the NumPy network of the same weights."""
    _require_comparable(evidence)
    if evidence.oracle is None:
        raise NotApplicable("the weights have no neutral names, so NumPy cannot load them")
    for objective in OBJECTIVES:
        found = _outputs(evidence.model, evidence.x, evidence.y, objective)
        expected = _outputs(evidence.oracle, evidence.x.astype(np.float64), evidence.y, objective)
        for name, ours in found.items():
            _require_close(ours, expected[name], f"{name} of {objective.name} differ from NumPy's")


def check_parity(evidence: Evidence) -> None:
    """As many images are correct under FGSM at each epsilon as with NumPy, to 2 in 7,000."""
    _require_comparable(evidence)
    if evidence.oracle is None:
        raise NotApplicable("the weights have no neutral names, so NumPy cannot load them")
    x = evidence.x if evidence.test_x is None else evidence.test_x
    y = evidence.y if evidence.test_y is None else evidence.test_y
    allowed = math.ceil(len(y) * 2 / 7000)
    ours, theirs = (
        sweep(model, FGSM(), x, y, EPSILONS) for model in (evidence.model, evidence.oracle)
    )
    for mine, other in zip(ours, theirs, strict=True):
        counts = correct_count(mine.predictions, y), correct_count(other.predictions, y)
        if abs(counts[0] - counts[1]) > allowed:
            raise CheckFailed(
                f"at epsilon {written(mine.epsilon)} {counts[0]} of {len(y)} images are correct, "
                f"but {counts[1]} with the same weights in NumPy"
            )


OWN: dict[str, Check[Evidence]] = {
    "shapes": check_shapes,
    "dtypes": check_dtypes,
    "batch-split": check_batch_split,
    "inference-mode": check_inference_mode,
    "logits": check_logits_not_probabilities,
    "gradient": check_gradient,
    "input-unchanged": check_input_unchanged,
    "oracle": check_oracle,
    "parity": check_parity,
}
CHECKS: Registry[Check[Evidence]] = Registry("check", "harness.checks.conformance", OWN)


def _require_steady(evidence: Evidence) -> None:
    if is_randomised(evidence.model):
        raise NotApplicable(RANDOM_ON_PURPOSE)


def _require_comparable(evidence: Evidence) -> None:
    """Of a transform that rounds, say, another precision makes other images."""
    _require_steady(evidence)
    if is_transformed(evidence.model):
        raise NotApplicable("images are transformed on their way to the network")
    if stands_in(evidence.model):
        raise NotApplicable(STOOD_IN)


def _outputs(
    model: Model, x: FloatArray, y: IntArray, objective: Objective = OBJECTIVES[0]
) -> dict[str, FloatArray]:
    """Logits, and input gradients of a model that gives some, as NumPy arrays."""
    images, labels = model.asarray(x), model.asarray(y)
    logits = model.numpy(model.logits(images))
    if GRADIENT not in model.capabilities:
        return {"logits": logits}
    beside, gradients = differentiable(model).logits_and_gradient(images, labels, objective)
    if not is_randomised(model):
        _require_close(model.numpy(beside), logits, "logits beside the gradient are different ones")
    return {"logits": logits, "gradients": model.numpy(gradients)}


def _require_close(found: FloatArray, expected: FloatArray, complaint: str) -> None:
    if found.shape != expected.shape:
        raise CheckFailed(f"{complaint} (shape {found.shape}, not {expected.shape})")
    scale = max(float(np.abs(expected).max()), 1e-12)
    error = float(np.abs(found - expected).max()) / scale
    if not error <= RELATIVE:
        raise CheckFailed(f"{complaint} (by {error:.1e} of the largest)")
