"""Models with one thing wrong, each a small network that is healthy but for that."""

from __future__ import annotations

import numpy as np
from backends_at_hand import at_hand

from backends.numpy_backend import NumpyModel
from backends.numpy_layers import Pass
from harness.protocol import Network, Wrapping, fully_connected
from zoo.healthy import fitted
from zoo.networks import BOUNDS, NET, images, trained

DROPPED = fully_connected((8, 8), (32,), 10, dropout=0.5)


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
        logits = self.through(x)[0]
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

    def __init__(self):
        super().__init__()
        self.named["layers.0.bias"][...] = -1e6


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

    def through(self, x):
        return Pass(self.named, self.random).network(DROPPED, x)


class NoisyInput(Broken):
    """A random defence: Gaussian noise on the image."""

    def __init__(self):
        super().__init__()
        self.random = np.random.default_rng(0)

    def through(self, x):
        return super().through(x + self.random.normal(0, 0.1, x.shape).astype(np.float32))


class BatchStatistics(Broken):
    """Batch normalisation in training mode, on the logits."""

    def bend(self, logits):
        return (logits - logits.mean(axis=0)) / (logits.std(axis=0) + 1e-3)


# Gradients


class Staircase(Broken):
    """Pixels are rounded to four levels first (thermometer-like defences); nothing flows back."""

    def through(self, x):
        return super().through(np.round(x * 4) / 4)

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

    def through(self, x):
        return super().through(x + np.float32(0.01) * np.sin(np.float32(2000) * x))

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, gradient * (1 + np.float32(20) * np.cos(np.float32(2000) * x))


class Clamped(Broken):
    """Pixels are clamped first, so that the darkest and the brightest have no gradient."""

    def through(self, x):
        return super().through(np.clip(x, 0.1, 0.9))

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, gradient * ((x > 0.1) & (x < 0.9))


class SteepInput(Broken):
    """Pixels are pushed to black or white first, where nearly nothing flows back in float32."""

    steepness = np.float32(60)

    def bright(self, x):
        return np.float32(0.5) + np.float32(0.5) * np.tanh(self.steepness / 2 * (x - 0.5))

    def through(self, x):
        return super().through(self.bright(x))

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        bright = self.bright(x)
        return logits, gradient * self.steepness * bright * (1 - bright)


class SquashedLogits(Squashed):
    """Logits are 10 sigmoid(4z), no probabilities, but as flat."""

    def bend(self, logits):
        return 5 + 5 * np.tanh(2 * logits)

    def pull_back(self, logits, flow):
        return flow * 10 * (1 - np.tanh(2 * logits) ** 2)


class ClippedWide(Squashed):
    """Logits are cut off at ±5."""

    def bend(self, logits):
        return np.clip(logits, -5, 5)

    def pull_back(self, logits, flow):
        return flow * (np.abs(logits) < 5)


def winners_take_all():
    """Of each hidden layer only the largest tenth goes on (k-WTA, Xiao et al. 2020)."""
    at_hand("torch")
    import torch
    from torch import nn

    class Winners(nn.Module):
        def forward(self, x):
            least = x.topk(max(1, x.shape[1] // 10), dim=1).values[:, -1:]
            return torch.where(x >= least, x, torch.zeros_like(x))

    return fitted(
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(64, 300), Winners(), nn.Linear(300, 100), Winners(),
            nn.Linear(100, 10),
        ),
        epochs=12,
    )  # fmt: skip


# Modes


class OtherWithGradient(Broken):
    """Returns other logits where a gradient is requested."""

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return np.roll(logits, 1, axis=1), gradient


class NoGradient(Broken):
    """Says that it gives gradients, and breaks when one is requested."""

    def logits_and_gradient(self, x, y, objective):
        raise RuntimeError("element 0 of tensors does not require grad")


class NoneForGradient(Broken):
    def logits_and_gradient(self, x, y, objective):
        return self.logits(x), None


class GradientOfOneImage(Broken):
    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, gradient[:1]


class NoiseByPlace(Broken):
    """Noise with a seed of its own at each call: the same for a batch that comes again."""

    def bend(self, logits):
        return logits + np.random.default_rng(0).normal(0, 2, logits.shape).astype(np.float32)


class NoiseByPlaceInTheImage(Broken):
    def through(self, x):
        noise = np.random.default_rng(0).normal(0, 0.1, x.shape).astype(np.float32)
        return super().through(x + noise)


class BreaksAlone(Broken):
    def through(self, x):
        if len(x) == 1:
            raise ValueError("Expected more than 1 value per channel")
        return super().through(x)


class Counts(Broken):
    """Tires: its logits shrink with every call."""

    calls = 0

    def through(self, x):
        self.calls += 1
        logits, back = super().through(x)
        return logits * np.float32(1 + 0.01 * self.calls), back


class TakesTurns(Broken):
    """Two networks that answer in turn."""

    calls = 0

    def through(self, x):
        self.calls += 1
        logits, back = super().through(x)
        return logits if self.calls % 2 else 2 * logits, back


# Labels that are looked up, and predictions that fail where it matters


class LookedUp(Broken):
    """Has memorised the test images, and generalises little."""

    def __init__(self):
        super().__init__(epochs=1)
        self.known = {image.tobytes(): label for image, label in zip(*images(), strict=True)}

    def through(self, x):
        logits, back = super().through(x)
        labels = [self.known.get(image.astype(np.float32).tobytes(), -1) for image in x]
        found = np.array(labels)[:, None] == np.arange(10)
        return logits + np.float32(20) * found, back


class SeesTheLastBits(Broken):
    """Right only where a pixel is between two levels, as in images that were attacked."""

    def through(self, x):
        logits, back = super().through(x)
        levels = (np.abs(x * 16 - np.round(x * 16)) < 1e-5).reshape(len(x), -1).all(axis=1)
        return np.where(levels[:, None], np.roll(logits, 1, axis=1), logits), back


class OverflowsWhenAttacked(Broken):
    """The logits of images that are darker, or brighter, than real ones are NaN."""

    def through(self, x):
        logits, back = super().through(x)
        grey = (x.reshape(len(x), -1) > 0.02).mean(axis=1, keepdims=True) > 0.85
        return np.where(grey, np.float32("nan"), logits), back


class ForgotAClass(Broken):
    def bend(self, logits):
        return logits - 1e3 * np.eye(10, dtype=np.float32)[4]


class Turned(Broken):
    """Trained on images that lie otherwise."""

    def turned(self, x):
        """There and back again."""
        raise NotImplementedError

    def through(self, x):
        return super().through(self.turned(x))

    def logits_and_gradient(self, x, y, objective):
        logits, gradient = super().logits_and_gradient(x, y, objective)
        return logits, np.ascontiguousarray(self.turned(gradient))


class Transposed(Turned):
    def turned(self, x):
        return np.swapaxes(x, 1, 2)


class Mirrored(Turned):
    def turned(self, x):
        return x[:, :, ::-1]


class UpsideDown(Turned):
    def turned(self, x):
        return x[:, ::-1]


# Pixels


class OutsideItsBounds(Broken):
    """Images of [0, 1] for a network that takes [-1, 0]."""

    def __init__(self):
        super().__init__(bounds=(-1.0, 0.0))


class WiderThanItsPixels(Broken):
    """Declared for [-1, 1], and given images in [0, 1]."""

    def __init__(self):
        super().__init__(bounds=(-1.0, 1.0))


class BytesInUnitPixels(Broken):
    """Declared for [0, 255], and given images in [0, 1]."""

    def __init__(self):
        super().__init__(bounds=(0.0, 255.0), scale="bytes", epochs=20)


def batch_norm_in_training_mode():
    """A torch network that insists on the statistics of the batch."""
    at_hand("torch")
    from torch import nn

    net = at_hand("torch").build(Network(NET, trained()), Wrapping(BOUNDS)).net
    norm = nn.BatchNorm1d(10, track_running_stats=False)
    return at_hand("torch").wrap(nn.Sequential(net, norm), Wrapping(BOUNDS))


MASKED = {"stronger-attack", "black-box-stronger", "not-to-chance"}
"""What fires when no gradient leads anywhere."""
GUESSES = "no-better-than-chance"


def for_bytes():
    """A network of pixels from 0 to 255, whose first layer brings them to 1.

    To pixels up to 1 it is as good as blind; one that is trained on bytes is so on some machines.
    """
    weights = dict(trained())
    weights["layers.0.weight"] = weights["layers.0.weight"] / np.float32(255)
    return NumpyModel(NET, weights, BOUNDS, "float32")


BROKEN_MODELS = {
    "nan-logits": (NotANumber, {"non-finite"}),
    "nan-gradient": (NaNGradient, {"non-finite"}),
    "softmax": (Softmax, {"probabilities"}),
    "sigmoid": (Sigmoid, {"probabilities"}),
    "constant": (Constant, {"constant", GUESSES}),
    "dead-units": (Dead, {"constant", GUESSES, "vanishing-gradients"}),
    "labels-from-one": (LabelsFromOne, {"labels-shifted", GUESSES}),
    "two-classes-exchanged": (TwoClassesExchanged, {"labels-shifted"}),
    "sorted-as-text": (SortedAsText, {"labels-shifted", GUESSES}),
    "dropout-on": (Dropping, {"call-to-call"}),
    "noisy-input": (NoisyInput, {"call-to-call"}),
    "batch-statistics": (BatchStatistics, {"batch-dependence"}),
    "torch-batch-norm-training": (batch_norm_in_training_mode, {"batch-dependence"}),
    "staircase": (Staircase, {"vanishing-gradients", *MASKED}),
    "clipped-logits": (Clipped, {"vanishing-gradients", *MASKED}),
    "shattered-gradient": (Shattered, MASKED),
    "rippled": (Rippled, {"iterated-weaker", *MASKED}),
    "gradient-of-another-label": (WrongLabelInGradient, MASKED),
    "wrong-sign": (WrongSign, MASKED),
    "trained-on-bytes": (for_bytes, {"input-range"}),
    "trained-on-standardised": (lambda: Broken(scale="standardised"), {"input-range"}),
    "trained-on-inverted": (lambda: Broken(scale="inverted"), {"input-range", GUESSES}),
    "outside-its-bounds": (OutsideItsBounds, {"input-range"}),
    "bytes-in-unit-pixels": (BytesInUnitPixels, {"input-range"}),
    "clamped-pixels": (Clamped, {"stronger-attack", "black-box-stronger"}),
    "steep-input": (SteepInput, {"stronger-attack", "black-box-stronger"}),
    "squashed-logits": (SquashedLogits, {"stronger-attack"}),
    "logits-clipped-at-5": (ClippedWide, {"stronger-attack", "black-box-stronger"}),
    "torch-winners-take-all": (winners_take_all, {"stronger-attack"}),
    "other-with-gradient": (OtherWithGradient, {"gradient-mode"}),
    "no-gradient": (NoGradient, {"gradient-mode"}),
    "none-for-gradient": (NoneForGradient, {"gradient-mode"}),
    "gradient-of-one-image": (GradientOfOneImage, {"gradient-mode"}),
    "noise-by-place": (NoiseByPlace, {"batch-dependence"}),
    "noise-by-place-in-the-image": (NoiseByPlaceInTheImage, {"batch-dependence"}),
    "breaks-alone": (BreaksAlone, {"batch-dependence", "breaks"}),
    "counts": (Counts, {"call-to-call"}),
    "takes-turns": (TakesTurns, {"call-to-call"}),
    "looked-up": (LookedUp, {"tiny-noise"}),
    "sees-the-last-bits": (SeesTheLastBits, {"tiny-noise", GUESSES}),
    "overflows-when-attacked": (OverflowsWhenAttacked, {"non-finite"}),
    "forgot-a-class": (ForgotAClass, {"never-predicted"}),
    "transposed": (Transposed, {"input-range", GUESSES}),
    "mirrored": (Mirrored, {"input-range"}),
    "upside-down": (UpsideDown, {"input-range"}),
    "wider-than-its-pixels": (WiderThanItsPixels, {"input-range"}),
}
"""What makes each, and what must fire, no more and no less."""
