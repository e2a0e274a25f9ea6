"""What of Keras and TensorFlow can be wrapped, and how each kind of it is called."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from harness.errors import BackendError
from harness.protocol import Array

Call: TypeAlias = Callable[[Array], Any]
FUNCTIONS = (tf.types.experimental.PolymorphicFunction, tf.types.experimental.ConcreteFunction)
SIGNATURE = "serving_default"


@dataclass(frozen=True)
class Taken:
    """A network as a function of one batch of images.

    Attributes:
        net: The network itself.
        kind: What it is, for people.
        call: What it answers in inference mode: one tensor, or several of them.
        choose: Gives several outputs their names, where the network has told them.
        entry: The dtype that it takes images in.
        shape: Of a batch, (n or None, *shape); of unknown rank where the network does not say.
        doubles: Whether it computes in float64.
        variables: Its weights, where they are known.
    """

    net: Any
    kind: str
    call: Call
    entry: tf.DType = tf.float32
    shape: tf.TensorShape = field(default_factory=lambda: tf.TensorShape(None))
    doubles: bool = False
    variables: list[Any] = field(default_factory=list)
    choose: Callable[[Any], Any] = lambda outputs: outputs


def is_taken(net: Any) -> bool:
    """Whether an object is of a kind that can be wrapped."""
    kinds = (keras.layers.Layer, tf.Module, *FUNCTIONS)
    return isinstance(net, kinds) or _signatures(net) is not None


def taken(net: Any, output: str | None = None) -> Taken:
    """The network as a function; ``output`` is the name of the one that holds the logits.

    Raises:
        BackendError: It cannot be called on images; the message says what can be done.
    """
    found = _taken(net, output)
    if not found.entry.is_floating:
        raise BackendError(f"{_name(net)}: its input is {found.entry.name}, {_remedy(net)}")
    return found


def _taken(net: Any, output: str | None) -> Taken:
    if isinstance(net, keras.layers.Layer):
        return _of_keras(net, output)
    if isinstance(net, tf.types.experimental.ConcreteFunction):
        return _of_concrete(net, net, "tf.ConcreteFunction")
    if isinstance(net, tf.types.experimental.PolymorphicFunction):
        return _of_function(net)
    signatures = _signatures(net)
    if signatures is not None:
        return _of_saved_model(net, signatures)
    if not isinstance(net, tf.Module):
        raise BackendError(f"{_name(net)}: not a keras.Model, nor another network of TensorFlow")
    return _of_module(net)


# Keras


def _of_keras(net: Any, output: str | None) -> Taken:
    kind = f"keras.Model {_name(net)}" if isinstance(net, keras.Model) else f"keras.{_name(net)}"
    inputs = _inputs(net)
    if not inputs and not _is_built(net):
        raise BackendError(
            f"{_name(net)}: has no declared input; begin it with keras.Input(shape), "
            "or put it behind one: keras.Sequential([keras.Input(shape), net])"
        )
    if len(inputs) > 1:
        raise BackendError(
            f"{_name(net)}: has {len(inputs)} inputs, not one; wrap a function of the images "
            "alone, that gives it the others: tf.function(lambda x: net([x, ...]))"
        )
    names = _output_names(net) if isinstance(net, keras.Model) else []

    def call(x: Array) -> Any:
        return net(x, training=False)

    def choose(outputs: Any) -> Any:
        return _named(outputs, names, output)

    if not inputs:
        floats = _floats(net.weights)
        entry = tf.as_dtype(getattr(net, "compute_dtype", None) or "float32")
        shape, doubles = tf.TensorShape(None), tf.float64 in floats
        return Taken(net, kind, call, entry, shape, doubles, list(net.weights), choose)
    entry = tf.as_dtype(inputs[0].dtype)
    ends = {entry, *(tf.as_dtype(end.dtype) for end in net.outputs)}
    shape = tf.TensorShape(inputs[0].shape)
    return Taken(net, kind, call, entry, shape, tf.float64 in ends, list(net.weights), choose)


def _inputs(net: Any) -> list[Any]:
    """The declared inputs; of a Sequential without any, early releases of Keras 3 raise."""
    try:
        return list(getattr(net, "inputs", None) or ())
    except ValueError:
        return []


def _is_built(net: Any) -> bool:
    """Whether it has been called, or built; a Sequential declares its input then."""
    return bool(net.built) and not isinstance(net, keras.Sequential)


def _output_names(net: Any) -> list[str]:
    """The names of the outputs of a functional model: those of the layers that they are from."""
    try:
        return [str(name) for name in net.output_names]
    except (AttributeError, ValueError):
        return []


def _named(outputs: Any, names: list[str], output: str | None) -> Any:
    """Several outputs in a list by their names, where these are needed or say which it is."""
    several = isinstance(outputs, tuple | list) and len(outputs) == len(names) > 0
    if several and (output is not None or "logits" in names):
        return dict(zip(names, outputs, strict=True))
    if output is not None and output in names and tf.is_tensor(outputs):
        return {output: outputs}
    return outputs


# TensorFlow


def _of_concrete(net: Any, function: Any, kind: str, variables: Iterable[Any] = ()) -> Taken:
    args, kwargs = function.structured_input_signature
    spec = _one_of(_specs((args, kwargs)), net)

    def call(x: Array) -> Any:
        # The others are Python values, such as training=False, that it has been traced with.
        fill = lambda part: x if isinstance(part, tf.TensorSpec) else part  # noqa: E731
        ours, named = tf.nest.map_structure(fill, (args, kwargs))
        return function(*ours, **named)

    held = list(variables) or list(function.variables)
    return Taken(net, kind, call, spec.dtype, spec.shape, spec.dtype == tf.float64, held)


def _of_function(net: Any, variables: Iterable[Any] = (), kind: str = "tf.function") -> Taken:
    declared = getattr(net, "input_signature", None)
    mode = _mode(net.python_function)
    held = list(variables)
    if declared is None:
        dtype = _common(held)
        return Taken(
            net, kind, lambda x: net(x, **mode), dtype, doubles=dtype == tf.float64, variables=held
        )
    # What there is beside the images has been said in the signature.
    concrete = net.get_concrete_function()
    spec = _one_of(_specs(concrete.structured_input_signature), net)
    shape, held = spec.shape, held or list(concrete.variables)
    return Taken(net, kind, net, spec.dtype, shape, spec.dtype == tf.float64, held)


def _of_module(net: tf.Module) -> Taken:
    kind, held = f"tf.Module {_name(net)}", list(net.variables)
    if not callable(net):
        raise BackendError(f"{_name(net)}: has no __call__; wrap the tf.function that is to be")
    method = type(net).__call__
    if isinstance(method, FUNCTIONS):
        return _of_function(net.__call__, held, kind)
    dtype, mode = _common(held), _mode(method)
    try:  # Python's if and for become part of the graph, as in a tf.function
        call = tf.autograph.to_graph(method)
    except Exception:  # such as of code whose source is not at hand
        call = method
    return Taken(
        net,
        kind,
        lambda x: call(net, x, **mode),
        dtype,
        doubles=dtype == tf.float64,
        variables=held,
    )


def _of_saved_model(net: Any, signatures: Mapping[str, Any]) -> Taken:
    held = list(getattr(net, "variables", None) or ())
    functions = []
    if callable(net):
        functions = list(getattr(net.__call__, "concrete_functions", ()))
    one = [each for each in functions if len(_specs(each.structured_input_signature)) == 1]
    if one:
        return _of_concrete(net, min(one, key=_order), "SavedModel", held)
    if SIGNATURE in signatures:
        return _of_concrete(net, signatures[SIGNATURE], "SavedModel", held)
    there = ", ".join(signatures) or "none"
    raise BackendError(
        f"SavedModel: it cannot be called, and has no signature {SIGNATURE} (there is {there}); "
        "wrap the function of it that returns logits"
    )


def _order(function: Any) -> tuple[bool, bool]:
    """Functions in inference mode, and for batches of any size, come first."""
    signature = function.structured_input_signature
    (spec,) = _specs(signature)
    training = any(part is True for part in tf.nest.flatten(signature))
    return training, spec.shape.rank is None or spec.shape[:1] != tf.TensorShape([None])


def _signatures(net: Any) -> Mapping[str, Any] | None:
    """The signatures of what ``tf.saved_model.load`` has returned; None of anything else."""
    found = getattr(net, "signatures", None)
    ours = type(net).__module__.partition(".")[0] == "tensorflow"
    return found if ours and isinstance(found, Mapping) else None


def _specs(signature: Any) -> list[tf.TensorSpec]:
    return [part for part in tf.nest.flatten(signature) if isinstance(part, tf.TensorSpec)]


def _one_of(specs: list[tf.TensorSpec], net: Any) -> tf.TensorSpec:
    if len(specs) == 1:
        return specs[0]
    names = ", ".join(spec.name for spec in specs if spec.name)
    raise BackendError(
        f"{_name(net)}: has {len(specs)} inputs{f' ({names})' if names else ''}, not one; wrap a "
        "function of the images alone, that gives it the others: tf.function(lambda x: net(...))"
    )


def _mode(function: Any) -> dict[str, bool]:
    """What says that a function is to work in inference mode, where it takes that."""
    try:
        names = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    return {"training": False} if "training" in names else {}


def _floats(variables: Iterable[Any]) -> list[tf.DType]:
    found = [tf.as_dtype(variable.dtype) for variable in variables]
    return [dtype for dtype in found if dtype.is_floating]


def _common(variables: Iterable[Any]) -> tf.DType:
    """The dtype of the first weights that are no integers; float32 if there are none."""
    return next(iter(_floats(variables)), tf.float32)


def _name(net: Any) -> str:
    return "SavedModel" if _signatures(net) is not None else type(net).__name__


def _remedy(net: Any) -> str:
    if isinstance(net, keras.Model):
        return (
            "through which no gradient flows; rebuild it on floats: keras.models.clone_model("
            "keras.Model(net.inputs, net.outputs), [keras.Input(shape)]), and "
            "set_weights(net.get_weights()) of it"
        )
    return (
        "through which no gradient flows; give it an input of floats, or attack it as a black box: "
        "harness.wrap_function"
    )
