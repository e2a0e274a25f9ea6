"""Somebody's weights in a network that is described here: safetensors files, read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from harness.errors import HarnessError, one_line
from harness.files import check_depth
from harness.networks.description import architecture_from
from harness.networks.naming import LayerWeights, assigned, layers_in
from harness.protocol import (
    Architecture,
    ArchitectureError,
    Flatten,
    FloatArray,
    Network,
    fold_batch_norm,
    told,
    walk,
)

SUFFIX = ".safetensors"
ARCHITECTURE = "architecture"
"""The key of a file's metadata under which its layers are, as JSON."""
TRAINING = "training"
"""That of the store of models, under which their trainings are."""
COUNTER = "num_batches_tracked"
"""What batch normalisation counts in whole numbers, and nobody needs."""
CHUNK = 1 << 20


class WeightsError(HarnessError):
    """A file of weights that cannot be read, or that does not fit a network."""


@dataclass(frozen=True)
class WeightsFile:
    """What a file holds.

    Attributes:
        path: Where it is.
        tensors: All that is in it, by name, in float32.
        described: The layers that it says its weights are of, as ``harness export`` writes them;
            None if it says none.
        sha256: Of the file.
        trained_here: Whether it is of the harness's store of models.
    """

    path: Path
    tensors: Mapping[str, FloatArray]
    described: Architecture | None
    sha256: str
    trained_here: bool = False

    def channels_last(self, architecture: Architecture) -> bool:
        """Whether vectors that come of maps have the channel last: in PyTorch they have it first.

        Args:
            architecture: The network that the weights are for.
        """
        if self.described is not None:
            return self.described.channels_last
        return self.trained_here and architecture.channels_last


def read_weights(path: Path, sha256: str | None = None) -> WeightsFile:
    """The weights in a safetensors file.

    Args:
        path: The file.
        sha256: What its content must hash to, if that is known.

    Raises:
        WeightsError: It is no whole safetensors file, has another hash, or holds what are no
            finite numbers; the line names the file.
    """
    try:
        found = _digest(path)
        if sha256 is not None and found != sha256.lower():
            raise WeightsError(
                f"{path}: its SHA-256 is {found}, not {sha256}: it is damaged, or another file"
            )
        with safe_open(path, framework="numpy") as stored:
            # It is read by name, and is no mapping that could be iterated.
            names = list(stored.keys())
            tensors = {name: _tensor(path, stored, name) for name in names}
            notes = stored.metadata() or {}
    except (OSError, SafetensorError, ValueError) as error:
        raise WeightsError(
            f"{path}: not a whole .safetensors file ({one_line(error)}); save it again"
        ) from error
    if not tensors:
        raise WeightsError(f"{path}: holds no weights")
    described = _described(path, notes[ARCHITECTURE]) if ARCHITECTURE in notes else None
    return WeightsFile(path, tensors, described, found, TRAINING in notes)


def network_of_file(
    file: WeightsFile,
    architecture: Architecture | None = None,
    mapping: Mapping[str, str] | None = None,
) -> Network:
    """The network that a file's weights are put into.

    Weights under the neutral names of the network, as ``harness export`` writes them, are those;
    other names are assigned as ``naming.assigned`` says, and are in the layout of PyTorch. A layer
    that is followed by batch normalisation takes both, folded.

    Args:
        file: What the file holds.
        architecture: What the network is made of; by default what the file says.
        mapping: Which layer of the file is which of the network: ``{"layers.0": "conv1"}``.

    Raises:
        WeightsError: The file says nothing of its layers, and nobody else does; or they do not fit.
    """
    if architecture is None:
        if file.described is None:
            raise WeightsError(
                f"{file.path}: it holds weights, and does not say of which network; describe it in "
                'a spec: architecture = "cnn", with its options, beside file'
            )
        architecture = file.described
    elif file.described is not None:
        _require_described(file, architecture)
    shapes = architecture.weight_shapes()
    if set(file.tensors) == set(shapes) and not mapping:
        weights = _by_name(file, architecture, shapes)
    else:
        weights = _by_layer(file, architecture, mapping or {})
    return Network(architecture, weights)


def _by_name(
    file: WeightsFile, architecture: Architecture, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, FloatArray]:
    for name, shape in shapes.items():
        if (have := file.tensors[name].shape) != shape:
            raise WeightsError(
                f"{file.path}: {name}: its shape is {told(have)}, and the network's layer has "
                f"{told(shape)}"
            )
    weights = {name: file.tensors[name] for name in shapes}
    return _laid_out(architecture, weights, last=file.channels_last(architecture))


def _by_layer(
    file: WeightsFile, architecture: Architecture, mapping: Mapping[str, str]
) -> dict[str, FloatArray]:
    try:
        found = assigned(layers_in(file.tensors), architecture, mapping)
    except HarnessError as error:
        raise WeightsError(f"{file.path}: {error}") from error
    weights: dict[str, FloatArray] = {}
    for name, layer in found.items():
        weights[f"{name}.weight"], weights[f"{name}.bias"] = _folded(file.path, layer)
    return _laid_out(architecture, weights, last=file.channels_last(architecture))


def _folded(path: Path, layer: LayerWeights) -> tuple[FloatArray, FloatArray]:
    """Weight and bias of a layer, with its batch normalisation; a bias that it lacks is zero."""
    bias = np.zeros(len(layer.weight), np.float32) if layer.bias is None else layer.bias
    if layer.norm is None:
        return layer.weight, bias
    mean, variance = layer.norm.mean, layer.norm.variance
    if (variance < 0).any():
        raise WeightsError(f"{path}: {layer.norm.path}.running_var: a variance is negative")
    with np.errstate(over="ignore", invalid="ignore"):
        weight, bias = (
            np.asarray(part, dtype=np.float32)
            for part in fold_batch_norm(
                layer.weight, bias, layer.norm.scale, layer.norm.shift, mean, variance
            )
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise WeightsError(
            f"{path}: {layer.norm.path}: folded into {layer.path} it makes numbers that are not "
            "finite in float32"
        )
    return weight, bias


def _laid_out(
    architecture: Architecture, weights: dict[str, FloatArray], *, last: bool
) -> dict[str, FloatArray]:
    """The weights for images with their channels where the network has them.

    Args:
        architecture: The network.
        weights: By neutral names.
        last: Whether in the file vectors that come of maps have the channel last.
    """
    maps = None
    for place in walk(architecture.placed):
        if isinstance(place.layer, Flatten) and len(place.before) == 3:
            maps = place.before
        elif place.name and maps is not None:
            if last != architecture.channels_last:
                name = f"{place.name}.weight"
                weights[name] = _reordered(weights[name], maps, last=last)
            maps = None
    return weights


def _reordered(weight: FloatArray, maps: tuple[int, ...], *, last: bool) -> FloatArray:
    """A matrix (out, channels × height × width) whose columns change between the two orders.

    A ``Scale``, of as many numbers, is reordered likewise.
    """
    channels, height, width = maps
    rows = weight if weight.ndim == 2 else weight[None]
    if last:
        turned = rows.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
    else:
        turned = rows.reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(turned.reshape(weight.shape))


def _require_described(file: WeightsFile, architecture: Architecture) -> None:
    """Refuse a file that says other layers of itself than the spec does."""
    of_file, of_spec = (made.inference for made in (file.described, architecture) if made)
    same = of_file.layers == of_spec.layers and of_file.neutral_shape == of_spec.neutral_shape
    if same:
        return
    if of_file.neutral_shape != of_spec.neutral_shape:
        raise WeightsError(
            f"{file.path}: its network is for images of {told(of_file.input_shape)}, and these are "
            f"of {told(of_spec.input_shape)}"
        )
    pairs = zip((*of_file.layers, None), (*of_spec.layers, None), strict=False)
    number, (theirs, ours) = next(
        (number, pair) for number, pair in enumerate(pairs) if pair[0] != pair[1]
    )
    raise WeightsError(
        one_line(
            f"{file.path}: its layer {number} is {theirs or 'none'}, and that of the architecture "
            f"{ours or 'none'}; leave the architecture out, since the file has its own"
        )
    )


def _described(path: Path, said: str) -> Architecture:
    try:
        document = json.loads(said)
        check_depth(document)
        return architecture_from(document)
    except (ValueError, RecursionError, ArchitectureError) as error:
        raise WeightsError(
            f"{path}: what its metadata say of its layers is none ({one_line(error) or 'too deep'})"
        ) from error


def _tensor(path: Path, stored: safe_open, name: str) -> FloatArray:
    try:
        value = np.asarray(stored.get_tensor(name))  # type: ignore[no-untyped-call]
        kind = value.dtype.kind
    except (TypeError, AttributeError, KeyError) as error:  # a dtype that NumPy does not have
        raise WeightsError(
            f"{path}: {name}: of a type that NumPy has not, such as bfloat16; save it in float32"
        ) from error
    # Whole numbers are quantised weights, without the scale that makes them weights again.
    if kind != "f" and not (kind in "iu" and name.rpartition(".")[2] == COUNTER):
        raise WeightsError(f"{path}: {name}: {value.dtype} are no weights; save it in float32")
    with np.errstate(over="ignore"):
        numbers: FloatArray = value.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise WeightsError(f"{path}: {name}: holds numbers that are not finite in float32")
    return numbers


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
