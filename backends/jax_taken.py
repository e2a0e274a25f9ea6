"""What networks of JAX are taken: pairs of a function and its arrays, modules of Flax and Equinox.

Nothing of Flax or Equinox is imported before one of their modules is here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from backends.jax_devices import device_named
from backends.jax_wrapped import Call, Compiled, JaxModel
from harness.errors import BackendError, gist
from harness.protocol import Array, Wrapping

PAIR = "(apply, params), where apply(params, images) returns logits"


@dataclass(frozen=True)
class Taken:
    """A network as a function of its arrays and a batch of images.

    Attributes:
        call: The function.
        held: A tree of arrays.
        kind: What it is, for people.
    """

    call: Call
    held: Any
    kind: str


def is_taken(net: Any) -> bool:
    """Whether an object is of a kind that can be wrapped."""
    return (
        _is_pair(net)
        or isinstance(net, jax.tree_util.Partial)
        or _is_jitted(net)
        or any(_is_a(net, name) for name in ("flax.nnx:Module", "equinox:Module"))
        or _is_a(net, "flax.linen:Module")
    )


def wrapped(net: Any, how: Wrapping) -> JaxModel:
    """See ``protocol.Backend.wrap``."""
    device = device_named(how.device)
    taken = _taken(net)
    return JaxModel(Compiled(taken.call, how.output), taken.held, how, taken.kind, device)


def _taken(net: Any) -> Taken:
    if _is_a(net, "flax.nnx:Module"):
        return _of_nnx(net)
    if _is_a(net, "flax.linen:Module"):
        return _of_linen(net)
    if _is_a(net, "equinox:Module"):
        return _of_equinox(net)
    if _is_pair(net):
        call, held = _split(net[1])
        return Taken(lambda arrays, x: net[0](call(arrays), x), held, f"JAX {_name(net[0])}")
    if isinstance(net, jax.tree_util.Partial):
        call, held = _split(net)
        return Taken(lambda arrays, x: call(arrays)(x), held, f"JAX {_name(net.func)}")
    if _is_jitted(net):
        return Taken(lambda arrays, x: net(x), (), f"JAX {_name(net)}")
    raise BackendError(
        f"{type(net).__name__}: no network of JAX; pass {PAIR}, a module of Flax NNX or Equinox, "
        "or jax.jit(function of images)"
    )


def _of_nnx(net: Any) -> Taken:
    from flax import nnx

    try:
        copy = nnx.merge(*nnx.split(net))  # for its mode is its own
        copy.eval()
        graph, state = nnx.split(copy)
        call, held = _split(state)
    except Exception as error:  # whatever its attributes say to that
        raise BackendError(
            f"{type(net).__name__}: cannot be split into graph and state ({gist(error)}); pass "
            f"{PAIR}"
        ) from error
    return Taken(
        lambda arrays, x: nnx.merge(graph, call(arrays))(x), held, f"flax.nnx {_name(net)}"
    )


def _of_linen(net: Any) -> Taken:
    if net.scope is None:
        raise BackendError(
            f"{type(net).__name__}: a module of Flax Linen holds no weights; pass "
            "(net.apply, variables), or net.bind(variables)"
        )
    module, variables = net.unbind()
    call, held = _split(variables)
    return Taken(lambda arrays, x: module.apply(call(arrays), x), held, f"flax.linen {_name(net)}")


def _of_equinox(net: Any) -> Taken:
    import equinox

    if not callable(net):
        raise BackendError(f"{type(net).__name__}: cannot be called on images; pass {PAIR}")
    call, held = _split(equinox.nn.inference_mode(net))

    def of_a_batch(arrays: Any, x: Array) -> Any:
        whole = call(arrays)
        return jax.vmap(whole)(x) if _takes_one(whole, x) else whole(x)

    return Taken(of_a_batch, held, f"equinox.Module {_name(net)}")


def _takes_one(net: Callable[[Array], Any], x: Array) -> bool:
    """Whether a module is written for one image, as those of Equinox are, and not for a batch.

    That is tried, without computing anything; if it takes both, one image has one row of logits.
    """
    try:
        found = jax.eval_shape(net, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
    except Exception as error:  # whatever it raises of a shape that it does not take
        try:
            jax.eval_shape(net, jax.ShapeDtypeStruct(x.shape, x.dtype))
        except Exception:
            raise error from None
        return False
    return all(leaf.ndim <= 1 for leaf in jax.tree.leaves(found))


def _split(tree: Any) -> tuple[Callable[[Any], Any], Any]:
    """The same tree with its arrays alone, and what puts such arrays in their places again.

    What is no array, such as an activation or a word, stays as it is.
    """
    leaves, shape = jax.tree.flatten(tree, is_leaf=_is_none)
    others = [None if _is_array(leaf) else leaf for leaf in leaves]

    def put(arrays: Any) -> Any:
        given = jax.tree.leaves(arrays, is_leaf=_is_none)
        found = [other if leaf is None else leaf for leaf, other in zip(given, others, strict=True)]
        return jax.tree.unflatten(shape, found)

    # In the precision that JAX computes in, as it would do itself with arrays of NumPy.
    arrays = [_ours(leaf) if _is_array(leaf) else None for leaf in leaves]
    return put, jax.tree.unflatten(shape, arrays)


def _ours(leaf: Any) -> Array:
    return leaf if isinstance(leaf, jax.Array) else jnp.array(leaf)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray)


def _is_pair(net: Any) -> bool:
    """Whether it is a function with the tree of its arrays."""
    if not isinstance(net, tuple) or len(net) != 2 or not callable(net[0]):
        return False
    return any(_is_array(leaf) for leaf in jax.tree.leaves(net[1]))


def _is_jitted(net: Any) -> bool:
    return callable(net) and hasattr(net, "lower") and hasattr(net, "eval_shape")


def _is_a(net: Any, kind: str) -> bool:
    """Whether it is of a class ``package.module:Class`` of a package that is in use."""
    module, _, name = kind.partition(":")
    if module.partition(".")[0] not in sys.modules:
        return False
    found = getattr(sys.modules.get(module), name, None)
    return found is not None and isinstance(net, found)


def _name(net: Any) -> str:
    """The name of a function, or of an object's class."""
    return str(getattr(net, "__name__", type(net).__name__))
