"""Any Python function of NumPy images as a black box, and what other black boxes share with it."""

from __future__ import annotations

import inspect
import math
import sysconfig
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.errors import (
    GIST,
    BackendError,
    BatchTooLarge,
    MeasurementError,
    Unanswered,
    one_line,
)
from harness.protocol import (
    About,
    Array,
    ArrayNamespace,
    Capability,
    FloatArray,
    Model,
    Wrapping,
    one_output,
    shown,
    two_classes,
)
from harness.protocol import Calls as HowCalled

FULL = ("outofmemory", "out of memory", "resourceexhausted", "resource_exhausted")
"""In the exceptions by which frameworks say that memory is full."""
ARRAYS = ("__array__", "__array_interface__", "__dlpack__", "detach", "numpy")
"""What tells an array of any framework."""
NO_NUMBER = 99
"""In place of the dimensions of what is neither a number nor an array."""


class CallableModel:
    """A function of NumPy images that returns scores: a black box.

    It is given a copy of the images, (n, *shape) float32, which it may write to. It may return
    whatever NumPy can read as one row an image, (n, k): an array of any framework, lists, the first
    of a tuple, or logits of a dict; (n,) or (n, 1) are scores of the second of two classes.

    Args:
        f: The function.
        how: How it is to be called.

    Attributes:
        batch_size: How many images it takes at a time, at most; None for any number.
        queries: How many images it has been asked of, those asked again included.
    """

    xp: ArrayNamespace = np
    capabilities: frozenset[Capability] = frozenset()
    dtype: npt.DTypeLike = np.float32
    noun = "the function"

    def __init__(self, f: Callable[[FloatArray], Any], how: HowCalled) -> None:
        self.f, self.how = f, how
        self.bounds, self.batch_size = how.bounds, how.batch_size
        self.queries = 0
        self._classes: int | None = None

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        return np.asarray(values, dtype=np.int64 if values.dtype.kind in "iu" else self.dtype)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``."""
        return np.asarray(array)

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``; in calls of ``batch_size`` images at most.

        Raises:
            Unanswered: The function raises, however often it is asked.
            BatchTooLarge: It raises this itself, or memory is full.
            MeasurementError: What it returns are no scores of these images.
        """
        images = np.asarray(x)
        if not len(images):  # how many classes there are, one grey image tells
            grey = np.full((1, *images.shape[1:]), self.bounds[0], self.dtype)
            return self._scores(grey)[:0]
        size = self.batch_size or len(images)
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        return np.concatenate([self._scores(part) for part in parts])

    def __repr__(self) -> str:
        return shown(self.kind, self.bounds, self.capabilities)

    @property
    def kind(self) -> str:
        """What it is, as ``about`` says it."""
        return f"function {_name(self.f)}"

    def about(self) -> About:
        """Its name; there is no telling what it computes."""
        return About(self.kind)

    def ask(self, images: FloatArray) -> Any:
        """What the function returns of one batch, asked again where it raises.

        Raises:
            Unanswered: It raises each time.
            BatchTooLarge: It raises this itself, or memory is full.
        """
        wait = self.how.wait
        for attempt in range(self.how.retries + 1):
            if attempt:
                time.sleep(wait)
                wait *= 2
            self.queries += len(images)
            try:
                # Its own copy each time: it may have written to the last one.
                return self.f(np.array(images, dtype=self.dtype))
            except BatchTooLarge:
                raise
            except Exception as error:
                if is_full(error):
                    raise BatchTooLarge(f"memory is full at {len(images)} images") from error
                raised = error
        told = "" if self.how.retries else "; with retries it is asked again"
        raise Unanswered(f"{_said(raised)}{told}") from raised

    def _scores(self, images: FloatArray) -> FloatArray:
        """Scores of one batch, (n, k)."""
        said = self.ask(images)
        if isinstance(said, str | bytes) or _is_text(said):
            raise MeasurementError(f"{self.noun} returns text; return scores, (n, k) numbers")
        found = one_output(said, _is_rows, self.how.output)
        scores = _numbers(found, self.noun)
        if scores.ndim not in (1, 2) or len(scores) != len(images):
            raise MeasurementError(
                f"{self.noun} returns the shape {scores.shape} for {len(images)} images; return "
                "(n, k), a row an image and a score a class"
            )
        if scores.ndim == 1 and scores.dtype.kind != "f":
            raise MeasurementError(
                f"{self.noun} returns one {scores.dtype} an image, a label perhaps; return "
                "scores of each class, (n, k)"
            )
        if scores.dtype not in (np.float32, np.float64):
            scores = scores.astype(np.float32)
        if not np.isfinite(scores).all():
            count = int((~np.isfinite(scores.reshape(len(scores), -1))).any(axis=1).sum())
            raise MeasurementError(
                f"{self.noun} returns NaN or infinity for {count} of {len(images)} images; raise "
                "an exception where there is no answer, and return finite scores"
            )
        return self._of_all_classes(two_classes(np, scores))

    def _of_all_classes(self, scores: FloatArray) -> FloatArray:
        known = self._classes
        if known is not None and scores.shape[1] != known:
            raise MeasurementError(
                f"{self.noun} returns scores of {scores.shape[1]} classes, and of {known} before"
            )
        self._classes = int(scores.shape[1])
        return scores


class CallableBackend:
    """See ``protocol.Backend``."""

    name = "callable"

    def versions(self) -> dict[str, str]:
        """See ``protocol.Backend``."""
        return {"numpy": np.__version__}

    def knows(self, net: Any) -> bool:
        """Functions and methods; of other objects that can be called it is not known."""
        return inspect.isroutine(net) or isinstance(net, partial)

    def wrap(self, net: Any, how: Wrapping) -> Model:
        """A function of images (n, *shape) as a ``Model``; ``how`` may be ``Calls``.

        Raises:
            BackendError: It cannot be called, or not so.
        """
        if not callable(net) or isinstance(net, type):
            what = f"the class {net.__name__}" if isinstance(net, type) else type(net).__name__
            raise BackendError(f"{what}: not a function of images, (n, *shape) to (n, k)")
        called = net if inspect.isroutine(net) else getattr(net, "__call__", net)  # noqa: B004
        if inspect.iscoroutinefunction(called):
            raise BackendError(
                f"{_name(net)}: an async function; wrap lambda x: asyncio.run({_name(net)}(x))"
            )
        if how.device not in (None, "cpu"):
            raise BackendError(
                f"device: {how.device} is nothing to a function, which is given NumPy arrays; move "
                "them there inside of it"
            )
        calls = how if isinstance(how, HowCalled) else HowCalled(how.bounds, how.output, how.device)
        _check(calls)
        return CallableModel(net, calls)


def is_full(error: BaseException) -> bool:
    """Whether an exception says that memory is full."""
    said = f"{type(error).__name__} {error}".lower()
    return isinstance(error, MemoryError) or any(word in said for word in FULL)


def _check(how: HowCalled) -> None:
    for name, least in (("batch_size", 1), ("retries", 0)):
        value = getattr(how, name)
        if name == "batch_size" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise BackendError(one_line(f"{name}: {value!r} is not a whole number ≥ {least}"))
    number = isinstance(how.wait, int | float) and math.isfinite(how.wait) and how.wait >= 0
    if isinstance(how.wait, bool) or not number:
        raise BackendError(one_line(f"wait: {how.wait!r} is not a finite number of seconds ≥ 0"))


def _name(f: Any) -> str:
    while isinstance(f, partial):
        f = f.func
    return one_line(getattr(f, "__name__", type(f).__name__))


def _said(error: Exception) -> str:
    """The message of what a function raised, with its type, and where in the user's code."""
    text = one_line(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__)
    text = text if len(text) <= GIST else text[: GIST - 1] + "…"
    # The first frame is the call above.
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if _is_users(frame.filename)] or frames[:1]
    if not own:
        return text
    return one_line(f"{text} ({Path(own[-1].filename).name}:{own[-1].lineno})")


def _is_users(file: str) -> bool:
    """Whether a file is neither of the standard library nor of an installed package."""
    installed = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib")]
    return (
        not file.startswith(("<", *installed))
        and "site-packages" not in file
        and "dist-packages" not in file
    )


def _is_text(values: Any) -> bool:
    """Whether values are text, such as names of classes."""
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "US"
    return isinstance(values, list | tuple) and bool(values) and isinstance(values[0], str)


def _is_rows(values: Any) -> bool:
    """Whether values are one array: an object of any framework, or rows in a list.

    A tuple of arrays, or a list of such with two dimensions, are several outputs.
    """
    if isinstance(values, type | Mapping | str | bytes):
        return False
    if isinstance(values, list | tuple):
        if hasattr(values, "_asdict") or not values:
            return False
        if isinstance(values, tuple) and _is_array(values[0]):
            return False
        return all(_depth(row) <= 1 for row in values)
    return _is_array(values)


def _is_array(values: Any) -> bool:
    if isinstance(values, np.generic):
        return False
    return any(hasattr(values, name) for name in ARRAYS)


def _depth(row: Any) -> int:
    """How many dimensions something has: 0 of a number, many of what is none."""
    if isinstance(row, list | tuple):
        return 1 + max(map(_depth, row), default=0)
    if row is None or isinstance(row, bool | int | float | np.generic):
        return 0
    return len(row.shape) if hasattr(row, "shape") else NO_NUMBER


def _numbers(values: Any, noun: str) -> npt.NDArray[Any]:
    """Rows of any kind as an array of real numbers.

    Raises:
        MeasurementError: They are no rows of equal length, or no numbers.
    """
    try:
        found = _as_array(values)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise MeasurementError(
            one_line(
                f"{noun} returns {type(values).__name__} that is no (n, k) numbers, a row an "
                f"image and as many in each: {error}"
            )
        ) from error
    if found.dtype.kind not in "fiub":
        raise MeasurementError(f"{noun} returns {found.dtype}, not real numbers")
    return found


def _as_array(values: Any) -> npt.NDArray[Any]:
    if isinstance(values, list | tuple):
        rows = [row if isinstance(row, int | float) else _as_array(row) for row in values]
        return np.asarray(rows)
    if hasattr(values, "detach"):
        values = values.detach()
        values = values.cpu() if hasattr(values, "cpu") else values
        if "bfloat16" in str(getattr(values, "dtype", "")):
            values = values.float()
    if not isinstance(values, np.ndarray) and hasattr(values, "numpy"):
        values = values.numpy()
    elif not hasattr(values, "__array__") and hasattr(values, "__dlpack__"):
        values = np.from_dlpack(values)
    found = np.asarray(values)
    if found.dtype.kind == "V" and "float" in found.dtype.name:  # bfloat16, which NumPy lacks
        return found.astype(np.float32)
    if found.dtype.kind == "O":
        return np.asarray(found.tolist(), dtype=np.float64)
    return found
