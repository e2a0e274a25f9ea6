"""Any network of JAX as a model: a function of arrays and images, compiled for a few batch sizes.

The model's own arrays are NumPy's, on every device. JAX has float64 and int64 only by a switch of
the whole process, and compiles each operation anew for each size of a batch, of which an attack
makes many as images leave it; so what an attack does between two gradients is left to NumPy, and
what is compiled is the network alone.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from backends.jax_devices import name_of
from harness.errors import BatchTooLarge, HarnessError, MeasurementError, gist
from harness.protocol import (
    GRADIENT,
    About,
    Array,
    FloatArray,
    Objective,
    Wrapping,
    one_output,
    require_classes,
    shown,
    two_classes,
)

Call: TypeAlias = Callable[[Any, Array], Any]
"""Of a tree of arrays and images (n, *shape): the logits, or what holds them."""
ON_CPU, ELSEWHERE = (128, 32, 8, 2), (1024, 128, 32, 8)
"""How many images are computed at a time: a batch of any size is made of these, for each of which
XLA compiles once. On a CPU more at a time gain nothing."""
FULL = 0.75
"""What is left of a batch fills a size if it is more than this share of it."""
NO_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|out of memory|failed to allocate", re.I)
STATISTICS = frozenset({"mean", "var", "running_mean", "running_var"})
"""Last names of arrays that are measured in training, and not trained."""
WRAPPERS = ("value", "get_value()", "raw_value")
"""What Flax puts around its arrays."""


class Compiled:
    """A network's function, compiled once for each size and objective; models may share one."""

    def __init__(self, call: Call, output: str | None = None) -> None:
        self.call, self.output = call, output
        self.logits = jax.jit(self.answer)
        self.gradient = jax.jit(self._gradient, static_argnames="objective")
        self._reached: dict[Any, bool] = {}

    def answer(self, held: Any, x: Array) -> Array:
        """The logits of images, (n, k), in float32 at least."""
        x = x.astype(entry_of(held))
        found = one_output(self.call(held, x), lambda v: isinstance(v, jax.Array), self.output)
        if not jnp.issubdtype(found.dtype, jnp.floating):
            raise MeasurementError(f"the network returns {found.dtype}, not logits")
        if found.dtype not in (jnp.float32, jnp.float64):
            found = found.astype(jnp.float32)
        return two_classes(jnp, found)

    def reached(self, held: Any, x: jax.ShapeDtypeStruct) -> bool:
        """Whether the logits follow from the images by steps that have derivatives."""
        key = x.shape[1:], x.dtype
        if key not in self._reached:
            self._reached[key] = self._depends(held, x)
        return self._reached[key]

    def _depends(self, held: Any, x: jax.ShapeDtypeStruct) -> bool:
        def along(held: Any, x: Array, change: Array) -> Array:
            return jax.jvp(lambda x: self.answer(held, x), (x,), (change,))[1]

        graph = jax.make_jaxpr(along)(held, x, x).jaxpr
        reached = {graph.invars[-1]}
        for step in graph.eqns:
            if any(v in reached for v in step.invars if not hasattr(v, "val")):
                reached.update(step.outvars)
        return graph.outvars[0] in reached

    def kept(self, held: Any, x: Array) -> Any:
        """What a forward pass keeps for the way back, and the logits."""
        return jax.vjp(lambda x: self.answer(held, x), x)

    def _gradient(self, held: Any, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        logits, back = jax.vjp(lambda x: self.answer(held, x), x)
        true = y if y.ndim == 2 else y[:, None] == jnp.arange(logits.shape[1], dtype=y.dtype)
        flow = objective.logit_gradient(jnp, logits, true)
        return logits, back(flow.astype(logits.dtype))[0]


class JaxModel:
    """A network that returns logits, in inference mode.

    Args:
        compiled: The network's function.
        held: Its arrays.
        how: See ``protocol.Wrapping``.
        kind: See ``protocol.About``.
        device: Where it is computed.
    """

    xp = np
    capabilities = frozenset({GRADIENT})

    def __init__(
        self, compiled: Compiled, held: Any, how: Wrapping, kind: str, device: jax.Device
    ) -> None:
        self.compiled, self.how, self.kind, self.device = compiled, how, kind, device
        self.bounds = how.bounds
        self.image_shape: tuple[int, ...] | None = None
        self.entry = entry_of(held)
        # Attacks work in this; a network of half precision gets its images cast at its door.
        self.dtype = np.dtype(np.float64 if self.entry == jnp.float64 else np.float32)
        self._sizes = ON_CPU if device.platform == "cpu" else ELSEWHERE
        self._as_it_is = False
        self.held: Any = None
        self.hold(held)

    def hold(self, held: Any) -> None:
        """Compute with other arrays."""
        with self.precision():
            self.held = jax.device_put(held, self.device)

    def like(self, held: Any) -> JaxModel:
        """The same function with other arrays."""
        made = JaxModel(self.compiled, held, self.how, self.kind, self.device)
        made.image_shape = self.image_shape
        return made

    def graph(self, shape: tuple[int, ...]) -> Any:
        """What the network computes of an image of a shape, as JAX writes it down."""
        with self.precision():
            image = jax.ShapeDtypeStruct((1, *shape), self.dtype)
            return jax.make_jaxpr(self.compiled.answer)(self.held, image).jaxpr

    def asarray(self, values: npt.NDArray[Any]) -> Array:
        """See ``protocol.Model``."""
        return np.asarray(values, dtype=np.int64 if values.dtype.kind in "iu" else self.dtype)

    def numpy(self, array: Array) -> npt.NDArray[Any]:
        """See ``protocol.Model``."""
        return np.asarray(array)

    def logits(self, x: Array) -> Array:
        """See ``protocol.Model``."""
        (logits,) = self._asked(lambda x: (self.compiled.logits(self.held, x),), self._images(x))
        return logits

    def logits_and_gradient(self, x: Array, y: Array, objective: Objective) -> tuple[Array, Array]:
        """See ``protocol.DifferentiableModel``; one function is compiled for an objective."""
        images, labels = self._images(x), np.asarray(y)
        with self._explained(len(images)):
            reached = self.compiled.reached(self.held, self._abstract(images))
        if not reached:
            raise MeasurementError(
                "the network gives no gradient: its logits do not follow from the image by "
                "differentiable steps (a stop_gradient, argmax or rounding in between?), so no "
                "gradient reaches the input; attack it with square"
            )
        # JAX has int32 whatever its switches are.
        given = labels.astype(np.int32 if labels.ndim == 1 else self.dtype, copy=False)
        logits, gradient = self._asked(
            lambda x, y: self.compiled.gradient(self.held, x, y, objective=objective), images, given
        )
        if labels.ndim == 1:
            require_classes(labels, logits.shape[1])
        return logits, gradient

    def footprint(self, x: Array) -> int:
        """Bytes that are kept of an image for its gradient, by their shapes; nothing is run."""
        sizes = []
        for count in (1, 2):
            shape = jax.ShapeDtypeStruct((count, *x.shape[1:]), self.dtype)
            with self.precision():
                kept = jax.eval_shape(self.compiled.kept, self.held, shape)
            sizes.append(sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept)))
        return max(0, sizes[1] - sizes[0])

    def __repr__(self) -> str:
        return shown(self.kind, self.bounds, self.capabilities)

    def about(self) -> About:
        """What it is; parameters are counted without the statistics of batch normalisation."""
        digest, count = hashlib.sha256(), 0
        named = [(words_of(p), leaf) for p, leaf in jax.tree.leaves_with_path(self.held)]
        for words, leaf in named:
            is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            values = np.ascontiguousarray(jax.random.key_data(leaf) if is_key else leaf)
            told = f"{'.'.join(words)} {values.dtype} {values.shape}\n"
            digest.update(told.encode() + values.tobytes())
            if jnp.issubdtype(leaf.dtype, jnp.floating) and not STATISTICS & {*words[-1:]}:
                count += values.size
        return About(
            self.kind,
            count if named else None,
            name_of(self.device),
            digest.hexdigest() if named else "",
        )

    def precision(self) -> AbstractContextManager[Any]:
        """Where it is computed in float64, that is so within; the process stays as it is."""
        return jax.enable_x64(True) if self.dtype == np.float64 else nullcontext()

    def _images(self, x: Array) -> FloatArray:
        images = np.asarray(x, dtype=self.dtype)
        self.image_shape = images.shape[1:]
        return images

    def _abstract(self, images: FloatArray) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(images.shape, self.dtype)

    def _asked(self, ask: Callable[..., tuple[Array, ...]], *arrays: Array) -> list[Array]:
        """What a function says of a batch, computed in batches of few sizes."""
        count = len(arrays[0])
        sizes = [count] if self._as_it_is else pieces_of(count, self._sizes)
        try:
            with self._explained(count):
                return self._in_pieces(ask, sizes, *arrays)
        except (MeasurementError, HarnessError):
            raise
        except Exception:
            if sizes == [count]:
                raise
        # It may take batches of some sizes only.
        with self._explained(count):
            found = self._in_pieces(ask, [count], *arrays)
        self._as_it_is = True
        return found

    def _in_pieces(
        self, ask: Callable[..., tuple[Array, ...]], sizes: Sequence[int], *arrays: FloatArray
    ) -> list[Array]:
        start, asked = 0, []
        for size in sizes:
            asked.append(ask(*(_filled(array[start : start + size], size) for array in arrays)))
            start += size
        count = len(arrays[0])
        parts = zip(*asked, strict=True)
        return [np.concatenate([np.asarray(p) for p in part])[:count] for part in parts]

    @contextmanager
    def _explained(self, count: int) -> Iterator[None]:
        """In its precision; and what JAX says of memory, or of what it cannot compile, is told."""
        try:
            with self.precision():
                yield
        except jax.errors.JAXTypeError as error:
            raise MeasurementError(
                f"the network cannot be compiled by JAX, and gives no gradient: {gist(error)}; "
                "wrap it as a black box: harness.wrap_function"
            ) from error
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, MemoryError) or NO_MEMORY.search(str(error)):
                raise BatchTooLarge(
                    f"{count} images do not fit into memory at a time; say a smaller batch_size"
                ) from error
            raise


def entry_of(held: Any) -> Any:
    """The dtype of images: that of the first array of floats among those of a network."""
    for leaf in jax.tree.leaves(held):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf.dtype
    return jnp.dtype(jnp.float32)


def words_of(path: Sequence[Any]) -> tuple[str, ...]:
    """What leads to an array in a tree, such as ``("dense", "kernel")``."""
    words = [re.sub(r"^\W+|\W+$", "", jax.tree_util.keystr((key,))) for key in path]
    return tuple(words[:-1] if words and words[-1] in WRAPPERS else words)


def pieces_of(count: int, sizes: Sequence[int]) -> list[int]:
    """Sizes, from the largest down, that hold so many images together, and few more."""
    found: list[int] = []
    for size, smaller in zip(sizes, (*sizes[1:], 0), strict=True):
        while count >= size or count > size * FULL or (count > 0 and not smaller):
            found.append(size)
            count -= size
    return found


def _filled(array: FloatArray, size: int) -> FloatArray:
    """An array with its last row repeated until it has so many."""
    short = size - len(array)
    return array if not short else np.concatenate([array, np.repeat(array[-1:], short, axis=0)])
