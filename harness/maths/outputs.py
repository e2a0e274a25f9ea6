"""Are a model's outputs logits? One rule for all callers, and models that declare theirs."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from harness.errors import HarnessError, MeasurementError
from harness.maths.around import Around
from harness.maths.images import Chosen
from harness.maths.query import answers_of, logits_of
from harness.protocol import Array, Bounds, FloatArray, Images, Model, Objective

Outputs: TypeAlias = Literal["auto", "logits", "probabilities"]
KINDS: tuple[str, ...] = get_args(Outputs)

ROUNDS = (64, 2000)
"""Test images that are looked at, evenly from all: the second round only if the first gives cause,
so that a network whose outputs are clearly logits is called rarely."""
TOLERANCE = 2.0**-6
"""Relative error of a row's sum that is rounding, also in bfloat16, whose numbers have 8 bits: one
rounding each for the exponentials, their sum, the quotient, and a factor behind it."""
NOISE = 16
"""Images of noise that are evaluated, too, before a decision: unlike test images, which may be few
or much the same, they do not have sums that are alike by chance."""
FAR = 1000
"""Of fewer test images than the first round, logits may all lie in [0, 1] by chance. There the
noise is so many times wider than the bounds: where nothing squashes the outputs, they leave it."""
SHARE = 0.1
"""Sums are constant if they vary by no more than this share of what the outputs in a row do. Logits
far above zero have sums that are alike, too, but relative to their size only."""
WIDEST = 1.25
"""Of k numbers that are rounded to whole ones, as percentages and votes are, the sum is off by no
more than this times √k: four standard deviations of k errors between -1/2 and 1/2, and some. It is
never off by more than k/2."""
NARROW = 20
"""Significant bits, of the 24 of float32, that numbers of half precision have, also behind a factor
such as 100 or 1000. Others have not been rounded so coarsely that the sums only seem to vary."""
LEAST = (2.0**-150, float(np.finfo(np.float64).tiny))
"""What stands for a probability of zero, whose logarithm is infinite: less than any other number of
float32 and of narrower formats, and of float64."""


def no_logits(outputs: FloatArray) -> str:
    """What betrays that outputs (n, k) are no logits, as a clause; nothing if nothing does.

    Refused are outputs that all lie in [0, 1], as after a sigmoid or a softmax of any precision,
    and such as are non-negative with constant positive sums over the classes, as percentages or
    votes are, also if these are rounded to whole numbers. Other non-negative outputs are logits
    (as behind a last ReLU), and so are those that sum to zero, or are the same of all images
    (``validity`` has a check of that).
    """
    low, high = float(outputs.min()), float(outputs.max())
    # One score that runs away must not make rounding of the others' minus.
    if not high > 0 or low < -min(TOLERANCE**2 * high, TOLERANCE):
        return ""
    sums = outputs.sum(axis=1, dtype=np.float64)
    mean, off = float(sums.mean()), float(np.abs(sums - sums.mean()).max())
    if abs(mean - 1) + off > TOLERANCE and low == high:
        return ""
    if high <= 1 + TOLERANCE:
        return f"all outputs lie in [{low + 0.0:.3g}, {high:.3g}]"  # no -0
    varied = bool((outputs != outputs[0]).any()) or len(outputs) == 1
    if varied and (_constant(outputs, mean, off) or _whole_and_constant(outputs, off)):
        return f"no output is negative, and those of each image sum to {mean:.4g}"
    return ""


def _constant(outputs: FloatArray, mean: float, off: float) -> bool:
    """Whether sums that are off their mean by so much are constant but for rounding."""
    centred = np.abs(outputs - outputs.mean(axis=1, keepdims=True)).sum(axis=1)
    if off > min(TOLERANCE * mean, SHARE * float(centred.mean())):
        return False
    return off <= _independent(outputs) or _narrow(outputs)


def _whole_and_constant(outputs: FloatArray, off: float) -> bool:
    """The same of whole numbers: each may be rounded, as percentages or votes of ten are."""
    if np.abs(outputs - np.rint(outputs)).max() > TOLERANCE**3 * max(1.0, float(outputs.max())):
        return False
    classes = int(outputs.shape[1])
    return off <= min(classes / 2, WIDEST * math.sqrt(classes), _independent(outputs))


def _independent(outputs: FloatArray) -> float:
    """The standard deviation that sums would have if each class's output were free of the others.

    Of many classes sums are alike, relative to their size, even so; those of probabilities are more
    alike than that.
    """
    return float(np.sqrt(outputs.var(axis=0, dtype=np.float64).sum()))


def _narrow(outputs: FloatArray) -> bool:
    """Whether all numbers can be written with ``NARROW`` significant bits."""
    mantissas = np.frexp(outputs.astype(np.float64))[0] * 2.0**NARROW
    return bool((mantissas == np.rint(mantissas)).all())


def looked_through(model: Model, x: Images) -> str:
    """The same of what a model says of its test images, (n, *shape).

    Nothing is said of outputs that are NaN or infinite, of images that are not answered, nor of
    outputs that somebody has declared.
    """
    if kind_of(model) != "auto":
        return ""
    found = ""
    try:
        for count in ROUNDS:
            rows = np.unique(np.linspace(0, len(x) - 1, min(count, len(x))).astype(int))
            answers = answers_of(model, Chosen(x, rows))
            outputs = answers.logits[answers.answered]
            found = no_logits(outputs)
            if not found:
                return ""
    except MeasurementError:
        return ""
    try:
        with np.errstate(all="ignore"):
            beyond = logits_of(model, _noise(x, model.bounds))
    except Exception:  # whatever a network makes of images that are none
        return found
    return no_logits(np.concatenate([outputs, beyond]))


def _noise(x: Images, bounds: Bounds) -> FloatArray:
    """``NOISE`` images of the shape and dtype of x, evenly from the bounds, or from far beyond."""
    low, high = bounds
    width = (high - low) * (FAR if len(x) < ROUNDS[0] else 1)
    drawn = np.random.default_rng(0).random((NOISE, *x.shape[1:]))
    return ((low + high) / 2 + width * (drawn - 0.5)).astype(x.dtype)


def kind_of(model: Model) -> Outputs:
    """What a model says that its outputs are; ``auto`` if it says nothing."""
    said = getattr(model, "outputs", "auto")
    return said if isinstance(said, str) and said in KINDS else "auto"  # type: ignore[return-value]


def declared(model: Model, outputs: str) -> Model:
    """The model with outputs that are declared to be ``logits``, or ``probabilities``.

    With ``auto`` it is what it says itself; else the declaration takes the place of an earlier one.

    Raises:
        HarnessError: The declaration is none of the three.
    """
    if outputs not in KINDS:
        raise HarnessError(f"outputs: {outputs!r} is none of {', '.join(KINDS)}")
    kind = kind_of(model) if outputs == "auto" else outputs
    if kind == "auto" or _declaration(model) == kind:
        return model
    return (Probabilities if kind == "probabilities" else Declared)(undeclared(model))


def undeclared(model: Model) -> Model:
    """The model without declarations, behind all else that is in front of it."""
    if isinstance(model, Declared):
        return undeclared(model.inner)
    if not isinstance(model, Around):
        return model
    inner = undeclared(model.inner)
    return model if inner is model.inner else model.around(inner)


def _declaration(model: Model) -> str:
    """What a declaration in front of a model says; empty if there is none."""
    while isinstance(model, Around):
        if isinstance(model, Declared):
            return model.outputs
        model = model.inner
    return ""


class Declared(Around):
    """A model whose outputs are declared to be logits, whatever they look like."""

    outputs: Outputs = "logits"


class Probabilities(Declared):
    """A model of probabilities, seen as one whose logits are their logarithms: a black box.

    Behind a softmax or sigmoid gradients vanish, so it has no capability ``gradient``. Scores need
    not sum to one, nor lie below it: a factor that all classes share changes nothing, and their
    order is kept, because the logarithm is taken in float64. Arrays are NumPy's.
    """

    outputs: Outputs = "probabilities"

    def __init__(self, inner: Model) -> None:
        super().__init__(inner)
        self.xp, self.capabilities = np, frozenset()
        self.dtype = np.asarray(inner.numpy(inner.asarray(np.zeros(1, np.float32)))).dtype

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        return np.asarray(values, dtype=np.int64 if values.dtype.kind in "iu" else self.dtype)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``."""
        return np.asarray(array)

    def logits(self, x: Array) -> Array:
        """The logarithms of the probabilities, (n, k) float64.

        Raises:
            MeasurementError: A probability is negative.
        """
        said = np.asarray(self.inner.numpy(self.inner.logits(self.inner.asarray(x))))
        if said.min(initial=0.0) < 0:
            raise MeasurementError(
                f"the outputs are declared to be probabilities, but one is {said.min():.4g}; "
                "declare them logits"
            )
        said = _of_two(said)
        return np.log(np.maximum(said, LEAST[said.dtype.itemsize == 8], dtype=np.float64))

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """Refused; see ``protocol.DifferentiableModel``."""
        raise MeasurementError("a model of probabilities gives no gradient that attacks can use")


def _of_two(said: FloatArray) -> FloatArray:
    """Probabilities (n, k); where a network gives one an image, p, those of both classes.

    ``protocol.two_classes`` has made (-0.0, p) of it.
    """
    if said.shape[1:] != (2,) or said[:, 0].any() or not np.signbit(said[:, 0]).all():
        return said
    return np.stack([1 - said[:, 1], said[:, 1]], axis=1)
