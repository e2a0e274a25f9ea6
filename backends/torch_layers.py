"""Networks of the harness as PyTorch modules; see ``protocol.layers``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn import functional

from harness.errors import BackendError
from harness.protocol import (
    BN_EPSILON,
    BN_MOMENTUM,
    UNPADDED,
    Architecture,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    FloatArray,
    MaxPool,
    MeanPool,
    Padding,
    Pair,
    Placed,
    ReLU,
    Residual,
    Scale,
    Weights,
    fold_batch_norm,
    pooled_first,
)


class SeededDropout(nn.Module):
    """Inverted dropout with a generator of its own, so that the global one is left alone."""

    def __init__(self, share: float, seed: int) -> None:
        super().__init__()
        self.share = share
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Zero a share of the units while training, and scale the others up."""
        if not self.training:
            return x
        kept = torch.rand(x.shape, generator=self.generator) >= self.share
        return x * kept.to(x.device) / (1 - self.share)


class ToMaps(nn.Module):
    """Images (n, *shape) as maps (n, channels, height, width)."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        if x.ndim == 3:
            return x.unsqueeze(1)
        return x.permute(0, 3, 1, 2) if self.last else x


class FlattenMaps(nn.Module):
    """Maps as vectors that have the channel last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return x.permute(0, 2, 3, 1).flatten(1)


class Padded(nn.Module):
    """A number around the maps."""

    def __init__(self, padding: Padding, value: float) -> None:
        super().__init__()
        (top, bottom), (left, right) = padding
        self.padding, self.value = (left, right, top, bottom), value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return functional.pad(x, self.padding, value=self.value)


class Strided(nn.Module):
    """One in so many rows and columns.

    PyTorch 2.13's convolution with windows of 1 × 1 and a stride writes beyond its memory in
    training, where maps have few channels that lie next to each other.
    """

    def __init__(self, stride: Pair) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return x[:, :, :: self.stride[0], :: self.stride[1]]


class Scaled(nn.Module):
    """Each channel times its weight, plus its bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        shape = (-1, *[1] * (x.ndim - 2))
        return x * self.weight.reshape(shape) + self.bias.reshape(shape)


class Added(nn.Module):
    """The sum of two branches."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut = branch, shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.branch(x) + self.shortcut(x)


class Built(nn.Sequential):
    """A network of an architecture.

    Args:
        architecture: What it is made of.
        seed: Of the first dropout layer; each further one has the next.

    Attributes:
        named: Its layers with weights, by their neutral names.
        norms: Batch normalisations, by the names of the layers that they are folded into.
    """

    def __init__(self, architecture: Architecture, seed: int = 0) -> None:
        maps = architecture.takes_maps
        # Images that come as vectors have the order of their own axes already.
        made = _Making(architecture.channels_last and maps, seed)
        super().__init__(*[ToMaps(made.last)] * maps, *made.sequence(architecture.placed))
        if maps:
            # On the CPU, convolutions of maps that lie in memory channel by channel take up to
            # twice the time.
            self.to(memory_format=torch.channels_last)
        # In dictionaries, which do not make them submodules once more.
        self.named, self.norms = made.named, made.norms

    def matrices(self) -> Iterator[torch.Tensor]:
        """Weights of two axes or more, from input to logits."""
        for layer in self.named.values():
            if layer.weight.ndim >= 2:
                yield layer.weight

    def weights(self) -> dict[str, FloatArray]:
        """Copies of the weights under neutral names, with batch normalisation folded in."""
        found: dict[str, FloatArray] = {}
        for name, layer in self.named.items():
            weight, bias = _numpy(layer.weight).copy(), _numpy(layer.bias).copy()
            norm = self.norms.get(name)
            if norm is not None:
                parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
                weight, bias = fold_batch_norm(weight, bias, *map(_numpy, parts))
            found[f"{name}.weight"], found[f"{name}.bias"] = weight, bias
        return found

    def set_weights(self, weights: Weights) -> None:
        """Put other weights in their place."""
        with torch.no_grad():
            for name, layer in self.named.items():
                layer.weight.copy_(torch.tensor(weights[f"{name}.weight"]))
                layer.bias.copy_(torch.tensor(weights[f"{name}.bias"]))

    def dropouts(self) -> list[SeededDropout]:
        """Its dropout layers, each with a generator."""
        return [layer for layer in self.modules() if isinstance(layer, SeededDropout)]


class _Making:
    """Makes the layers of a network."""

    def __init__(self, last: bool, seed: int) -> None:
        self.last, self.seed = last, seed
        self.named: dict[str, nn.Module] = {}
        self.norms: dict[str, nn.Module] = {}

    def sequence(self, placed: Sequence[Placed]) -> list[nn.Module]:
        """Layers one after another."""
        made: list[nn.Module] = []
        previous: Placed | None = None
        for place in pooled_first(placed):
            # What a layer before has made anew, and no gradient needs, may be overwritten.
            fresh = previous is not None and isinstance(
                previous.layer, Dense | Conv | MaxPool | Residual
            )
            module = self._layer(place, fresh)
            if place.name and isinstance(place.layer, BatchNorm):
                if previous is None or previous.name != place.name:
                    # Not folded: in training a Scale that stays the identity goes before it.
                    self.named[place.name] = Scaled(place.before[0]).requires_grad_(False)
                    made.append(self.named[place.name])
                self.norms[place.name] = module
            elif place.name:
                self.named[place.name] = module
            made.append(module)
            previous = place
        return made

    def _layer(self, place: Placed, fresh: bool) -> nn.Module:
        layer, before = place.layer, place.before
        if isinstance(layer, Residual):
            parts = (self.sequence(part) for part in (place.branch, place.shortcut))
            return Added(*(nn.Sequential(*part) for part in parts))
        if isinstance(layer, Dense):
            # Drawing weights that are still to be set would use global state.
            return nn.utils.skip_init(nn.Linear, before[0], layer.width)
        if isinstance(layer, Conv):
            return _convolution(layer, before[0])
        if isinstance(layer, Scale):
            return Scaled(before[0])
        if isinstance(layer, BatchNorm):
            kind = nn.BatchNorm1d if len(before) == 1 else nn.BatchNorm2d
            return kind(before[0], eps=BN_EPSILON, momentum=1 - BN_MOMENTUM)
        if isinstance(layer, ReLU):
            return nn.ReLU(inplace=fresh)
        if isinstance(layer, Dropout):
            self.seed += 1
            return SeededDropout(layer.share, self.seed - 1)
        if isinstance(layer, MaxPool):
            return _max_pool(layer)
        if isinstance(layer, MeanPool):
            return nn.AvgPool2d(layer.size, layer.stride)
        if isinstance(layer, Flatten):
            return FlattenMaps() if self.last and len(before) == 3 else nn.Flatten()
        raise BackendError(f"the torch backend has no {type(layer).__name__}")


class PreparedConv(nn.Module):
    """A convolution of maps that another module makes ready."""

    def __init__(self, convolution: nn.Conv2d, prepared: nn.Module) -> None:
        super().__init__()
        self.convolution, self.prepared = convolution, prepared

    @property
    def weight(self) -> torch.Tensor:
        """Of the convolution."""
        return self.convolution.weight

    @property
    def bias(self) -> torch.Tensor:
        """Of the convolution."""
        return self.convolution.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return self.convolution(self.prepared(x))


def _convolution(layer: Conv, channels: int) -> nn.Module:
    convolution = nn.utils.skip_init(
        nn.Conv2d, channels, layer.channels, layer.kernel, stride=layer.stride
    )
    (top, bottom), (left, right) = layer.padding
    if layer.kernel == (1, 1) and max(layer.stride) > 1 and layer.padding == UNPADDED:
        convolution.stride = (1, 1)
        return PreparedConv(convolution, Strided(layer.stride))
    if top != bottom or left != right:
        return PreparedConv(convolution, Padded(layer.padding, 0.0))
    convolution.padding = (top, left)
    return convolution


def _max_pool(layer: MaxPool) -> nn.Module:
    (top, bottom), (left, right) = layer.padding
    # PyTorch's own padding is at most half a window, and the same on either side.
    if (top, left) == (bottom, right) and 2 * top <= layer.size[0] and 2 * left <= layer.size[1]:
        return nn.MaxPool2d(layer.size, layer.stride, (top, left))
    pool = nn.MaxPool2d(layer.size, layer.stride)
    return nn.Sequential(Padded(layer.padding, float("-inf")), pool)


def _numpy(value: torch.Tensor) -> FloatArray:
    found: FloatArray = value.detach().cpu().numpy()
    return found
