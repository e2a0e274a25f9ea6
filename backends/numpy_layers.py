"""The layers of a network in NumPy, each with its way back; see ``protocol.layers``.

Maps are (n, channels, height, width). A layer returns what it makes of its input, and a function
that carries a gradient with respect to that back to one with respect to the input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from harness.errors import BackendError
from harness.protocol import (
    UNPADDED,
    Architecture,
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
)

Back: TypeAlias = Callable[[FloatArray], FloatArray]
Gradients: TypeAlias = dict[str, FloatArray]


class Pass:
    """One pass of images through a network, and the way back.

    Args:
        weights: Under their neutral names.
        random: Draws dropout masks; None in inference, where nothing is dropped.

    Attributes:
        gradients: With respect to the weights, under their names, once ``back`` has been; only of
            a pass that ``learns``.
    """

    def __init__(
        self, weights: Weights, random: np.random.Generator | None = None, learns: bool = False
    ) -> None:
        self.weights, self.random, self.learns = weights, random, learns
        self.gradients: Gradients = {}

    def network(self, architecture: Architecture, x: FloatArray) -> tuple[FloatArray, Back]:
        """Logits (n, k) of images (n, *shape), and what makes a gradient in their shape."""
        last = architecture.channels_last
        maps = np.moveaxis(x, 3, 1) if last else x
        values = maps.reshape(len(x), *architecture.neutral_shape)
        logits, back = self.sequence(architecture.placed, values, last)

        def through(flow: FloatArray) -> FloatArray:
            found = back(flow).reshape(maps.shape)
            return np.moveaxis(found, 1, 3) if last else found

        return logits, through

    def sequence(
        self, placed: Sequence[Placed], x: FloatArray, last: bool
    ) -> tuple[FloatArray, Back]:
        """Layers one after another; ``last`` says whether vectors have the channel last."""
        ways: list[Back] = []
        for place in placed:
            x, way = self._layer(place, x, last)
            ways.append(way)

        def back(flow: FloatArray) -> FloatArray:
            for way in reversed(ways):
                flow = way(flow)
            return flow

        return x, back

    def _layer(self, place: Placed, x: FloatArray, last: bool) -> tuple[FloatArray, Back]:
        layer = place.layer
        if isinstance(layer, Residual):
            branch, back = self.sequence(place.branch, x, last)
            beside, back_beside = self.sequence(place.shortcut, x, last)
            return branch + beside, lambda flow: back(flow) + back_beside(flow)
        if isinstance(layer, Dense):
            return self._dense(place, x)
        if isinstance(layer, Conv):
            return self._conv(place, layer, x)
        if isinstance(layer, Scale):
            return self._scale(place, x)
        if isinstance(layer, ReLU):
            made = np.maximum(x, 0)
            return made, lambda flow: flow * (made > 0)
        if isinstance(layer, Dropout):
            return self._dropout(layer, x)
        if isinstance(layer, Flatten):
            return _flatten(x, last)
        if isinstance(layer, MaxPool):
            return _max_pool(layer, x)
        if isinstance(layer, MeanPool):
            return _mean_pool(layer, x)
        raise BackendError(f"the numpy backend has no {type(layer).__name__}")

    def _dense(self, place: Placed, x: FloatArray) -> tuple[FloatArray, Back]:
        weight, bias = self._of(place)

        def back(flow: FloatArray) -> FloatArray:
            if self.learns:
                self._found(place, flow.T @ x, flow.sum(axis=0))
            return flow @ weight

        return x @ weight.T + bias, back

    def _conv(self, place: Placed, layer: Conv, x: FloatArray) -> tuple[FloatArray, Back]:
        weight, bias = self._of(place)
        windows = _windows(_padded(x, layer.padding), layer.kernel, layer.stride)
        # (n, in, rows, columns, kernel, kernel) with (out, in, kernel, kernel)
        made = np.tensordot(windows, weight, ([1, 4, 5], [1, 2, 3]))

        def back(flow: FloatArray) -> FloatArray:
            if self.learns:
                found = np.tensordot(flow, windows, ([0, 2, 3], [0, 2, 3]))
                self._found(place, found, flow.sum(axis=(0, 2, 3)))
            parts = np.tensordot(flow, weight, ([1], [0]))
            return _spread(parts.transpose(0, 3, 1, 2, 4, 5), x, layer.stride, layer.padding)

        return np.ascontiguousarray((made + bias).transpose(0, 3, 1, 2)), back

    def _scale(self, place: Placed, x: FloatArray) -> tuple[FloatArray, Back]:
        weight, bias = (
            part.reshape(-1, *[1] * (x.ndim - 2)) for part in self._of(place)
        )  # one a channel, along axis 1

        def back(flow: FloatArray) -> FloatArray:
            if self.learns:
                axes = (0, *range(2, x.ndim))
                self._found(place, (flow * x).sum(axis=axes), flow.sum(axis=axes))
            return flow * weight

        return x * weight + bias, back

    def _dropout(self, layer: Dropout, x: FloatArray) -> tuple[FloatArray, Back]:
        if self.random is None:
            return x, lambda flow: flow
        keep = 1 - layer.share
        kept = self.random.random(x.shape) < keep
        mask = kept.astype(x.dtype) / x.dtype.type(keep)
        return x * mask, lambda flow: flow * mask

    def _of(self, place: Placed) -> tuple[FloatArray, FloatArray]:
        return self.weights[f"{place.name}.weight"], self.weights[f"{place.name}.bias"]

    def _found(self, place: Placed, weight: FloatArray, bias: FloatArray) -> None:
        self.gradients[f"{place.name}.weight"] = weight
        self.gradients[f"{place.name}.bias"] = bias


def _flatten(x: FloatArray, last: bool) -> tuple[FloatArray, Back]:
    ordered = np.moveaxis(x, 1, -1) if last and x.ndim == 4 else x

    def back(flow: FloatArray) -> FloatArray:
        found = flow.reshape(ordered.shape)
        return np.moveaxis(found, -1, 1) if ordered is not x else found

    return ordered.reshape(len(x), -1), back


def _max_pool(layer: MaxPool, x: FloatArray) -> tuple[FloatArray, Back]:
    padded = _padded(x, layer.padding, -np.inf)
    windows = _windows(padded, layer.size, layer.stride)
    flat = windows.reshape(*windows.shape[:4], -1)
    # Of equal values the first is taken.
    best = flat.argmax(axis=-1)[..., None]

    def back(flow: FloatArray) -> FloatArray:
        parts = np.zeros(flat.shape, flow.dtype)
        np.put_along_axis(parts, best, flow[..., None], axis=-1)
        return _spread(parts.reshape(windows.shape), x, layer.stride, layer.padding)

    return np.take_along_axis(flat, best, axis=-1)[..., 0], back


def _mean_pool(layer: MeanPool, x: FloatArray) -> tuple[FloatArray, Back]:
    windows = _windows(x, layer.size, layer.stride)
    share = x.dtype.type(1 / (layer.size[0] * layer.size[1]))

    def back(flow: FloatArray) -> FloatArray:
        parts = np.broadcast_to((flow * share)[..., None, None], windows.shape)
        return _spread(parts, x, layer.stride, UNPADDED)

    return windows.sum(axis=(4, 5)) * share, back


def _padded(x: FloatArray, padding: Padding, value: float = 0.0) -> FloatArray:
    if padding == UNPADDED:
        return x
    return np.pad(x, ((0, 0), (0, 0), *padding), constant_values=value)


def _windows(x: FloatArray, size: Pair, stride: Pair) -> FloatArray:
    """What a sliding window sees: (n, channels, rows, columns, *size), a view."""
    seen: FloatArray = sliding_window_view(x, size, axis=(2, 3))
    return seen[:, :, :: stride[0], :: stride[1]]


def _spread(parts: FloatArray, x: FloatArray, stride: Pair, padding: Padding) -> FloatArray:
    """Gradients of windows (n, channels, rows, columns, *size), summed where windows overlap."""
    (top, bottom), (left, right) = padding
    height, width = x.shape[2:]
    whole = np.zeros((*x.shape[:2], height + top + bottom, width + left + right), parts.dtype)
    rows, columns = parts.shape[2:4]
    for row in range(parts.shape[4]):
        for column in range(parts.shape[5]):
            place: Any = (
                slice(None), slice(None),
                slice(row, row + stride[0] * rows, stride[0]),
                slice(column, column + stride[1] * columns, stride[1]),
            )  # fmt: skip
            whole[place] += parts[..., row, column]
    return whole[:, :, top : top + height, left : left + width]
