"""Models in front of others: they prepare the images, or say how many are taken at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError, MeasurementError
from harness.maths.channels import axis_of
from harness.protocol import Array, FloatArray, Model, Objective, differentiable


class Around:
    """A model in front of another; what it does not change is the other's.

    Args:
        inner: The other.
    """

    def __init__(self, inner: Model) -> None:
        self.inner = inner
        self.xp, self.bounds, self.capabilities = inner.xp, inner.bounds, inner.capabilities

    def __getattr__(self, name: str) -> Any:
        if name == "inner":  # not there yet, when it is copied
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        return self.inner.asarray(values)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``."""
        return self.inner.numpy(array)

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        return self.inner.logits(x)

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``."""
        return differentiable(self.inner).logits_and_gradient(x, y, objective)

    def around(self, inner: Model) -> Model:
        """The same in front of another model, such as a copy of this one."""
        made: Model = type(self)(inner)
        return made


class Preprocessed(Around):
    """A model whose network takes (x - mean) / std, while epsilon stays in the units of x.

    Args:
        inner: The network's model.
        mean: Mean of each channel, in pixel units; or one of all.
        std: Standard deviation of each channel, likewise; each above zero.
        channel_axis: Axis of one image that holds the channels; guessed from its shape if None.

    Raises:
        HarnessError: The two are not as many finite numbers, or one of ``std`` is not above zero.
    """

    def __init__(
        self,
        inner: Model,
        mean: Sequence[float],
        std: Sequence[float],
        channel_axis: int | None = None,
    ) -> None:
        super().__init__(inner)
        self.mean, self.std = _numbers(mean, "mean"), _numbers(std, "std")
        if len(self.mean) != len(self.std):
            raise HarnessError(
                f"preprocessing: {len(self.mean)} means, but {len(self.std)} deviations"
            )
        if not (self.std > 0).all():
            raise HarnessError("preprocessing: std must be above zero")
        self.channel_axis = channel_axis
        self._arrays: dict[tuple[int, ...], tuple[Array, Array]] = {}

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        mean, std = self._of(x)
        return self.inner.logits((x - mean) / std)

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``; by the chain rule."""
        mean, std = self._of(x)
        inner = differentiable(self.inner)
        logits, gradient = inner.logits_and_gradient((x - mean) / std, y, objective)
        return logits, gradient / std

    def normalised(self, images: FloatArray) -> FloatArray:
        """Images (n, *shape) as the network takes them, in their own dtype."""
        mean, std = self._shaped(images.shape[1:])
        found: FloatArray = ((images - mean) / std).astype(images.dtype)
        return found

    def around(self, inner: Model) -> Model:
        """See ``Around``."""
        return Preprocessed(inner, self.mean.tolist(), self.std.tolist(), self.channel_axis)

    def axis(self, shape: tuple[int, ...]) -> int:
        """The axis of an image of this shape, from 0, along which the channels are normalised.

        Raises:
            MeasurementError: None is as long, or it has to be said which.
        """
        count = len(self.mean)
        try:
            axis = axis_of(shape, self.channel_axis, count)
        except HarnessError as error:
            raise MeasurementError(str(error)) from error
        if axis is None:
            fitting = [axis for axis, side in enumerate(shape) if side == count]
            raise MeasurementError(
                f"preprocessing has {count} channels, and images have the shape {shape}; "
                + ("say which axis holds them: channel_axis" if fitting else "no axis is so long")
            )
        return axis

    def _of(self, x: Array) -> tuple[Array, Array]:
        shape = tuple(int(side) for side in x.shape[1:])
        if shape not in self._arrays:
            mean, std = self._shaped(shape)
            self._arrays[shape] = self.asarray(mean), self.asarray(std)
        return self._arrays[shape]

    def _shaped(self, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
        """Mean and deviation as they are broadcast over images of a shape."""
        sides = [1] * (len(shape) + 1)
        if len(self.mean) > 1:
            sides[self.axis(shape) + 1] = -1
        return self.mean.reshape(sides), self.std.reshape(sides)


class Limited(Around):
    """A model that is to be asked of so many images at a time, at most."""

    def __init__(self, inner: Model, batch_size: int) -> None:
        super().__init__(inner)
        self.batch_size = batch_size

    def around(self, inner: Model) -> Model:
        """See ``Around``."""
        return Limited(inner, self.batch_size)


class Laid(Around):
    """A model whose images hold their channels along an axis that somebody has said."""

    def __init__(self, inner: Model, channel_axis: int) -> None:
        super().__init__(inner)
        self.channel_axis = channel_axis

    def around(self, inner: Model) -> Model:
        """See ``Around``."""
        return Laid(inner, self.channel_axis)


class BlackBox(Around):
    """A model that gives no gradient, and why it does not.

    Args:
        inner: The model.
        why: The reason, as a clause.
    """

    def __init__(self, inner: Model, why: str) -> None:
        super().__init__(inner)
        self.why_no_gradient = why

    def around(self, inner: Model) -> Model:
        """See ``Around``."""
        return BlackBox(inner, self.why_no_gradient)


def why_no_gradient(model: Model) -> str:
    """The reason for which a model gives no gradient, after a colon; empty if none is known."""
    why = getattr(model, "why_no_gradient", "")
    return f": {why}" if isinstance(why, str) and why else ""


def innermost(model: Model) -> Model:
    """The model behind all that is in front of it."""
    while isinstance(model, Around):
        model = model.inner
    return model


def rewrapped(model: Model, innermost: Model) -> Model:
    """Another innermost model behind all that is in front of a model."""
    if not isinstance(model, Around):
        return innermost
    return model.around(rewrapped(model.inner, innermost))


def prepared(model: Model, images: FloatArray) -> FloatArray:
    """Images (n, *shape) as the innermost model takes them: normalised."""
    while isinstance(model, Around):
        if isinstance(model, Preprocessed):
            images = model.normalised(images)
        model = model.inner
    return images


def preprocessing_of(model: Model) -> tuple[list[float], list[float]] | None:
    """Mean and deviation by which a model's images are normalised; None if they are not."""
    while isinstance(model, Around):
        if isinstance(model, Preprocessed):
            return model.mean.tolist(), model.std.tolist()
        model = model.inner
    return None


def _numbers(values: Sequence[float], name: str) -> npt.NDArray[np.float64]:
    try:
        numbers = np.atleast_1d(np.asarray(values, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise HarnessError(f"preprocessing: {name} is not a number for each channel") from error
    if numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all():
        raise HarnessError(f"preprocessing: {name} is not a finite number for each channel")
    return numbers
