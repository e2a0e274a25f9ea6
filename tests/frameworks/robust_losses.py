"""What a step on a ``Batch`` is to do, by NumPy in float64: literal formulas, finite differences.

No framework, and none of the tricks by which a backend keeps its numbers finite; networks of a few
weights, without dropout and batch normalisation.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np

from backends.numpy_backend import NumpyBackend
from harness.maths.objectives import CrossEntropy
from harness.protocol import Network, Optimizer

NUDGE = 1e-6


def loss_of(architecture, weights, batch):
    """The mean loss of a batch, without the L2 penalty."""
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
    return found.mean()


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
