"""Defences that are attacked adaptively: random ones, and those whose gradients lead nowhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from harness.errors import MeasurementError, one_line
from harness.maths.around import Around
from harness.protocol import GRADIENT, Array, FloatArray, Model, Objective, differentiable

VOTES = 10
"""Draws by whose votes an image's label is decided, unless somebody says otherwise."""
RANDOM_ON_PURPOSE = "the model is random on purpose; its labels are counted by votes"
STOOD_IN = "its gradient is that of a stand-in (BPDA)"

Transform: TypeAlias = Callable[[FloatArray], FloatArray]
"""Makes of images (n, *shape) in pixel units those that the network sees; both are NumPy's."""
Backward: TypeAlias = Callable[[FloatArray, FloatArray], FloatArray]
"""Of images (n, *shape), and of a gradient by the transformed ones, makes that by the images."""


class Randomised(Around):
    """A model that draws random numbers on purpose: its label of an image is that of most draws.

    Each call draws anew, so that attacks see what an attacker would; it is where predictions are
    counted that several calls vote. The random numbers are the network's, and so are their seeds:
    two measurements are alike up to chance.

    Args:
        inner: The model.
        votes: Calls that vote on an image.
    """

    randomised = True

    def __init__(self, inner: Model, votes: int = VOTES) -> None:
        super().__init__(inner)
        self.votes = votes

    def around(self, inner: Model) -> Model:
        """See ``Around``."""
        return Randomised(inner, self.votes)


class StandsIn(Around):
    """A model whose gradient is in part not its own: see ``BPDA`` in ``docs/adaptive.md``."""

    stands_in = True


class Transformed(StandsIn):
    """A model of transformed images, with a smooth stand-in for the transform going backward.

    Such as JPEG or quantisation, whose own derivative is zero or unknown (backward pass
    differentiable approximation: Athalye, Carlini & Wagner 2018, section 4).

    Args:
        inner: The model of transformed images.
        transform: What is done to images first; it need not be differentiable.
        backward: Carries a gradient back through the stand-in; if None, that is the identity.
    """

    def __init__(self, inner: Model, transform: Transform, backward: Backward | None) -> None:
        super().__init__(inner)
        self.transform, self.backward = transform, backward

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        return self.inner.logits(self._transformed(x)[1])

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``.

        Raises:
            MeasurementError: A function raises, or returns another shape than it should.
        """
        images, seen = self._transformed(x)
        logits, gradient = differentiable(self.inner).logits_and_gradient(seen, y, objective)
        if self.backward is None:
            if tuple(gradient.shape) != images.shape:
                raise MeasurementError(
                    f"transform: images of the shape {images.shape[1:]} become "
                    f"{tuple(gradient.shape[1:])}; say how a gradient gets back: backward"
                )
            return logits, gradient
        slope = np.array(self.inner.numpy(gradient))
        made = _called("backward", self.backward, images.copy(), slope)
        if made.shape != images.shape:
            raise MeasurementError(
                f"backward: it returns the shape {made.shape} for images of the shape "
                f"{images.shape}"
            )
        return logits, self.inner.asarray(made.astype(images.dtype))

    def around(self, inner: Model) -> Model:
        """See ``Around``."""
        return Transformed(inner, self.transform, self.backward)

    def _transformed(self, x: Array) -> tuple[FloatArray, Array]:
        """The images on the host, and those that the network sees."""
        images = np.asarray(self.inner.numpy(x))
        made = _called("transform", self.transform, images.copy())
        if made.shape[:1] != images.shape[:1]:
            raise MeasurementError(
                f"transform: it returns the shape {made.shape} for {len(images)} images"
            )
        return images, self.inner.asarray(made.astype(images.dtype))


class GradientsFrom(StandsIn):
    """A model whose gradients are those of another network, a smooth stand-in for all of it.

    Args:
        inner: The model.
        other: The stand-in, of the same images; it may be of another framework.
    """

    def __init__(self, inner: Model, other: Model) -> None:
        super().__init__(inner)
        self.other = other
        self.capabilities = inner.capabilities | {GRADIENT}
        self._fits = False

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``; the logits are the model's own.

        Raises:
            MeasurementError: The stand-in does not take these images, or has other classes.
        """
        other, (images, labels) = self.other, map(self.inner.numpy, (x, y))
        logits = self.inner.logits(x)
        self._require_fitting(np.array(images), int(logits.shape[1]))
        _, gradient = differentiable(other).logits_and_gradient(
            other.asarray(np.array(images)), other.asarray(np.array(labels)), objective
        )
        slope = np.asarray(other.numpy(gradient)).astype(images.dtype)
        return logits, self.inner.asarray(slope)

    def _require_fitting(self, images: FloatArray, classes: int) -> None:
        """Require that the stand-in tells the same classes apart; it is asked once."""
        if self._fits:
            return
        try:
            said = int(self.other.logits(self.other.asarray(images[:1])).shape[1])
        except Exception as error:
            told = f"gradients_from: {type(error).__name__}: {error}"
            raise MeasurementError(one_line(told)) from error
        if said != classes:
            raise MeasurementError(f"gradients_from: it has {said} classes, the model {classes}")
        self._fits = True

    def around(self, inner: Model) -> Model:
        """See ``Around``."""
        return GradientsFrom(inner, self.other)


class Averaged(Around):
    """A model whose logits and gradients are means over draws: expectation over transformations.

    (Athalye, Engstrom, Ilyas & Kwok 2018, section 2: the gradient of the expected loss is the mean
    of the gradients.)

    Args:
        inner: A random model.
        draws: Calls that each answer is the mean of.
    """

    def __init__(self, inner: Model, draws: int) -> None:
        super().__init__(inner)
        self.draws = draws

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        total = self.inner.logits(x)
        for _ in range(self.draws - 1):
            total = total + self.inner.logits(x)
        return total / float(self.draws)

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``."""
        ask = differentiable(self.inner).logits_and_gradient
        logits, gradient = ask(x, y, objective)
        for _ in range(self.draws - 1):
            more, slope = ask(x, y, objective)
            logits, gradient = logits + more, gradient + slope
        return logits / float(self.draws), gradient / float(self.draws)

    def around(self, inner: Model) -> Model:
        """See ``Around``."""
        return Averaged(inner, self.draws)


def is_randomised(model: Model) -> bool:
    """Whether a model is marked as random on purpose."""
    return getattr(model, "randomised", False) is True


def stands_in(model: Model) -> bool:
    """Whether a part of a model's gradient is that of a stand-in."""
    return getattr(model, "stands_in", False) is True


def is_transformed(model: Model) -> bool:
    """Whether something is done to a model's images that is not part of its network."""
    return callable(getattr(model, "transform", None)) and stands_in(model)


def votes_of(model: Model) -> int:
    """How many calls of a model vote on an image; 1 if it is not marked as random."""
    return max(1, int(getattr(model, "votes", VOTES))) if is_randomised(model) else 1


def averaged(model: Model, draws: int) -> Model:
    """The model, or the mean of so many draws of it."""
    return model if draws == 1 else Averaged(model, draws)


def votes_on_success(model: Model) -> int:
    """How many draws vote on whether an attack has succeeded: one noisy hit overstates it."""
    if is_randomised(model):
        return votes_of(model)
    return model.draws if isinstance(model, Averaged) else 1


def one_draw(model: Model) -> Model:
    """The model whose single draws vote, behind one that averages them."""
    return model.inner if isinstance(model, Averaged) else model


def _called(name: str, function: Callable[..., FloatArray], *arrays: FloatArray) -> FloatArray:
    """What a user's function makes of arrays.

    Raises:
        MeasurementError: It raises, or returns no array of numbers.
    """
    try:
        made = np.asarray(function(*arrays))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise MeasurementError(one_line(f"{name}: {said}")) from error
    if made.dtype.kind not in "fiub" or not made.ndim:
        raise MeasurementError(one_line(f"{name}: it returns {made.dtype}, not images as numbers"))
    return made
