"""What every backend's model must do, as plain functions; usable without pytest.

Each ``check_...`` takes a ``Case`` and raises ``CheckFailed`` with one line on what is wrong,
or ``NotApplicable`` where the case lacks what the check compares with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from harness.attacks.fgsm import FGSM
from harness.attacks.sweep import sweep
from harness.checks.check import Check
from harness.errors import CheckFailed, NotApplicable
from harness.maths.differences import NO_SLOPE, off_the_ties, slopes
from harness.maths.objectives import ClassLogit, CrossEntropy, LogOdds
from harness.maths.outputs import kind_of, looked_through
from harness.maths.query import correct_count
from harness.protocol import FloatArray, IntArray, Model, Objective

OBJECTIVES: tuple[Objective, ...] = (CrossEntropy(), LogOdds(), ClassLogit())
EPSILONS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
"""The sweep whose counts are compared."""
RELATIVE = 1e-4
"""Agreement asked of float32 logits and gradients, relative to the largest of them."""


@dataclass(frozen=True)
class Case:
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
    test_x: FloatArray | None = None
    test_y: IntArray | None = None


def check_shapes(case: Case) -> None:
    """Logits are (n, k) with every label below k; the gradient has the shape of the images."""
    logits, gradient = _outputs(case.model, case.x, case.y)
    if logits.ndim != 2 or logits.shape[0] != len(case.x):
        raise CheckFailed(f"logits have shape {logits.shape} for {len(case.x)} images")
    if logits.shape[1] < 2:
        raise CheckFailed("there is one logit per image, not one per class")
    if case.y.max() >= logits.shape[1]:
        raise CheckFailed(f"label {case.y.max()} has no logit among {logits.shape[1]}")
    if gradient.shape != case.x.shape:
        raise CheckFailed(f"the gradient has shape {gradient.shape}, not {case.x.shape}")


def check_dtypes(case: Case) -> None:
    """float32 images give float32 logits and gradients, or float64 ones if the network computes so.

    Labels stay int64.
    """
    logits, gradient = _outputs(case.model, case.x, case.y)
    images = case.model.numpy(case.model.asarray(case.x))
    if images.dtype not in (np.float32, np.float64):
        raise CheckFailed(f"float32 images became {images.dtype}, not float32 or float64")
    for name, values in (("logits", logits), ("the gradient", gradient)):
        if values.dtype != images.dtype:
            raise CheckFailed(f"{name} have dtype {values.dtype}, not {images.dtype}")
    labels = case.model.numpy(case.model.asarray(case.y))
    if labels.dtype != np.int64:
        raise CheckFailed(f"labels became {labels.dtype}, not int64")


def check_batch_split(case: Case) -> None:
    """An image's logits and gradient do not depend on the batch it comes in."""
    whole = _outputs(case.model, case.x, case.y)
    parts = [
        _outputs(case.model, case.x[part], case.y[part])
        for part in (slice(0, 1), slice(1, 3), slice(3, None))
        if len(case.x[part])
    ]
    for name, together, apart in zip(
        ("logits", "gradients"), whole, map(np.concatenate, zip(*parts, strict=True)), strict=True
    ):
        _require_close(apart, together, f"{name} depend on how the images are batched")


def check_inference_mode(case: Case) -> None:
    """Two calls give the same logits: dropout is off, and nothing is updated by being asked."""
    images = case.model.asarray(case.x)
    first = case.model.numpy(case.model.logits(images))
    second = case.model.numpy(case.model.logits(images))
    _require_close(
        second, first, "logits change from call to call; is the network in training mode?"
    )


def check_logits_not_probabilities(case: Case) -> None:
    """The outputs come before softmax; after it gradients saturate, and attacks look weak."""
    if (kind := kind_of(case.model)) != "auto":
        raise NotApplicable(f"the outputs are declared to be {kind}")
    if found := looked_through(case.model, case.x if case.test_x is None else case.test_x):
        raise CheckFailed(f"outputs look like probabilities: {found}; leave the softmax out")


def check_gradient(case: Case) -> None:
    """In float64, input gradients match central differences at random pixels.

    The class asked about is not the true one: there the loss is steep, while on an image that is
    classified well it is so flat that differences are mostly rounding. And the images are moved a
    little: see ``differences.off_the_ties``.
    """
    if case.exact is None:
        raise NotApplicable("the network cannot be rebuilt in float64")
    model, x = case.exact, off_the_ties(case.x[:3], case.exact.bounds)
    other = (case.y[:3] + 1) % model.numpy(model.logits(model.asarray(x))).shape[1]
    pixels = np.random.default_rng(0).integers(0, x[0].size, size=(len(x), 40))
    for objective in OBJECTIVES:
        _, gradient = _outputs(model, x, other, objective)
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


def check_input_unchanged(case: Case) -> None:
    """Neither logits nor gradients change the images they are given."""
    given = case.x.copy()
    native = case.model.asarray(given)
    labels = case.model.asarray(case.y)
    case.model.logits(native)
    case.model.logits_and_gradient(native, labels, CrossEntropy())
    if not np.array_equal(given, case.x) or not np.array_equal(case.model.numpy(native), case.x):
        raise CheckFailed("the images were changed by being classified")


def check_oracle(case: Case) -> None:
    """Logits and gradients agree with the NumPy network of the same weights."""
    if case.oracle is None:
        raise NotApplicable("the weights have no neutral names, so NumPy cannot load them")
    for objective in OBJECTIVES:
        found = _outputs(case.model, case.x, case.y, objective)
        expected = _outputs(case.oracle, case.x.astype(np.float64), case.y, objective)
        for name, ours, theirs in zip(("logits", "gradients"), found, expected, strict=True):
            _require_close(ours, theirs, f"{name} of {objective.name} differ from NumPy's")


def check_parity(case: Case) -> None:
    """Images right under FGSM at each epsilon are as many as with NumPy, to 2 in 7,000."""
    if case.oracle is None:
        raise NotApplicable("the weights have no neutral names, so NumPy cannot load them")
    x = case.x if case.test_x is None else case.test_x
    y = case.y if case.test_y is None else case.test_y
    allowed = math.ceil(len(y) * 2 / 7000)
    ours, theirs = (sweep(model, FGSM(), x, y, EPSILONS) for model in (case.model, case.oracle))
    for mine, other in zip(ours, theirs, strict=True):
        counts = correct_count(mine.predictions, y), correct_count(other.predictions, y)
        if abs(counts[0] - counts[1]) > allowed:
            raise CheckFailed(
                f"at epsilon {mine.epsilon:g} {counts[0]} of {len(y)} images are right, "
                f"but {counts[1]} with the same weights in NumPy"
            )


CHECKS: dict[str, Check[Case]] = {
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


def _outputs(
    model: Model, x: FloatArray, y: IntArray, objective: Objective = OBJECTIVES[0]
) -> tuple[FloatArray, FloatArray]:
    """Logits and input gradient as NumPy arrays; the logits are those of ``model.logits``."""
    images, labels = model.asarray(x), model.asarray(y)
    logits = model.numpy(model.logits(images))
    with_gradient, gradient = model.logits_and_gradient(images, labels, objective)
    _require_close(model.numpy(with_gradient), logits, "logits beside the gradient are others")
    return logits, model.numpy(gradient)


def _require_close(found: FloatArray, expected: FloatArray, complaint: str) -> None:
    if found.shape != expected.shape:
        raise CheckFailed(f"{complaint} (shape {found.shape}, not {expected.shape})")
    scale = max(float(np.abs(expected).max()), 1e-12)
    error = float(np.abs(found - expected).max()) / scale
    if not error <= RELATIVE:
        raise CheckFailed(f"{complaint} (by {error:.1e} of the largest)")
