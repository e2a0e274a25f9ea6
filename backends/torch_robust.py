"""The losses of adversarial training, and weights that are perturbed; see ``protocol.Batch``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch.nn import functional

from backends.torch_bounds import Interval, margins
from backends.torch_layers import Built
from backends.torch_wrapped import TorchModel, inference_mode
from harness.protocol import Batch

Pair: TypeAlias = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class RobustBatch:
    """A ``protocol.Batch`` whose arrays are tensors."""

    x: torch.Tensor
    targets: torch.Tensor
    perturbed: torch.Tensor | None
    trades_beta: float
    mart_lambda: float
    compared: Pair | None
    align_lambda: float
    box: Pair | None
    certified_weight: float

    @classmethod
    def of(cls, batch: Batch, model: TorchModel) -> RobustBatch:
        """The batch, brought to where the network of a model is."""
        asarray = model.asarray
        compared, box = (
            None if pair is None else (asarray(pair[0]), asarray(pair[1]))
            for pair in (batch.compared, batch.box(model.bounds))
        )
        return cls(
            asarray(batch.x), asarray(batch.targets),
            None if batch.perturbed is None else asarray(batch.perturbed),
            batch.trades_beta, batch.mart_lambda, compared, batch.align_lambda,
            box, batch.certified_weight,
        )  # fmt: skip

    def loss(self, net: Built) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of x, (n, k), and the mean loss of the batch, without the L2 penalty."""
        # First, for the passes in training mode change running statistics.
        apart = self._misalignment(net)
        logits, certified = self._passed(net)
        if self.perturbed is None:
            loss = functional.cross_entropy(logits, self.targets)
        elif self.mart_lambda:
            loss = mart(logits, net(self.perturbed), self.targets, self.mart_lambda)
        else:
            loss = functional.cross_entropy(logits, self.targets)
            theirs = functional.log_softmax(net(self.perturbed), dim=1)
            ours = functional.log_softmax(logits, dim=1)
            loss = loss + self.trades_beta * functional.kl_div(
                theirs, ours, log_target=True, reduction="batchmean"
            )
        if apart is not None:
            loss = loss + self.align_lambda * apart
        if certified is not None:
            loss = torch.lerp(loss, certified, self.certified_weight)
        return logits, loss

    def _passed(self, net: Built) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Logits of x, and the certified loss where it counts."""
        if self.box is None:
            return net(self.x), None
        logits, least = margins(net, Interval(self.x, *self.box), self.targets.argmax(1))
        return logits, functional.cross_entropy(-least, self.targets)

    def _misalignment(self, net: Built) -> torch.Tensor | None:
        if self.compared is None:
            return None
        return misalignment(net, *self.compared, self.targets.argmax(1))


def mart(
    clean: torch.Tensor, perturbed: torch.Tensor, targets: torch.Tensor, weight: float
) -> torch.Tensor:
    """The mean loss of MART, from logits (n, k) of the images and of their perturbed versions."""
    likely = targets.argmax(1, keepdim=True)
    others = perturbed.detach().scatter(1, likely, -torch.inf)
    rival = others.argmax(1, keepdim=True)
    without = perturbed.scatter(1, rival, -torch.inf)
    boosted = perturbed.logsumexp(1) - without.logsumexp(1)
    ours, theirs = (functional.log_softmax(logits, dim=1) for logits in (clean, perturbed))
    odds = ours.exp()
    divergence = (odds * (ours - theirs)).sum(1)
    # Of the other classes, for the difference to one is rounded where the network is sure.
    doubt = odds.scatter(1, likely, 0.0).sum(1)
    loss = functional.cross_entropy(perturbed, targets) + boosted.mean()
    return loss + weight * (divergence * doubt).mean()


def misalignment(
    net: Built, first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor
) -> torch.Tensor:
    """One less the cosine of the loss's gradients at two sets of images, the mean over these."""
    images = torch.cat([first, second]).requires_grad_(True)
    with inference_mode(net):
        logits = net(images)
        true = functional.one_hot(labels, logits.shape[1]).bool().repeat(2, 1)
        odds = logits.masked_fill(true, -torch.inf).logsumexp(1) - logits[true]
        (gradients,) = torch.autograd.grad(odds.sum(), images, create_graph=True)
    ours, theirs = gradients.flatten(1).chunk(2)
    squares = torch.stack([ours.square().sum(1), theirs.square().sum(1)])
    alive = (squares > 0).all(0)
    # Roots of zeros would have no derivative, and zero times that is no number.
    lengths = torch.where(alive, squares, torch.ones_like(squares)).sqrt().prod(0)
    cosines = (ours * theirs).sum(1) / lengths
    return torch.where(alive, 1 - cosines, torch.zeros_like(cosines)).mean()


@contextmanager
def moved_weights(
    net: Built, batch: RobustBatch, share: float
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Weights moved along the gradient of a batch's loss, each array by a share of its L2 norm.

    Afterwards they are what they were, to the last bit.

    Yields:
        Logits of x and the loss before they were moved, detached. Running statistics are as before.
    """
    statistics = [buffer.clone() for buffer in net.buffers()]
    matrices = list(net.matrices())
    logits, loss = batch.loss(net)
    gradients = torch.autograd.grad(loss, matrices)
    before = [matrix.detach().clone() for matrix in matrices]
    with torch.no_grad():
        for buffer, value in zip(net.buffers(), statistics, strict=True):
            buffer.copy_(value)
        for matrix, gradient in zip(matrices, gradients, strict=True):
            length = gradient.norm()
            size = torch.where(length > 0, share * matrix.norm() / length, torch.zeros_like(length))
            matrix.addcmul_(gradient, size)
    try:
        yield logits.detach(), loss.detach()
    finally:
        with torch.no_grad():
            for matrix, value in zip(matrices, before, strict=True):
                matrix.copy_(value)
