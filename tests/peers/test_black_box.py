"""HopSkipJump finds adversarial images no farther than ART's and Foolbox's, for as many queries.

It is random in all three, and its budget is another thing in each: here the queries that a peer's
run takes of an image are counted, and ours gets as many, or those of the peer that takes fewest.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from harness.attacks.hopskipjump import HopSkipJump
from harness.attacks.sweep import sweep
from harness.maths.norms import NORMS
from harness.maths.query import predictions_of

IMAGES, ROUNDS = 40, 5
"""Images that are correctly classified, and estimates of the gradient by the peers."""
LUCK = 0.01
"""Share of the images that ours may leave correct at some epsilon, and the best peer not."""


class Counted:
    """A network that counts the images it is asked of, without the channel that peers want."""

    def __init__(self, net, shape):
        import torch

        class Asked(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net, self.images = net, 0

            def forward(self, x):
                self.images += len(x)
                return self.net(x.float().reshape(len(x), *shape))

        self.module = Asked().eval()
        self.shape = (1, *shape)

    def queries(self, count):
        return self.module.images / count


def arts(net, shape, classes, norm, x, y):
    import torch
    from art.attacks.evasion import HopSkipJump as Theirs
    from art.estimators.classification import PyTorchClassifier

    counted = Counted(net, shape)
    np.random.seed(0)  # noqa: NPY002
    classifier = PyTorchClassifier(
        counted.module, torch.nn.CrossEntropyLoss(), counted.shape, classes, clip_values=(0, 1)
    )
    attack = Theirs(
        classifier, norm=np.inf if norm == "linf" else 2, max_iter=ROUNDS, max_eval=1000,
        init_eval=100, init_size=100, batch_size=1000, verbose=False,
    )  # fmt: skip
    return attack.generate(x[:, None], y)[:, 0], counted.queries(len(x))


def foolboxes(net, shape, classes, norm, x, y):
    import foolbox
    import torch

    counted = Counted(net, shape)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    attack = foolbox.attacks.HopSkipJumpAttack(
        steps=ROUNDS, initial_gradient_eval_steps=100, max_gradient_eval_steps=1000,
        constraint=norm,
    )  # fmt: skip
    model = foolbox.PyTorchModel(counted.module, bounds=(0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, _, _ = attack(model, torch.tensor(x[:, None]), torch.tensor(y), epsilons=None)
    return found.numpy()[:, 0], counted.queries(len(x))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_hopskipjump_is_as_strong_as_theirs_for_as_many_queries(defended, norm):
    model = defended.build("torch")
    right = np.flatnonzero(predictions_of(model, defended.x[:100]).labels == defended.y[:100])
    x, y = defended.x[right[:IMAGES]], defended.y[right[:IMAGES]]
    shape = defended.net.input_shape
    theirs, queries = [], []
    for peer in (arts, foolboxes):
        found, asked = peer(model.net, shape, defended.net.classes, norm, x, y)
        labels = predictions_of(model, found.astype(np.float32)).labels
        far = np.where(labels == y, np.inf, NORMS[norm].length(np, found - x))
        theirs.append(far)
        queries.append(asked)
    attack = HopSkipJump(norm=norm, queries=int(min(queries)))
    # Half of the images, and more and fewer of them, are fooled by a peer at these.
    epsilons = np.quantile(np.min(theirs, axis=0), [0.1, 0.3, 0.5, 0.7, 0.9]).tolist()
    found = sweep(model, attack, x, y, [1e-9, *epsilons])[1:]
    assert sum(one.forwards for one in found) == 0  # one search serves all
    for one, epsilon in zip(found, epsilons, strict=True):
        ours = np.mean(one.predictions.labels == y)
        for far in theirs:
            assert ours <= np.mean(far > epsilon) + LUCK
