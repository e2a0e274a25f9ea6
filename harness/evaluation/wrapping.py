"""A user's own network, function or file as a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import registry
from harness.errors import BackendError, HarnessError, one_line
from harness.evaluation.arguments import bounds_from
from harness.evaluation.imported import (
    SUFFIX,
    Imported,
    built_of_weights,
    from_onnx,
    read_file_of_weights,
)
from harness.factory import called, is_function
from harness.maths.adaptive import (
    VOTES,
    Backward,
    GradientsFrom,
    Randomised,
    Transform,
    Transformed,
)
from harness.maths.around import Laid, Limited, Preprocessed, innermost, why_no_gradient
from harness.maths.outputs import Outputs, declared
from harness.protocol import GRADIENT, UNIT, Bounds, Calls, Model, Wrapping, is_model
from harness.spec.own import BUILT


def wrap(
    net: Any,
    bounds: Bounds = (0.0, 1.0),
    outputs: Outputs = "auto",
    *,
    output: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    channel_axis: int | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    backend: str | None = None,
    randomised: bool = False,
    votes: int | None = None,
    transform: Transform | None = None,
    backward: Backward | None = None,
    gradients_from: Any = None,
) -> Model:
    """A user's own network as a model to evaluate; the network is not changed.

    Args:
        net: A network of PyTorch (a module, TorchScript, an exported program), of Keras or
            TensorFlow (a ``keras.Model``, a ``tf.function``, a SavedModel), a session of ONNX
            Runtime, a fitted classifier of scikit-learn, or the path of a file that holds one:
            ``.pt2``, ``.pt``, ``.keras``, ``.onnx``, a ``.safetensors`` that says its layers (as
            those of ``harness export``), or the folder of a SavedModel; or the name of a function
            that returns one, ``package.module:function``. A function of images is wrapped by
            ``wrap_function``.
        bounds: Lowest and highest pixel value of the images; epsilon is in these units.
        outputs: What the network returns. With ``auto`` outputs that look like probabilities are
            refused when they are met. ``logits`` says that they are none, whatever they look like.
            ``probabilities`` takes their logarithms for logits, and admits attacks without
            gradients only, because behind a softmax or sigmoid gradients vanish.
        output: Name of the output that holds them, where there are several.
        preprocessing: ``{"mean": ..., "std": ...}``, a number for each channel or one for all: the
            network gets (x - mean) / std, and epsilon stays in the units of x.
        channel_axis: Axis of one image that holds its channels; guessed where the shape of the
            images leaves no doubt.
        device: Where the network is computed: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; by default
            where it is.
        batch_size: Images at a time; by default as many as fit into memory.
        backend: Of an ``.onnx`` file: the framework in which its network is built, where it is made
            of layers that the harness knows (by default one that is installed), or ``onnx`` for
            ONNX Runtime, which gives no gradients. Of a ``.safetensors`` file the framework.
        randomised: Whether it draws random numbers on purpose, as a defence. Then it is measured,
            not refused: an image's label is what most of several calls say. Its random numbers are
            its own, so that two measurements are alike up to chance.
        votes: Calls that vote on an image then; 10 if None.
        transform: A function that is applied to the images first, as a part of the model: given
            NumPy images, (n, *shape) in pixel units, it returns those that the network sees. It
            need not be differentiable (JPEG, quantisation).
        backward: Stands in for the derivative of ``transform`` (BPDA, Athalye, Carlini & Wagner
            2018): given the images, (n, *shape), and the gradient by what the transform made of
            them, it returns the gradient by the images, (n, *shape). If None, the transform counts
            as the identity.
        gradients_from: Another network, or a model that is wrapped already, whose gradients stand
            in for those of this one, which may be a black box. It takes the same images; a network
            is wrapped with the same bounds, preprocessing and device.

    Raises:
        HarnessError: An argument is not what it should be.
        BackendError: The object is not a network of a known framework, or cannot be wrapped; or
            there is no such device.

    Example:
        >>> import harness, numpy as np
        >>> from sklearn.linear_model import LogisticRegression
        >>> x, y = np.array([[0.1, 0.9], [0.8, 0.3], [0.9, 0.1]]), np.array([1, 0, 0])
        >>> harness.wrap(LogisticRegression().fit(x, y), bounds=(0.0, 1.0))
        Declared(<sklearn LogisticRegression, pixels in [0, 1], without gradients>)
    """
    how = Wrapping(bounds_from(bounds), output, device)
    if isinstance(net, str) and is_function(net):
        net = called(net, {})
    if backend is not None and not (isinstance(net, str | Path) and is_built(net)):
        raise HarnessError(
            one_line(
                f"backend: {backend} is said of what is no {' or '.join(BUILT)} file, and has its "
                "own"
            )
        )
    if isinstance(net, str | Path):
        model = _loaded(Path(net), how, outputs, backend)
    elif is_model(net):
        model = net
        _require_unsaid(model, how)
    else:
        model = registry.backend_of(net).wrap(net, how)
    if isinstance(model, Imported) and model.read.end:
        outputs = "logits"  # those before what makes probabilities of them
    other = None
    if gradients_from is not None:
        other = _stand_in(gradients_from, bounds, preprocessing, channel_axis, device)
    model = _dressed(model, outputs, preprocessing, channel_axis, batch_size, other)
    return _defended(model, transform, backward, randomised, votes)


def wrap_function(
    function: Callable[[Any], Any],
    bounds: Bounds = (0.0, 1.0),
    outputs: Outputs = "auto",
    *,
    output: str | None = None,
    preprocessing: Mapping[str, Any] | None = None,
    channel_axis: int | None = None,
    batch_size: int | None = None,
    retries: int = 0,
    wait: float = 0.1,
    randomised: bool = False,
    votes: int | None = None,
    gradients_from: Any = None,
) -> Model:
    """Any Python function of images as a black box: attacks ask it, and get no gradient.

    Args:
        function: Given NumPy images, (n, *shape) float32, it returns (n, k) scores of the classes,
            or one number an image where there are two. What it does inside is its own affair: it
            may ask a server, or a network of any framework.
        bounds: As in ``wrap``.
        outputs: As in ``wrap``.
        output: As in ``wrap``.
        preprocessing: As in ``wrap``.
        channel_axis: As in ``wrap``.
        batch_size: Images a call, at most.
        retries: How often a call that raises is made again; then the images that alone are not
            answered are left out, and counted.
        wait: Seconds before the first of these, doubled before each further one.
        randomised: As in ``wrap``.
        votes: As in ``wrap``.
        gradients_from: As in ``wrap``.

    Returns:
        A model whose ``queries`` is how many images the function was asked of.

    Raises:
        HarnessError: An argument is not what it should be.

    Example:
        >>> import harness
        >>> def scores(images):
        ...     return images.reshape(len(images), -1)  # the class is the brightest pixel
        >>> harness.wrap_function(scores, outputs="logits")
        Declared(<function scores, pixels in [0, 1], without gradients>)
    """
    if not callable(function):
        raise HarnessError(f"{type(function).__name__}: not a function; pass what takes images")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise HarnessError(one_line(f"retries: {retries!r} is not a whole number ≥ 0"))
    if not isinstance(wait, int | float) or not 0 <= wait < 3600:
        raise HarnessError(one_line(f"wait: {wait!r} is not a number of seconds"))
    size = _size(batch_size)
    how = Calls(bounds_from(bounds), output, batch_size=size, retries=retries, wait=wait)
    model = registry.backend("callable").wrap(function, how)
    other = None
    if gradients_from is not None:
        other = _stand_in(gradients_from, bounds, preprocessing, channel_axis, None)
    model = _dressed(model, outputs, preprocessing, channel_axis, size, other)
    return _defended(model, None, None, randomised, votes)


def _stand_in(
    net: Any,
    bounds: Bounds,
    preprocessing: Mapping[str, Any] | None,
    channel_axis: int | None,
    device: str | None,
) -> Model:
    """Another network, whose gradients are used in place of a model's.

    Raises:
        HarnessError: It is none, has other bounds, or gives no gradients.
    """
    try:
        if is_model(net):
            other = net
        else:
            other = wrap(
                net, bounds, preprocessing=preprocessing, channel_axis=channel_axis, device=device
            )
    except HarnessError as error:
        raise HarnessError(one_line(f"gradients_from: {error}")) from error
    if GRADIENT not in other.capabilities:
        why = why_no_gradient(other)
        raise HarnessError(one_line(f"gradients_from: it gives no gradients itself{why}"))
    if tuple(other.bounds) != tuple(bounds_from(bounds)):
        raise HarnessError(
            f"gradients_from: it takes pixels in {list(other.bounds)}, the model in "
            f"{list(bounds_from(bounds))}; wrap both with the same bounds"
        )
    return other


def _defended(
    model: Model,
    transform: Transform | None,
    backward: Backward | None,
    randomised: bool,
    votes: int | None,
) -> Model:
    """The model behind its transform, and marked as random."""
    for name, function in (("transform", transform), ("backward", backward)):
        if function is not None and not callable(function):
            raise HarnessError(
                one_line(f"{name}: {function!r} is no function; pass what takes NumPy images")
            )
    if backward is not None and transform is None:
        raise HarnessError("backward: it stands in for a transform; pass transform, too")
    if transform is not None:
        model = Transformed(model, transform, backward)
    if not isinstance(randomised, bool):
        raise HarnessError(one_line(f"randomised: {randomised!r} is neither True nor False"))
    if votes is not None and not randomised:
        raise HarnessError("votes: they are taken of a random model; pass randomised=True, too")
    if votes is not None and (isinstance(votes, bool) or not isinstance(votes, int) or votes < 1):
        raise HarnessError(one_line(f"votes: {votes!r} is not a whole number ≥ 1"))
    return Randomised(model, VOTES if votes is None else votes) if randomised else model


def _require_unsaid(model: Model, how: Wrapping) -> None:
    """Refuse what is said of a model for whose network it has been said before."""
    given = {"output": how.output, "device": how.device}
    if tuple(how.bounds) not in (UNIT.bounds, tuple(model.bounds)):
        given["bounds"] = str(list(how.bounds))
    for key, value in given.items():
        if value is not None:
            raise HarnessError(
                one_line(f"{key}: {value} is said of a model that is wrapped already; say it there")
            )


def is_onnx(path: str | Path) -> bool:
    """Whether a file is one whose network may be built in several backends."""
    return Path(path).suffix.lower() == SUFFIX


def is_built(path: str | Path) -> bool:
    """Whether a file holds a network that a backend of the harness builds."""
    return Path(path).suffix.lower() in BUILT


def _loaded(path: Path, how: Wrapping, outputs: Outputs, backend: str | None) -> Model:
    found = None if is_built(path) else registry.backend_for(path)
    if not path.exists():
        raise BackendError(f"{path}: there is no such file")
    if found is not None:
        return found.load(path, how)
    if is_onnx(path):
        return from_onnx(path, how, outputs, backend)
    return built_of_weights(path, read_file_of_weights(path), how, backend)


def _dressed(
    model: Model,
    outputs: Outputs,
    preprocessing: Mapping[str, Any] | None,
    channel_axis: int | None,
    batch_size: int | None,
    other: Model | None = None,
) -> Model:
    """The model behind what prepares its images, and says what its outputs are."""
    if channel_axis is not None and (
        isinstance(channel_axis, bool) or not isinstance(channel_axis, int)
    ):
        raise HarnessError(one_line(f"channel_axis: {channel_axis!r} is not a whole number"))
    if preprocessing is not None:
        mean, std = _normalisation(preprocessing)
        model = Preprocessed(model, mean, std, channel_axis)
    if other is not None:  # in front of probabilities, which give no gradients
        model, outputs = GradientsFrom(declared(model, outputs), other), "auto"
    if channel_axis is not None:
        model = Laid(model, channel_axis)
    if (size := _size(batch_size)) is not None:
        model = Limited(model, size)
    return declared(model, outputs)


def _normalisation(said: Any) -> tuple[Sequence[float], Sequence[float]]:
    if not isinstance(said, Mapping) or set(said) != {"mean", "std"}:
        raise HarnessError(one_line(f"preprocessing: {said!r} is not {{'mean': ..., 'std': ...}}"))
    return said["mean"], said["std"]


def _size(batch_size: Any) -> int | None:
    if batch_size is None:
        return None
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise HarnessError(one_line(f"batch_size: {batch_size!r} is not a whole number ≥ 1"))
    return batch_size


def backend_name_of(model: Model) -> tuple[str, dict[str, str]]:
    """Name and versions of the backend that a model is of; its class's name for a user's own."""
    return registry.made_by(innermost(model))
