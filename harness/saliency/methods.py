"""Saliency maps by several methods, each written once over the protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from harness.errors import MeasurementError, SpecError, one_line, unknown
from harness.maths.channels import channel_axis_of
from harness.maths.differences import off_the_ties
from harness.maths.draws import generators, stacked
from harness.maths.images import LazyImages
from harness.maths.objectives import ClassLogit, CrossEntropy
from harness.maths.portions import whole
from harness.maths.query import batch_size_for
from harness.protocol import (
    GRADIENT,
    Array,
    BoolArray,
    FloatArray,
    Images,
    IntArray,
    Model,
    differentiable,
    require_classes,
)
from harness.registry import Registry

NOISE = 0.15
"""Standard deviation of SmoothGrad's noise, as a share of the pixel range (section 3.1)."""
SAMPLES = 25
"""Noisy copies that SmoothGrad averages."""
STEPS = 32
"""Points on the path of integrated gradients."""

Method: TypeAlias = Callable[[Model, Array, Array, IntArray], Array]
"""From a model, images (n, *shape), classes to explain (n,) int64, and the images' positions in
their dataset (n,) to signed maps in the shape of the images."""


def gradient(model: Model, x: Array, y: Array, index: IntArray) -> Array:
    """∂z_y/∂x, in logits per pixel unit (Simonyan, Vedaldi & Zisserman 2014, section 3)."""
    return differentiable(model).logits_and_gradient(x, y, ClassLogit())[1]


def predicted_gradient(model: Model, x: Array, y: Array, index: IntArray) -> Array:
    """The gradient of the logit of the predicted class, whatever y says."""
    logits = model.numpy(model.logits(x))
    require_classes(model.numpy(y), logits.shape[1])
    return gradient(model, x, model.asarray(logits.argmax(axis=1)), index)


def gradient_times_input(model: Model, x: Array, y: Array, index: IntArray) -> Array:
    """Each pixel times ∂z_y/∂x, in logits: exact for a linear model (Shrikumar et al. 2016)."""
    return x * gradient(model, x, y, index)


def smoothgrad(model: Model, x: Array, y: Array, index: IntArray) -> Array:
    """The mean gradient over noisy copies of the image (Smilkov et al. 2017, section 2).

    The noise is Gaussian, ``NOISE`` times the pixel range, each image's own, and not clipped. It is
    the same whichever axis holds the channels.
    """
    low, high = model.bounds
    shape = tuple(int(side) for side in x.shape[1:])
    axis = channel_axis_of(model, shape)
    total = 0.0 * x
    randoms = list(generators(0, index))
    for _ in range(SAMPLES):
        drawn = [_normal(random, shape, axis) for random in randoms]
        noise = NOISE * (high - low) * model.asarray(stacked(drawn, shape))
        total = total + gradient(model, x + noise, y, index)
    return total / SAMPLES


def _normal(
    random: np.random.Generator, shape: tuple[int, ...], channel_axis: int | None
) -> FloatArray:
    """Gaussian numbers of that shape, drawn in the order of images with their channels last."""
    if channel_axis is None:
        return random.standard_normal(shape, dtype=np.float32)
    sides = list(shape)
    sides.append(sides.pop(channel_axis))
    drawn = random.standard_normal(sides, dtype=np.float32)
    return np.moveaxis(drawn, -1, channel_axis)


def integrated_gradients(model: Model, x: Array, y: Array, index: IntArray) -> Array:
    """(x - b) · the mean of ∂z_y/∂x on the way from b to x (Sundararajan et al. 2017, eq. 1).

    The baseline b is the lowest pixel value, black. The integral is taken by Gauss-Legendre
    quadrature with ``STEPS`` points. The map of an image sums to z_y(x) - z_y(b), in logits.
    """
    way = x - model.bounds[0]
    roots, weights = np.polynomial.legendre.leggauss(STEPS)
    total = 0.0 * x
    for place, weight in zip((1 + roots) / 2, weights / 2, strict=True):
        at = model.bounds[0] + float(place) * way
        total = total + float(weight) * gradient(model, at, y, index)
    return way * total


def loss_gradient(model: Model, x: Array, y: Array, index: IntArray) -> Array:
    """∂ cross-entropy/∂x with the class y, in nats per pixel unit, whose sign FGSM takes."""
    return differentiable(model).logits_and_gradient(x, y, CrossEntropy())[1]


OWN: dict[str, Method] = {
    "gradient": gradient,
    "predicted-gradient": predicted_gradient,
    "gradient-x-input": gradient_times_input,
    "smoothgrad": smoothgrad,
    "integrated-gradients": integrated_gradients,
    "loss-gradient": loss_gradient,
}
METHODS: Registry[Method] = Registry("method", "harness.saliency", OWN)


def explain(
    model: Model,
    x: FloatArray,
    y: IntArray,
    method: str | Method = "gradient",
    batch_size: int | None = None,
) -> FloatArray:
    """Signed saliency maps.

    Args:
        model: A model with the capability ``gradient``.
        x: Images, (n, *shape) within ``model.bounds``.
        y: The class to explain for each image, (n,) integers.
        method: One of ``METHODS``, by name, or a function like those.
        batch_size: Images per pass; by default as many as memory allows. It changes nothing.

    Returns:
        Maps in the shape of x; their unit is that of the method.

    Raises:
        SpecError: There is no such method.
        MeasurementError: The model has no gradients, cannot take the images, or has no such class;
            or a map does not have the shape of its image, is not finite, or is zero everywhere.
            It may be zero on an image of one colour beside which the gradient is not: of a black
            one no pixel differs from the baseline of integrated gradients.
    """
    maps = unchecked_maps(model, x, y, method, batch_size)
    if not np.isfinite(maps).all():
        raise MeasurementError("a saliency map holds NaN or infinity")
    zero = ~maps.reshape(len(maps), -1).any(axis=1)
    excused = zero & one_colour(x)
    if excused.any():
        # Beside the image: without biases, black is where every ReLU has its kink.
        beside = off_the_ties(x[excused], model.bounds).astype(x.dtype)
        steep = unchecked_maps(model, beside, y[excused], gradient, batch_size)
        excused[excused] = steep.reshape(len(steep), -1).any(axis=1)
    if (vanished := np.flatnonzero(zero & ~excused)).size:
        raise MeasurementError(
            "a saliency map is zero everywhere: the gradient has vanished "
            f"(image {vanished[0]}, {vanished.size} of {len(x)})"
        )
    return maps


class Maps(LazyImages):
    """Absolute maps of images (n, *shape), which are computed when they are asked for.

    Args:
        model: A model with the capability ``gradient``.
        x: The images.
        y: The class to explain for each, (n,).
        method: One of ``METHODS``.
    """

    def __init__(self, model: Model, x: Images, y: IntArray, method: str = "gradient") -> None:
        super().__init__(x.shape, x.dtype)
        self._model, self._x, self._y, self._method = model, x, y, method

    def read(self, rows: IntArray) -> FloatArray:
        """The maps at these positions; see ``explain`` for what it raises."""
        return np.abs(explain(self._model, np.asarray(self._x[rows]), self._y[rows], self._method))


def one_colour(x: FloatArray) -> BoolArray:
    """Which images, (n,), have the same value in all pixels."""
    flat = x.reshape(len(x), -1)
    return np.asarray((flat == flat[:, :1]).all(axis=1))


def unchecked_maps(
    model: Model,
    x: FloatArray,
    y: IntArray,
    method: str | Method = "gradient",
    batch_size: int | None = None,
) -> FloatArray:
    """What ``explain`` returns, whether finite or not, and also where all of it is zero."""
    name, compute = _found(method)
    if GRADIENT not in model.capabilities:
        raise MeasurementError("saliency needs gradient, which the model lacks")
    if len(x) != len(y):
        raise MeasurementError(f"there are {len(x)} images to explain, but {len(y)} classes")

    def ask(part: slice) -> FloatArray:
        index = np.arange(part.start, part.stop)
        try:
            found = compute(model, model.asarray(x[part]), model.asarray(y[part]), index)
        except MeasurementError:
            raise
        except Exception as error:
            reason = f"{name} fails on images of shape {x.shape[1:]}: {error}"
            raise MeasurementError(one_line(reason)) from error
        maps: FloatArray = model.numpy(found)
        if maps.shape != x[part].shape:
            raise MeasurementError(f"{name} gives maps of shape {maps.shape} for {x[part].shape}")
        return maps

    parts = whole(model, x, batch_size or batch_size_for(model, x), ask)
    return np.concatenate([x[:0], *(maps for _, maps in parts)])


def _found(method: str | Method) -> tuple[str, Method]:
    if not isinstance(method, str):
        return getattr(method, "__name__", "the method"), method
    if method not in METHODS:
        raise SpecError(unknown(method, "method", METHODS))
    return method, METHODS[method]
