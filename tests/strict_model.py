"""A small network over array-api-strict, on a device that is not the host.

Nothing but the array API standard is there, and what becomes a NumPy array unasked is an error.
"""

from __future__ import annotations

import numpy as np
from backends_at_hand import REQUIRED, package_at_hand, required

from harness.maths import pieces


def strict_or_skip():
    """The package; where it is missing the test is skipped, or failed if the backends are named."""
    demanded = f"{REQUIRED} is set" if required() else ""
    return package_at_hand("array_api_strict", demanded, "; it is in the extra test")


class Asked:
    """A namespace that notes the names that are asked of it."""

    def __init__(self, namespace):
        self._namespace, self.names = namespace, set()

    def __getattr__(self, name):
        self.names.add(name)
        return getattr(self._namespace, name)


class StrictModel:
    """A NumPy model's network and weights; shapes and kinds of its copies to the host are noted."""

    capabilities = frozenset({"gradient"})

    def __init__(self, plain, monkeypatch):
        strict = self.strict = strict_or_skip()
        # As on an accelerator: no array of this model lies on the host.
        monkeypatch.setattr(pieces, "HOST", -1)
        self.device = strict.Device("device1")
        self.xp, self.bounds = Asked(strict), plain.bounds
        values = list(plain.weights().values())
        self.matrices, self.biases = values[::2], values[1::2]
        self.copies = []

    def asarray(self, values):
        dtype = self.strict.int64 if values.dtype.kind in "iu" else self.strict.float64
        return self.strict.asarray(values, dtype=dtype, device=self.device)

    def numpy(self, array):
        values = np.asarray(array._array)  # what to_device copies, but for NumPy 2 alone
        self.copies.append((values.shape, values.dtype.kind))
        return values

    def logits(self, x):
        return self._layers(x)[-1]

    def logits_and_gradient(self, x, y, objective):
        layers, strict = self._layers(x), self.strict
        true = y
        if y.ndim == 1:
            true = self.asarray(np.arange(layers[-1].shape[1])[None]) == strict.reshape(y, (-1, 1))
        flow = objective.logit_gradient(self.xp, layers[-1], true)
        for index in reversed(range(len(self.matrices))):
            flow = flow @ self.asarray(self.matrices[index])
            if index > 0:
                flow = flow * strict.astype(layers[index] > 0, strict.float64)
        return layers[-1], strict.reshape(flow, x.shape)

    def _layers(self, x):
        layers = [self.strict.reshape(x, (x.shape[0], -1))]
        pairs = list(zip(self.matrices, self.biases, strict=True))
        for number, (matrix, bias) in enumerate(pairs):
            values = layers[-1] @ self.asarray(matrix).T + self.asarray(bias)[None, :]
            last = number == len(pairs) - 1
            layers.append(values if last else self.strict.maximum(values, 0.0 * values))
        return layers
