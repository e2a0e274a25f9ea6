"""Interval bound propagation in PyTorch, for training; see ``protocol.Batch``."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from backends.torch_layers import (
    Added,
    Built,
    FlattenMaps,
    Padded,
    PreparedConv,
    Scaled,
    SeededDropout,
    Strided,
    ToMaps,
)
from harness.errors import BackendError

MONOTONE = (
    nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Flatten, ToMaps, FlattenMaps, Padded, Strided,
)  # fmt: skip
"""Layers that make bounds of bounds, each by itself."""


class Interval(NamedTuple):
    """Images, or what layers have made of them, and bounds of all that becomes of their balls.

    Attributes:
        x: Of the images themselves, in training mode.
        lower: Of the balls, without dropout.
        upper: Likewise.
    """

    x: torch.Tensor
    lower: torch.Tensor
    upper: torch.Tensor

    @property
    def centre(self) -> torch.Tensor:
        """Half-way between the bounds."""
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> torch.Tensor:
        """How far the bounds are from there."""
        return (self.upper - self.lower) / 2


def margins(
    net: Built, images: Interval, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n, k) of images, and lower bounds (n, k) of that of the label (n,) less each."""
    *body, last = net
    values = images
    for module in body:
        values = _through(module, values)
    at = labels[:, None]
    if not isinstance(last, nn.Linear):
        values = _through(last, values)
        return values.x, (values.lower.gather(1, at) - values.upper).scatter(1, at, 0.0)
    centre = last(values.centre)
    # One row for the difference of two logits, so that what these share does not count twice.
    rows = (last.weight[labels][:, None] - last.weight).abs()
    spread = (rows @ values.radius[:, :, None])[:, :, 0]
    return last(values.x), centre.gather(1, at) - centre - spread


def _through(module: nn.Module, values: Interval) -> Interval:
    """What a layer makes of values and of their bounds."""
    if isinstance(module, nn.Sequential):
        for part in module:
            values = _through(part, values)
        return values
    if isinstance(module, Added):
        sides = _through(module.branch, values), _through(module.shortcut, values)
        return Interval(*(one + other for one, other in zip(*sides, strict=True)))
    if isinstance(module, PreparedConv):
        return _through(module.convolution, _through(module.prepared, values))
    if isinstance(module, SeededDropout):
        return values._replace(x=module(values.x))
    if isinstance(module, MONOTONE):
        return Interval(*map(module, values))
    return _affine(module, values)


def _affine(module: nn.Module, values: Interval) -> Interval:
    """What an affine map makes of them: the centre goes through it, the radius by absolute values.

    Batch normalisation is one by the mean and variance of the images themselves.
    """
    made, centre, radius = module(values.x), values.centre, values.radius
    if isinstance(module, nn.Linear):
        centre, radius = module(centre), functional.linear(radius, module.weight.abs())
    elif isinstance(module, nn.Conv2d):
        padding, kernel = module.padding, module.weight.abs()
        radius = functional.conv2d(radius, kernel, None, module.stride, padding)
        centre = module(centre)
    elif isinstance(module, Scaled | nn.BatchNorm1d | nn.BatchNorm2d):
        weight, bias = module.weight, module.bias
        if not isinstance(module, Scaled):
            axes = [axis for axis in range(made.ndim) if axis != 1]
            variance, mean = torch.var_mean(values.x, axes, correction=0)
            weight = weight * (variance + module.eps).rsqrt()
            bias = bias - mean * weight
        weight, bias = (part.reshape(-1, *[1] * (made.ndim - 2)) for part in (weight, bias))
        centre, radius = centre * weight + bias, radius * weight.abs()
    else:
        raise BackendError(f"the torch backend has no bounds for {type(module).__name__}")
    return Interval(made, centre - radius, centre + radius)
