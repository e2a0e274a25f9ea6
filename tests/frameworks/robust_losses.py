"""What a step on a ``Batch`` is to do, by NumPy in float64: literal formulas, finite differences.

No framework, and none of the tricks by which a backend keeps its numbers finite; networks of a few
weights, without dropout. Batch normalisation is that of x, wherever else the network is asked.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from backends.numpy_backend import NumpyBackend
from backends.numpy_layers import Pass
from harness.maths.objectives import CrossEntropy
from harness.protocol import (
    BN_EPSILON,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Network,
    Optimizer,
    Residual,
    Scale,
    walk,
)

NUDGE = 1e-6


def loss_of(architecture, weights, batch):
    """The mean loss of a batch, without the L2 penalty."""
    if any(isinstance(place.layer, BatchNorm) for place in walk(architecture.placed)):
        weights = normalised(architecture, weights, batch.x)
    model = NumpyBackend().build(Network(architecture, weights), dtype="float64")
    likely = batch.targets.argmax(axis=1)
    rows = np.arange(len(likely))
    ours = log_softmax(model.logits(batch.x))
    found = -(batch.targets * ours).sum(axis=1)
    if batch.perturbed is not None:
        theirs = log_softmax(model.logits(batch.perturbed))
        divergence = (np.exp(ours) * (ours - theirs)).sum(axis=1)
        if batch.mart_lambda:
            others = np.exp(theirs)
            others[rows, likely] = 0
            found = -(batch.targets * theirs).sum(axis=1) - np.log(1 - others.max(axis=1))
            found += batch.mart_lambda * divergence * (1 - np.exp(ours[rows, likely]))
        else:
            found += batch.trades_beta * divergence
    if batch.aligned is not None:
        directions = []
        for images in (batch.aligned, batch.noisy):
            _, gradient = model.logits_and_gradient(images, likely, CrossEntropy())
            flat = gradient.reshape(len(gradient), -1)
            directions.append(flat / np.linalg.norm(flat, axis=1, keepdims=True))
        found += batch.align_lambda * (1 - (directions[0] * directions[1]).sum(axis=1))
    if batch.certified_weight:
        least = margins(architecture, weights, batch.x, likely, batch.radius)
        certified = -(batch.targets * log_softmax(-least)).sum(axis=1)
        found = (1 - batch.certified_weight) * found + batch.certified_weight * certified
    return found.mean()


def margins(architecture, weights, x, labels, radius, pixels=(0, 1)):
    """Lower bounds (n, k) of the logit of each label less each of the others, over the ball.

    Interval arithmetic, product by product: positive weights keep the ends, negative ones swap
    them.
    """
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    positive = {name: np.maximum(value, 0) for name, value in weights.items()}
    negative = {name: np.minimum(value, 0) for name, value in weights.items()}
    for name in weights:
        if name.endswith(".bias"):
            positive[name], negative[name] = weights[name], 0 * weights[name]
    kept, swapped = Pass(positive), Pass(negative)
    last = architecture.channels_last

    def through(placed, low, high):
        for place in placed:
            if isinstance(place.layer, Residual):
                sides = [through(part, low, high) for part in (place.branch, place.shortcut)]
                low, high = (sum(ends) for ends in zip(*sides, strict=True))
            elif isinstance(place.layer, Dense | Conv | Scale):
                (p, q), (r, s) = (
                    [one.sequence([place], end, last)[0] for end in (low, high)]
                    for one in (kept, swapped)
                )
                low, high = p + s, q + r
            else:
                low, high = (kept.sequence([place], end, last)[0] for end in (low, high))
        return low, high

    ends = (as_given(architecture, np.clip(x + s * radius, *pixels)) for s in (-1, 1))
    placed, rows = architecture.inference.placed, np.arange(len(labels))
    if not isinstance(architecture.layers[-1], Dense):
        low, high = through(placed, *ends)
        found = low[rows, labels][:, None] - high
        found[rows, labels] = 0
        return found
    low, high = through(placed[:-1], *ends)
    weight, bias = (weights[f"{placed[-1].name}.{part}"] for part in ("weight", "bias"))
    found = np.zeros((len(labels), len(bias)))
    for row, label in enumerate(labels):
        for other in range(len(bias)):
            apart = weight[label] - weight[other]
            worst = np.where(apart > 0, low[row], high[row])
            found[row, other] = apart @ worst + bias[label] - bias[other]
    return found


def as_given(architecture, x):
    """Images (n, *shape) as the first layer is given them: maps with the channel first."""
    maps = np.moveaxis(x, 3, 1) if architecture.channels_last else x
    return maps.reshape(len(x), *architecture.neutral_shape)


def normalised(architecture, weights, x):
    """The weights with each batch normalisation folded in as it is in the pass of a batch.

    Args:
        weights: With ``NAME.scale`` and ``NAME.shift`` beside them, where these are not 1 and 0.
    """
    found = {name: value.astype(np.float64) for name, value in weights.items()}
    last = architecture.channels_last

    def through(placed, value):
        previous = None
        for place in placed:
            if isinstance(place.layer, Residual):
                value = sum(through(part, value) for part in (place.branch, place.shortcut))
            elif isinstance(place.layer, BatchNorm):
                value = norm(place, previous, value)
            elif not isinstance(place.layer, Dropout):
                value = Pass(found).sequence([place], value, last)[0]
            previous = place
        return value

    def norm(place, previous, value):
        axes, shape = (0, *range(2, value.ndim)), (-1, *[1] * (value.ndim - 2))
        weight, bias = found[f"{place.name}.weight"], found[f"{place.name}.bias"]
        if previous is None or previous.name != place.name:
            value = value * weight.reshape(shape) + bias.reshape(shape)
        mean, variance = value.mean(axis=axes), value.var(axis=axes)
        factor = found.pop(f"{place.name}.scale", 1) / np.sqrt(variance + BN_EPSILON)
        shift = found.pop(f"{place.name}.shift", 0) - mean * factor
        found[f"{place.name}.weight"] = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
        found[f"{place.name}.bias"] = bias * factor + shift
        return value * factor.reshape(shape) + shift.reshape(shape)

    through(architecture.placed, as_given(architecture, x))
    return found


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def differences(function, weights):
    """The gradient of a function of weights, by central differences."""
    found = {name: np.empty_like(value) for name, value in weights.items()}
    for name, value in weights.items():
        for at in np.ndindex(value.shape):
            sides = []
            for step in (NUDGE, -NUDGE):
                nudged = value.copy()
                nudged[at] += step
                sides.append(function(weights | {name: nudged}))
            found[name][at] = (sides[0] - sides[1]) / (2 * NUDGE)
    return found


def gradients_of(architecture, weights, batch, l2=0.0):
    """The gradients of a step: of the loss with its penalty, where the weights have been moved."""

    def plain(named):
        return loss_of(architecture, named, batch)

    def penalised(named):
        return plain(named) + l2 * sum((v**2).sum() for v in named.values() if v.ndim > 1)

    if batch.weight_gamma:
        weights = dict(weights)
        for name, gradient in differences(plain, weights).items():
            value, length = weights[name], np.linalg.norm(gradient)
            if value.ndim > 1 and length > 0:
                size = batch.weight_gamma * np.linalg.norm(value)
                weights[name] = value + size * gradient / length
    return differences(penalised, weights)


def trained(architecture, weights, batches, rate, optimizer=Optimizer()):  # noqa: B008
    """Losses before each step, and the weights after all: Adam, algorithm 1, and decay."""
    named = {name: value.astype(np.float64) for name, value in weights.items()}
    means, squares = (dict.fromkeys(named, 0.0) for _ in range(2))
    losses = []
    for number, batch in enumerate(map(exact, batches), start=1):
        penalty = optimizer.l2 * sum((v**2).sum() for v in named.values() if v.ndim > 1)
        losses.append(loss_of(architecture, named, batch) + penalty)
        found = gradients_of(architecture, named, batch, optimizer.l2)
        for name, gradient in found.items():
            means[name] = 0.9 * means[name] + 0.1 * gradient
            squares[name] = 0.999 * squares[name] + 0.001 * gradient**2
            root = np.sqrt(squares[name] / (1 - 0.999**number)) + 1e-8
            decay = optimizer.decay if named[name].ndim > 1 else 0.0
            named[name] = named[name] * (1 - rate * decay)
            named[name] -= rate * means[name] / (1 - 0.9**number) / root
    return losses, named


def exact(batch):
    """The batch in float64."""
    arrays = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return replace(
        batch, **{k: v.astype(np.float64) for k, v in arrays.items() if isinstance(v, np.ndarray)}
    )
