"""Fitted classifiers and pipelines of scikit-learn, and of packages that derive theirs from it."""

from __future__ import annotations

import hashlib
import math
import types
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
import sklearn
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from backends.callable_backend import CallableModel, is_full
from harness.errors import BackendError, BatchTooLarge, MeasurementError, gist, one_line
from harness.protocol import About, Calls, FloatArray, Model, Wrapping

DEEP = 60
"""So deep an estimator is looked into for what identifies it."""


class SklearnModel(CallableModel):
    """A fitted classifier as a black box, in float64.

    Its ``decision_function`` gives logits; where it has none, ``predict_proba`` gives
    probabilities. Images are flattened to rows, (n, d), unless it was fitted on images.

    Args:
        net: The classifier.
        scores: The name of the method.
        how: How it is called.

    Attributes:
        outputs: What its scores are, as ``maths.outputs.kind_of`` reads it.
    """

    dtype = np.float64
    noun = "the classifier"

    def __init__(self, net: Any, scores: str, how: Wrapping) -> None:
        super().__init__(getattr(net, scores), Calls(how.bounds))
        self.net = net
        self.outputs: Literal["logits", "probabilities"] = (
            "logits" if scores == "decision_function" else "probabilities"
        )
        self._rows: bool | None = None

    @property
    def kind(self) -> str:
        """What it is, as ``about`` says it."""
        package = type(self.net).__module__.partition(".")[0]
        steps = [type(step).__name__ for _, step in getattr(self.net, "steps", ())]
        within = f" ({', '.join(steps)})" if steps else ""
        return f"{package} {type(self.net).__name__}{within}"

    def about(self) -> About:
        """What it is, and its identity as far as one can be told."""
        return About(self.kind, identity=_identity(self.net))

    def ask(self, images: FloatArray) -> Any:
        """The scores of one batch.

        Raises:
            MeasurementError: The classifier takes other images.
            BatchTooLarge: Memory is full.
        """
        self.queries += len(images)
        if self._rows is None:
            self._rows = self._takes_rows(images)
        return self._called(images, rows=self._rows)

    def _called(self, images: FloatArray, *, rows: bool) -> Any:
        given = np.array(images.reshape(len(images), -1) if rows else images)
        try:
            with warnings.catch_warnings():
                # It was fitted on a table whose columns have names.
                warnings.filterwarnings("ignore", message=".*valid feature names")
                return self.f(given)
        except Exception as error:
            if is_full(error):
                raise BatchTooLarge(f"memory is full at {len(images)} images") from error
            raise MeasurementError(
                one_line(f"{type(self.net).__name__} fails on {given.shape}: {gist(error)}")
            ) from error

    def _takes_rows(self, images: FloatArray) -> bool:
        """Whether images are to be flattened: if it has as many features, or what works says."""
        shape = images.shape[1:]
        pixels, wanted = math.prod(shape), getattr(self.net, "n_features_in_", None)
        if len(shape) == 1 or wanted == pixels:
            return True
        if wanted is None:
            try:
                self._called(images[:2], rows=True)
            except MeasurementError:
                return False
            return True
        if wanted != shape[0]:  # of images (n, h, w) scikit-learn counts h
            raise MeasurementError(
                f"{type(self.net).__name__} takes {wanted} features, but images of the shape "
                f"{shape} have {pixels} pixels"
            )
        return False


class SklearnBackend:
    """See ``protocol.Backend``."""

    name = "sklearn"

    def versions(self) -> dict[str, str]:
        """See ``protocol.Backend``."""
        return {"scikit-learn": sklearn.__version__, "numpy": np.__version__}

    def knows(self, net: Any) -> bool:
        """Estimators of any kind; one that is no classifier is refused when it is wrapped."""
        return isinstance(net, BaseEstimator)

    def wrap(self, net: Any, how: Wrapping) -> Model:
        """A fitted classifier as a ``Model`` that says itself what its scores are.

        Raises:
            BackendError: It is no classifier, not fitted, predicts labels alone, or has other
                classes than 0 to k - 1.
        """
        kind = type(net).__name__
        if isinstance(net, type):
            raise BackendError(f"{net.__name__}: a class; pass a fitted object")
        if is_regressor(net):
            raise BackendError(
                f"{kind}: a regressor, which has no classes; pass a classifier, or wrap a function "
                "that makes scores of classes of what it predicts"
            )
        if not is_classifier(net):
            raise BackendError(f"{kind}: no classifier; pass one, or a pipeline that ends in one")
        try:
            check_is_fitted(net)
        except NotFittedError as error:
            raise BackendError(f"{kind}: not fitted; call fit(x, y) first") from error
        if how.output is not None:
            raise BackendError(f"output: {kind} has no outputs with names; leave it out")
        if how.device not in (None, "cpu"):
            raise BackendError(f"device: {how.device}: scikit-learn computes on cpu")
        classes = _classes_of(net)
        return SklearnModel(net, _scores_of(net, classes), how)


def _classes_of(net: Any) -> int:
    """How many classes it has.

    Raises:
        BackendError: They are not the numbers from 0 on, or those of several labels an image.
    """
    kind, classes = type(net).__name__, getattr(net, "classes_", None)
    if classes is None or (isinstance(classes, list) and np.ndim(classes[0])):
        raise BackendError(f"{kind}: it has not one list of classes_; fit it with one label a row")
    found = np.asarray(classes)
    if found.ndim != 1 or len(found) < 2:
        raise BackendError(f"{kind}: it has {len(found)} class; fit it with two or more")
    if found.dtype.kind not in "iufb" or (found != np.arange(len(found))).any():
        shown = ", ".join(map(repr, found[:3].tolist())) + (", ..." if len(found) > 3 else "")
        raise BackendError(
            one_line(
                f"{kind}: its classes_ are {shown}, not 0 to {len(found) - 1}; number the labels "
                "from 0 (sklearn.preprocessing.LabelEncoder) and fit it again"
            )
        )
    return len(found)


def _scores_of(net: Any, classes: int) -> str:
    """The method that gives a score of each class.

    Raises:
        BackendError: There is none.
    """
    kind = type(net).__name__
    pairs = classes > 2 and getattr(_last(net), "decision_function_shape", "") == "ovo"
    if hasattr(net, "decision_function") and not pairs:
        return "decision_function"
    if hasattr(net, "predict_proba"):
        return "predict_proba"
    if pairs:
        raise BackendError(
            f"{kind}: its decision_function compares pairs of classes; make it with "
            "decision_function_shape='ovr'"
        )
    raise BackendError(
        f"{kind}: it predicts labels alone, and attacks need scores; take one with "
        "decision_function or predict_proba (such as by probability=True, or voting='soft')"
    )


def _last(net: Any) -> Any:
    """The classifier at the end of a pipeline or a search."""
    while True:
        if getattr(net, "steps", None):
            net = net.steps[-1][1]
        elif hasattr(net, "best_estimator_"):
            net = net.best_estimator_
        else:
            return net


def _identity(net: Any) -> str:
    """SHA-256 over all that a fitted estimator holds; empty where something cannot be read."""
    digest = hashlib.sha256()
    try:
        for part in _parts(net, DEEP):
            digest.update(part)
    except (TypeError, ValueError, AttributeError, RecursionError):
        return ""
    return digest.hexdigest()


def _parts(value: Any, depth: int) -> Iterator[bytes]:
    """What a value is made of, in an order that depends on nothing else.

    Raises:
        TypeError: It cannot be told.
    """
    if depth == 0:
        raise TypeError("too deep")
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        yield f"array {value.dtype.descr} {value.shape} ".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif value is None or isinstance(value, str | bytes | bool | int | float | np.generic):
        yield f"{type(value).__name__} {value!r} ".encode()
    elif isinstance(value, types.FunctionType | type):
        yield f"{value.__module__}.{value.__qualname__} ".encode()
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield f"{key!r}: ".encode()
            yield from _parts(value[key], depth - 1)
    elif isinstance(value, set | frozenset):
        yield repr(sorted(map(repr, value))).encode()
    elif isinstance(value, list | tuple | np.ndarray):
        yield f"{len(value)} in {type(value).__name__} ".encode()
        for one in value:
            yield from _parts(one, depth - 1)
    else:
        yield from _state(value, depth)


def _state(value: Any, depth: int) -> Iterator[bytes]:
    """What an object would be rebuilt from; nothing is pickled."""
    yield f"{type(value).__module__}.{type(value).__qualname__} ".encode()
    if isinstance(value, BaseEstimator):
        yield from _parts(vars(value), depth - 1)
        return
    made = value.__reduce_ex__(4)
    if isinstance(made, str):
        yield made.encode()
        return
    for part in made[1:3]:
        yield from _parts(part, depth - 1)
