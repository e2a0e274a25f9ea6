"""Any network of Keras or TensorFlow as a model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, TypeAlias

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from backends.keras_devices import device_of, on, placed
from backends.keras_memory import bytes_of_an_image
from backends.keras_taken import Taken
from harness.errors import BatchTooLarge, HarnessError, MeasurementError, gist
from harness.protocol import (
    GRADIENT,
    About,
    Array,
    Objective,
    Wrapping,
    one_output,
    require_classes,
    shown,
    two_classes,
)

Graph: TypeAlias = Callable[..., Any]
Shape: TypeAlias = tuple[int, ...]
LINE = 64
"""Bytes in a line of the cache."""
STATISTICS = ("moving_mean", "moving_variance")
"""Weights that are measured in training, and not trained."""

UNKNOWN_SHAPE = (
    "the network does not tell the shape of its logits; say it in the network: "
    "tf.ensure_shape(logits, [None, classes])"
)


class _Names:
    """TensorFlow under the names of the array API standard, as ``two_classes`` needs them."""

    reshape, zeros_like, concat = tf.reshape, tf.zeros_like, tf.concat


class KerasModel:
    """A network that returns logits, in inference mode, compiled to one graph for a shape."""

    xp = keras.ops
    capabilities = frozenset({GRADIENT})

    def __init__(self, taken: Taken, how: Wrapping) -> None:
        self.taken, self.net = taken, taken.net
        self.bounds, self.output = how.bounds, how.output
        self.device = how.device
        placed(how.device)
        self._on_host = how.device == "cpu" or not tf.config.list_logical_devices("GPU")
        # Attacks work in this; a network of another precision gets its images cast at its door.
        self.dtype = tf.float64 if taken.doubles else tf.float32
        self.fixed: int | None = taken.shape[0] if taken.shape.rank else None
        self.image_shape: Shape | None = _known(taken.shape)
        self._graphs: dict[tuple[Any, ...], Graph] = {}

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        dtype = tf.int64 if values.dtype.kind in "iu" else self.dtype
        values = values.astype(dtype.as_numpy_dtype, copy=False)
        if self._on_host and can_be_shared(values):
            return tf.experimental.dlpack.from_dlpack(values.__dlpack__())
        with on(self.device):
            return tf.convert_to_tensor(values)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``."""
        return np.asarray(array)

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        graph = self._graph(x, self._answer)
        (logits,) = self._asked(lambda x: (graph(x),), x)
        return logits

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``; one graph per objective."""
        soft = tf.TensorSpec([None, None], self.dtype)
        labels = soft if len(y.shape) == 2 else tf.TensorSpec([None], tf.int64)
        graph = self._graph(x, self._differentiate, labels, objective)
        logits, gradient = self._asked(graph, x, y)
        if gradient is None:
            raise MeasurementError(
                "the network gives no gradient: its logits do not follow from the image by "
                "differentiable steps (a stop_gradient, argmax or NumPy in between?), so no "
                "gradient reaches the input; attack it with square"
            )
        if len(y.shape) == 1:
            require_classes(self.numpy(y), logits.shape[1])
        return logits, gradient

    def footprint(self, x: Array) -> int:
        """Bytes that an image takes up, by the shapes in the graph, which is not run.

        Of a network of a fixed batch size it is nothing: it is never asked of more at a time.
        """
        self._require_taken(x)
        return 0 if self.fixed else bytes_of_an_image(self._there_and_back, x.shape[1:], self.dtype)

    def __repr__(self) -> str:
        return shown(self.taken.kind, self.bounds, self.capabilities)

    def about(self) -> About:
        """What it is; parameters are counted without the statistics of batch normalisation."""
        weights = self.taken.variables
        trained = [v for v in weights if last_part(v) not in STATISTICS]
        sizes = [int(np.prod(v.shape)) for v in trained if tf.as_dtype(v.dtype).is_floating]
        digest = hashlib.sha256()
        for place, variable in enumerate(weights):
            values = np.ascontiguousarray(variable.numpy())
            # Names are counted through in a process: dense, dense_1; so only the last part counts.
            told = f"{place} {last_part(variable)} {values.dtype} {values.shape}\n"
            digest.update(told.encode() + values.tobytes())
        return About(
            kind=self.taken.kind,
            parameters=sum(sizes) if weights else None,
            device=device_of(weights, placed(self.device)),
            identity=digest.hexdigest() if weights else "",
        )

    def _graph(
        self, x: Array, function: Graph, labels: tf.TensorSpec | None = None, key: Any = None
    ) -> Graph:
        """The compiled function for images of this shape; it is made when it is first needed."""
        self._require_taken(x)
        shape = tuple(x.shape[1:])
        wanted = (key, labels and labels.shape.rank, shape)
        if wanted not in self._graphs:
            images = tf.TensorSpec([self.fixed, *shape], self.dtype)
            if labels is None:
                made = compiled(function, [images])
            else:
                labels = tf.TensorSpec([self.fixed, *labels.shape[1:]], labels.dtype)
                made = compiled(lambda x, y: function(x, y, key), [images, labels])
            self._graphs[wanted] = made
            self.image_shape = shape
        return self._graphs[wanted]

    def _require_taken(self, x: Array) -> None:
        taken = self.taken.shape
        if taken.rank is not None and not taken[1:].is_compatible_with(x.shape[1:]):
            raise MeasurementError(
                f"the network takes images of shape {tuple(taken[1:])}, not {tuple(x.shape[1:])}"
            )

    def _asked(self, graph: Graph, x: Array, *labels: Array) -> tuple[Array, ...]:
        """What a graph says of a batch, of whatever size."""
        if self.fixed is not None and self.fixed != x.shape[0]:
            return self._in_batches(graph, self.fixed, x, *labels)
        try:
            with on(self.device):
                return tuple(graph(x, *labels))
        except Exception as error:  # whatever a network raises
            told = self._told(error, graph, x, *labels)
            if told is None:
                raise
            raise told from error

    def _told(self, error: Exception, graph: Graph, *arrays: Array) -> MeasurementError | None:
        """What a network's error comes to; None if it says that itself."""
        count = int(arrays[0].shape[0])
        if isinstance(error, HarnessError | MeasurementError):
            return None
        if isinstance(error, tf.errors.ResourceExhaustedError | MemoryError):
            return BatchTooLarge(
                f"{count} images at a time do not fit into memory; say a smaller batch_size"
            )
        most = self._most(graph, *arrays)
        if not most:
            return None
        return MeasurementError(
            f"the network takes at most {most} images at a time, not {count}; say "
            f"batch_size={most} ({gist(error)})"
        )

    def _in_batches(self, graph: Graph, size: int, *arrays: Array) -> tuple[Array, ...]:
        """The same of batches of one size; the last one is filled up with its last image."""
        count = arrays[0].shape[0]
        parts = []
        for start in range(0, count, size):
            cut = [array[start : start + size] for array in arrays]
            kept = cut[0].shape[0]
            if kept < size:
                cut = [tf.concat([c, tf.repeat(c[-1:], size - kept, axis=0)], 0) for c in cut]
            parts.append([None if a is None else a[:kept] for a in self._asked(graph, *cut)])
        return tuple(
            None if each[0] is None else tf.concat(each, 0) for each in zip(*parts, strict=True)
        )

    def _most(self, graph: Graph, *arrays: Array) -> int:
        """How many of the images it takes at a time: a number below theirs, or 0 for none."""

        def works(count: int) -> bool:
            try:
                with on(self.device):
                    graph(*(array[:count] for array in arrays))
            except Exception:  # whatever a network raises
                return False
            return True

        fails = int(arrays[0].shape[0])
        if self.fixed is not None or fails < 2 or not works(1):
            return 0
        most = 1
        while fails - most > 1:
            middle = (most + fails) // 2
            most, fails = (middle, fails) if works(middle) else (most, middle)
        return most

    def _answer(self, x: Array) -> Array:
        """The logits of images, in float32 or float64."""
        return self.logits_among(self.taken.choose(self.taken.call(tf.cast(x, self.taken.entry))))

    def logits_among(self, outputs: Any) -> Array:
        """The logits, of two classes at least, of what the network has returned."""
        logits = one_output(outputs, tf.is_tensor, self.output)
        if logits.shape.rank is None:
            raise MeasurementError(UNKNOWN_SHAPE)
        if logits.dtype.is_complex:
            raise MeasurementError(f"the network returns {logits.dtype.name}, not logits")
        return two_classes(_Names, tf.cast(logits, self.dtype))

    def _differentiate(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = self._answer(x)
        if logits.shape[-1] is None:
            raise MeasurementError(UNKNOWN_SHAPE)
        true = y
        if len(y.shape) == 1:
            true = tf.one_hot(y, logits.shape[1], on_value=True, off_value=False, dtype=tf.bool)
        flow = objective.logit_gradient(self.xp, logits, true)
        return logits, tape.gradient(logits, x, output_gradients=flow)

    def _there_and_back(self, x: Array) -> tuple[Array, Array]:
        """A forward and a backward pass, of an objective that costs nothing."""
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            logits = self._answer(x)
        return logits, tape.gradient(logits, x)


def compiled(function: Graph, signature: list[tf.TensorSpec]) -> Graph:
    """The graph of a function.

    On a CPU TensorFlow computes convolutions whose channels come first through XLA alone, which
    compiles anew for each size of a batch; so it is used for such networks only.
    """
    plain = tf.function(function, input_signature=signature, autograph=False)
    through_xla = tf.function(
        function, input_signature=signature, autograph=False, jit_compile=True
    )
    chosen = [plain]

    def ask(*arrays: Array) -> Any:
        try:
            return chosen[0](*arrays)
        except tf.errors.OpError as error:
            if chosen[0] is through_xla or "NHWC" not in str(error):
                raise
        chosen[0] = through_xla
        return chosen[0](*arrays)

    return ask


def can_be_shared(values: npt.NDArray[Any]) -> bool:
    """Whether a tensor can lie in NumPy's own memory; to make one otherwise takes two copies.

    TensorFlow ends the process over an array that does not begin at a line of the cache.
    """
    flags = values.flags
    whole = flags.c_contiguous and flags.writeable and values.size > 0
    return whole and values.ctypes.data % LINE == 0


def _known(shape: tf.TensorShape) -> Shape | None:
    """The shape of one image, where a network tells all of it."""
    if shape.rank is None or not shape[1:].is_fully_defined():
        return None
    return tuple(shape[1:].as_list())


def last_part(variable: Any) -> str:
    """The last part of a variable's name: ``kernel`` of ``net/dense_1/kernel:0``."""
    return str(variable.name).split("/")[-1].split(":")[0]
