"""A device that is none: arrays that nobody can read but by asking the model for them."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class OnDevice(NDArrayOperatorsMixin):
    """An array that lies elsewhere: it meets no array of the host's, and NumPy cannot read it."""

    def __init__(self, held, moved):
        self.held, self.moved = np.asarray(held), moved

    def __dlpack_device__(self):
        return 2, 0  # CUDA's first

    def __array__(self, dtype=None, copy=None):
        raise TypeError("an array on the device is read by NumPy itself")

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **how):
        if method != "__call__" or out is not None:
            raise TypeError(f"{ufunc.__name__}.{method} writes to an array on the device")
        return OnDevice(ufunc(*(_held(one) for one in inputs), **how), self.moved)

    def __getattr__(self, name):
        if name in ("shape", "dtype", "ndim", "size"):
            return getattr(self.held, name)
        raise AttributeError(name)

    def __len__(self):
        return len(self.held)

    def __getitem__(self, at):
        return OnDevice(self.held[_held(at)], self.moved)

    def __float__(self):
        self.moved.down(self.held)
        return float(self.held)

    def __bool__(self):
        self.moved.down(self.held)
        return bool(self.held)


class Namespace:
    """NumPy's functions over such arrays, as ``Model.xp``."""

    def __init__(self, moved):
        self._moved = moved

    def __getattr__(self, name):
        function = getattr(np, name)

        def on_device(*given, **how):
            found = function(*map(_held, given), **{key: _held(one) for key, one in how.items()})
            return OnDevice(found, self._moved)

        return on_device


class Moved:
    """What went to the device and what came back: images, and calls that moved smaller arrays.

    Args:
        pixels: In an image; arrays with as many entries in a row count as images, by their rows.
    """

    def __init__(self, pixels):
        self.pixels = pixels
        self.images_up = self.images_down = self.small_up = self.small_down = 0

    def up(self, values):
        """Note what goes to the device."""
        images = self._images(values)
        self.images_up += images
        self.small_up += not images

    def down(self, values):
        """Note what comes back."""
        images = self._images(values)
        self.images_down += images
        self.small_down += not images

    def _images(self, values):
        return len(values) if values.ndim and math.prod(values.shape[1:]) >= self.pixels else 0


class Device:
    """A model of the NumPy backend whose arrays lie on such a device; ``moved`` counts."""

    def __init__(self, model, pixels):
        self._model, self.bounds, self.capabilities = model, model.bounds, model.capabilities
        self.channel_axis = model.channel_axis
        self.moved = Moved(pixels)
        self.xp = Namespace(self.moved)

    def asarray(self, values):
        assert isinstance(values, np.ndarray), f"{type(values).__name__} is on the device already"
        self.moved.up(values)
        return OnDevice(self._model.asarray(values).copy(), self.moved)

    def numpy(self, array):
        self.moved.down(array.held)
        return array.held

    def logits(self, x):
        return OnDevice(self._model.logits(x.held), self.moved)

    def logits_and_gradient(self, x, y, objective):
        found = self._model.logits_and_gradient(x.held, y.held, objective)
        return tuple(OnDevice(one, self.moved) for one in found)


def _held(given):
    """What an argument holds, if it lies on the device or is a single number."""
    if isinstance(given, OnDevice):
        return given.held
    if isinstance(given, list | tuple):
        return type(given)(_held(one) for one in given)
    if isinstance(given, np.ndarray) and given.ndim:
        raise TypeError("an array of the host's meets one on the device")
    return given
