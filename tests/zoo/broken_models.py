"""Models with one thing wrong, each a small network that is healthy but for that."""

from __future__ import annotations

import numpy as np
from backends_at_hand import at_hand

from backends.numpy_backend import NumpyModel
from zoo.networks import BOUNDS, NET, trained


class Broken(NumpyModel):
    """What is wrong with the logits is wrong with those beside the gradient too."""

    def __init__(self, bounds=BOUNDS, **options):
        super().__init__(NET, trained(**options), bounds, "float32")

    def bend(self, logits):
        return logits

    def logits(self, x):
        return self.bend(super().logits(x))

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return self.bend(logits), gradient


class Squashed(Broken):
    """A function of the logits at the end, with its true gradient."""

    def pull_back(self, logits, flow):
        """The flow (n, k) before the function, from that behind it."""
        raise NotImplementedError

    def logits_and_gradient(self, x, y, objective):
        logits = self.layers(x)[-1]
        flow = objective.logit_gradient(np, self.bend(logits), np.arange(10) == y[:, None])
        known = Known(self.pull_back(logits, flow))
        return self.bend(logits), NumpyModel.logits_and_gradient(self, x, y, known)[1]


class Known:
    """An objective whose gradient is given."""

    def __init__(self, flow):
        self.flow = flow

    def logit_gradient(self, xp, logits, true):
        return self.flow


# Outputs


class NotANumber(Broken):
    """Half of the images meet a division by zero."""

    def bend(self, logits):
        logits = logits.copy()
        logits[logits[:, 0] > np.median(logits[:, 0])] = np.nan
        return logits


class NaNGradient(Broken):
    """The gradient of a root at zero."""

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, np.where(x > 0, gradient, np.float32("nan"))


class Softmax(Squashed):
    def bend(self, logits):
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def pull_back(self, logits, flow):
        odds = self.bend(logits)
        return odds * (flow - (odds * flow).sum(axis=1, keepdims=True))


class Sigmoid(Squashed):
    def bend(self, logits):
        return 0.5 + 0.5 * np.tanh(logits / 2)

    def pull_back(self, logits, flow):
        odds = self.bend(logits)
        return flow * odds * (1 - odds)


class Constant(Broken):
    """One bias has run away."""

    def bend(self, logits):
        return logits + 1e6 * np.eye(10, dtype=np.float32)[3]


class Dead(Broken):
    """No hidden unit is ever on."""

    def layers(self, x, masks=None):
        return super().layers(x, [np.zeros((len(x), width)) for width in NET.hidden])


# Labels


class LabelsFromOne(Broken):
    def bend(self, logits):
        return np.roll(logits, 1, axis=1)


class TwoClassesExchanged(Broken):
    def bend(self, logits):
        return logits[:, [0, 1, 2, 8, 4, 5, 6, 7, 3, 9]]


class SortedAsText(Broken):
    """Classes in the order of other names."""

    def bend(self, logits):
        return logits[:, [8, 5, 4, 9, 1, 7, 6, 3, 2, 0]]


# Calls and batches


class Dropping(Broken):
    """Dropout stays on."""

    def __init__(self):
        super().__init__()
        self.random = np.random.default_rng(0)

    def layers(self, x, masks=None):
        return super().layers(x, [2.0 * self.random.integers(0, 2, (len(x), 32))])


class NoisyInput(Broken):
    """A random defence: Gaussian noise on the image."""

    def __init__(self):
        super().__init__()
        self.random = np.random.default_rng(0)

    def layers(self, x, masks=None):
        return super().layers(x + self.random.normal(0, 0.1, x.shape).astype(np.float32))


class BatchStatistics(Broken):
    """Batch normalisation in training mode, on the logits."""

    def bend(self, logits):
        return (logits - logits.mean(axis=0)) / (logits.std(axis=0) + 1e-3)


# Gradients


class Staircase(Broken):
    """Pixels are rounded to four levels first (thermometer-like defences); nothing flows back."""

    def layers(self, x, masks=None):
        return super().layers(np.round(x * 4) / 4, masks)

    def logits_and_gradient(self, x, y, objective):
        return self.logits(x), np.zeros_like(x)


class Clipped(Squashed):
    """Logits are cut off at ±1, so that the loss is flat on confident images."""

    def bend(self, logits):
        return np.clip(logits, -1, 1)

    def pull_back(self, logits, flow):
        return flow * (np.abs(logits) < 1)


class Shattered(Broken):
    """The gradient is that of pixels shuffled somewhere inside (Athalye et al. 2018)."""

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        order = np.random.default_rng(0).permutation(64)
        return logits, gradient.reshape(len(x), -1)[:, order].reshape(x.shape)


class WrongLabelInGradient(Broken):
    """The gradient is taken for the label after the true one."""

    def logits_and_gradient(self, x, y, objective):
        return super().logits_and_gradient(x, (y + 1) % 10, objective)


class WrongSign(Broken):
    """The gradient of the loss, times -1."""

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, -gradient


class Rippled(Broken):
    """Ripples on the image, too small to matter, whose true gradient drowns that of the image."""

    def layers(self, x, masks=None):
        return super().layers(x + np.float32(0.01) * np.sin(np.float32(2000) * x), masks)

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, gradient * (1 + np.float32(20) * np.cos(np.float32(2000) * x))


# Pixels


class OutsideItsBounds(Broken):
    """Images of [0, 1] for a network that takes [-1, 0]."""

    def __init__(self):
        super().__init__(bounds=(-1.0, 0.0))


class BytesInUnitPixels(Broken):
    """Declared for [0, 255], and given images in [0, 1]."""

    def __init__(self):
        super().__init__(bounds=(0.0, 255.0), scale="bytes", epochs=20)


def batch_norm_in_training_mode():
    """A torch network that insists on the statistics of the batch."""
    at_hand("torch")
    from torch import nn

    net = at_hand("torch").build(NET, trained(), bounds=BOUNDS).net
    norm = nn.BatchNorm1d(10, track_running_stats=False)
    return at_hand("torch").wrap(nn.Sequential(net, norm), bounds=BOUNDS)


MASKED = {"black-box-stronger", "not-to-chance"}
"""What fires when no gradient leads anywhere."""
BROKEN_MODELS = {
    "nan-logits": (NotANumber, {"non-finite"}),
    "nan-gradient": (NaNGradient, {"non-finite"}),
    "softmax": (Softmax, {"probabilities"}),
    "sigmoid": (Sigmoid, {"probabilities"}),
    "constant": (Constant, {"constant"}),
    "dead-units": (Dead, {"constant", "vanishing-gradients"}),
    "labels-from-one": (LabelsFromOne, {"labels-shifted"}),
    "two-classes-exchanged": (TwoClassesExchanged, {"labels-shifted"}),
    "sorted-as-text": (SortedAsText, {"labels-shifted"}),
    "dropout-on": (Dropping, {"call-to-call"}),
    "noisy-input": (NoisyInput, {"call-to-call"}),
    "batch-statistics": (BatchStatistics, {"batch-dependence"}),
    "batch-norm-training": (batch_norm_in_training_mode, {"batch-dependence"}),
    "staircase": (Staircase, {"vanishing-gradients", *MASKED}),
    "clipped-logits": (Clipped, {"vanishing-gradients", *MASKED}),
    "shattered-gradient": (Shattered, MASKED),
    "rippled": (Rippled, {"iterated-weaker", *MASKED}),
    "gradient-of-another-label": (WrongLabelInGradient, MASKED),
    "wrong-sign": (WrongSign, MASKED),
    "trained-on-bytes": (lambda: Broken(scale="bytes", epochs=20), {"input-range"}),
    "trained-on-standardised": (lambda: Broken(scale="standardised"), {"input-range"}),
    "trained-on-inverted": (lambda: Broken(scale="inverted"), {"input-range"}),
    "outside-its-bounds": (OutsideItsBounds, {"input-range"}),
    "bytes-in-unit-pixels": (BytesInUnitPixels, {"input-range"}),
}
"""What makes each, and what must fire, no more and no less."""
