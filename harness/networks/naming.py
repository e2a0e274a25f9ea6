"""Which weights of a foreign file are those of which layer of a network."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.errors import HarnessError, one_line, unknown
from harness.protocol import (
    Architecture,
    BatchNorm,
    FloatArray,
    Placed,
    told,
    walk,
)

KINDS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""Last parts of the names of tensors, as PyTorch has them."""
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class NormWeights:
    """Batch normalisation; all arrays have shape (channels,).

    Attributes:
        path: Its name in the file.
        scale: γ; ones if the file has none.
        shift: β; zeros likewise.
        mean: The running mean.
        variance: The running variance.
    """

    path: str
    scale: FloatArray
    shift: FloatArray
    mean: FloatArray
    variance: FloatArray


@dataclass(frozen=True)
class LayerWeights:
    """A layer in a file.

    Attributes:
        path: Its name there, such as ``features.0``.
        weight: (out, in) of a linear layer, (out, in, height, width) of a convolution, (channels,)
            of what scales each channel.
        bias: (out,), if it has one.
        norm: The batch normalisation that follows it.
    """

    path: str
    weight: FloatArray
    bias: FloatArray | None = None
    norm: NormWeights | None = None


def layers_in(tensors: Mapping[str, FloatArray]) -> dict[str, LayerWeights | NormWeights]:
    """The layers of a file, by their names there.

    Raises:
        HarnessError: A tensor is of no layer with weight and bias, or with running statistics.
    """
    parts: dict[str, dict[str, FloatArray]] = defaultdict(dict)
    for name, value in tensors.items():
        path, _, kind = name.rpartition(".")
        if kind not in KINDS:
            raise HarnessError(
                one_line(
                    f"{name} ({told(value.shape)}): names end in .weight or .bias, or as those of "
                    "batch normalisation do; rename it"
                )
            )
        parts[path][kind] = value
    return {path: _layer(path, found) for path, found in parts.items()}


def assigned(
    layers: Mapping[str, LayerWeights | NormWeights],
    architecture: Architecture,
    mapping: Mapping[str, str],
) -> dict[str, LayerWeights]:
    """The layer of a file for each of a network, by the neutral name of the latter.

    What ``mapping`` says counts. The others go by their shapes; of several of one shape, whose
    names differ in their numbers alone (``conv1``, ``conv2``, ``conv10``), by these numbers, in the
    order of the network. What is left of a file is an error, and so is what remains open.

    Batch normalisation belongs to the layer whose name it shares, but for ``bn`` or ``norm`` in
    place of ``conv`` (``layer1.0.bn1``), or whose number it follows (``downsample.1``).

    Raises:
        HarnessError: A layer has none, or one that does not fit; the message has names and shapes.
    """
    places = {place.name: place for place in walk(architecture.inference.placed) if place.name}
    normed = {p.name for p in walk(architecture.placed) if isinstance(p.layer, BatchNorm)}
    free = _with_norms(layers)
    found: dict[str, LayerWeights] = {}
    for name, path in mapping.items():
        if name not in places:
            raise HarnessError(f"weights: {unknown(name, 'layer', places)}")
        if path not in free:
            raise HarnessError(f"weights.{name}: {unknown(path, 'layer of the file', free)}")
        _require_fitting(places[name], free[path], normed)
        found[name] = free[path]
    _require_once(mapping)
    free = {path: layer for path, layer in free.items() if path not in mapping.values()}
    open_places = [place for name, place in places.items() if name not in found]
    if all(place.name in free for place in open_places):
        found |= {place.name: free.pop(place.name) for place in open_places}
    else:
        _by_shape(open_places, free, found)
    for name, layer in found.items():
        _require_fitting(places[name], layer, normed)
    if free:
        left = next(iter(free.values()))
        raise HarnessError(
            f"{left.path}.weight ({told(left.weight.shape)}) is of no layer of the network, which "
            f"has {len(places)} with weights, and the file {len(places) + len(free)}"
        )
    return {name: found[name] for name in places}


def _by_shape(
    places: Sequence[Placed], free: dict[str, LayerWeights], found: dict[str, LayerWeights]
) -> None:
    """Take from ``free`` the layers of these places into ``found``."""
    wanted: dict[tuple[int, ...], list[Placed]] = defaultdict(list)
    for place in places:
        wanted[place.weight_shape].append(place)
    for shape, alike in wanted.items():
        there = [layer for layer in free.values() if layer.weight.shape == shape]
        if len(there) < len(alike):
            raise HarnessError(_lacking(alike[len(there)], free, wanted))
        if len(there) > len(alike):
            names = ", ".join(layer.path for layer in there)
            raise HarnessError(
                f"{names} are each {told(shape)}, and the network has {len(alike)} such "
                f"layer{'s' * (len(alike) > 1)}: {', '.join(place.name for place in alike)}"
            )
        for place, layer in zip(alike, _in_order(alike, there), strict=True):
            found[place.name] = free.pop(layer.path)


def _in_order(places: Sequence[Placed], layers: Sequence[LayerWeights]) -> Sequence[LayerWeights]:
    """Layers of one shape, by the numbers in their names.

    Raises:
        HarnessError: The names differ in more than numbers.
    """
    if len({NUMBER.sub("#", layer.path) for layer in layers}) > 1:
        said = ", ".join(
            f'"{place.name}" = "{layer.path}"' for place, layer in zip(places, layers, strict=True)
        )
        raise HarnessError(
            one_line(
                f"{', '.join(layer.path for layer in layers)} are each "
                f"{told(layers[0].weight.shape)}, and their names do not tell which of them is "
                f"{' and which '.join(place.name for place in places)}; say it, as in weights = "
                f"{{ {said} }}"
            )
        )
    return sorted(layers, key=lambda layer: [int(n) for n in NUMBER.findall(layer.path)])


def _lacking(
    place: Placed,
    free: Mapping[str, LayerWeights],
    wanted: Mapping[tuple[int, ...], Sequence[Placed]],
) -> str:
    """That a layer has no weights, and which of the file's it should probably have had."""
    shape = place.weight_shape
    others = [layer for layer in free.values() if layer.weight.shape not in wanted]
    others.sort(key=lambda layer: -_likeness(layer.weight.shape, shape))
    said = f"{place.name}.weight ({type(place.layer).__name__}) is {told(shape)}, and "
    if not others:
        return f"{said}the file has no weight of that shape left"
    return (
        f"{said}no weight of the file is; {others[0].path}.weight is "
        f"{told(others[0].weight.shape)}: check the architecture and its options, and that weights "
        "lie as PyTorch has them, (out, in) and (out, in, height, width)"
    )


def _likeness(have: tuple[int, ...], shape: tuple[int, ...]) -> int:
    same = sum((Counter(have) & Counter(shape)).values())
    return same + 10 * (len(have) == len(shape))


def _require_fitting(place: Placed, layer: LayerWeights, normed: set[str]) -> None:
    kind = type(place.layer).__name__
    if layer.weight.shape != place.weight_shape:
        raise HarnessError(
            f"{layer.path}.weight is {told(layer.weight.shape)}, and {place.name}.weight ({kind}) "
            f"{told(place.weight_shape)}"
        )
    out = place.weight_shape[:1]
    if layer.bias is not None and layer.bias.shape != out:
        raise HarnessError(
            f"{layer.path}.bias is {told(layer.bias.shape)}, and {place.name}.bias ({kind}) "
            f"{told(out)}"
        )
    if layer.norm is not None and place.name not in normed:
        raise HarnessError(
            f"{layer.norm.path}: batch normalisation, which the network has not after {place.name} "
            f"({kind}); say batch_norm = true, or describe it"
        )


def _require_once(mapping: Mapping[str, str]) -> None:
    twice = [path for path, count in Counter(mapping.values()).items() if count > 1]
    if twice:
        raise HarnessError(f"weights: {twice[0]} is said of two layers")


def _with_norms(layers: Mapping[str, LayerWeights | NormWeights]) -> dict[str, LayerWeights]:
    """All layers with weights, those that are followed by batch normalisation with it.

    Batch normalisation after no layer scales each channel.
    """
    norms = {path: one for path, one in layers.items() if isinstance(one, NormWeights)}
    made: dict[str, LayerWeights] = {}
    for path, layer in layers.items():
        if isinstance(layer, LayerWeights):
            fitting = [of for of in _norms_after(path) if of in norms]
            norm = norms.pop(fitting[0]) if fitting else None
            if norm is not None and norm.mean.shape != layer.weight.shape[:1]:
                raise HarnessError(
                    f"{norm.path}: batch normalisation of {told(norm.mean.shape)} channels, after "
                    f"{path}, which makes {len(layer.weight)}"
                )
            made[path] = layer if norm is None else replace(layer, norm=norm)
    for path, norm in norms.items():
        ones = np.ones_like(norm.mean)
        made[path] = LayerWeights(path, ones, None, norm)
    return made


def _norms_after(path: str) -> list[str]:
    """What batch normalisation after a layer may be called."""
    before, dot, last = path.rpartition(".")
    names = [last.replace("conv", other) for other in ("bn", "norm") if "conv" in last]
    names += [last.replace("fc", other) for other in ("bn", "norm") if "fc" in last]
    if last.isdecimal():
        names.append(str(int(last) + 1))
    return [f"{before}{dot}{name}" for name in names]


def _layer(path: str, parts: Mapping[str, FloatArray]) -> LayerWeights | NormWeights:
    mean, variance = parts.get("running_mean"), parts.get("running_var")
    if mean is None and variance is None:
        if "weight" not in parts:
            raise HarnessError(f"{path}: has a {next(iter(parts))}, and no weight")
        return LayerWeights(path, parts["weight"], parts.get("bias"))
    if mean is None or variance is None:
        raise HarnessError(f"{path}: has one of running_mean and running_var; it needs both")
    scale = parts.get("weight", np.ones_like(mean))
    shift = parts.get("bias", np.zeros_like(mean))
    if mean.ndim != 1 or len({one.shape for one in (mean, variance, scale, shift)}) > 1:
        raise HarnessError(f"{path}: the parts of batch normalisation differ in shape")
    return NormWeights(path, scale, shift, mean, variance)
