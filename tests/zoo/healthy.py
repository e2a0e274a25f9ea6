"""Models with which nothing is wrong, robust or not."""

from __future__ import annotations

from backends_at_hand import at_hand

from harness.protocol import Network, Wrapping, fully_connected
from zoo.networks import BOUNDS, NET, built, digits, trained

LINEAR = fully_connected((8, 8), (), 10)
DEEP = fully_connected((8, 8), (32, 24, 16), 10)
NORMALISED = fully_connected((8, 8), (32, 16), 10, dropout=0.1, batch_norm=True)


class BlackBox:
    """Logits alone."""

    def __init__(self, model):
        self.inner = model
        self.xp, self.bounds, self.capabilities = model.xp, model.bounds, frozenset()
        self.asarray, self.numpy, self.logits = model.asarray, model.numpy, model.logits

    def logits_and_gradient(self, x, y, objective):
        raise AssertionError("a black box gives no gradient")


def fitted(make, epochs):
    """A torch network of one's own, fitted to the training images, and left in training mode."""
    import torch

    x, y = torch.tensor(digits().train.x), torch.tensor(digits().train.y)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = make()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
    return at_hand("torch").wrap(net, Wrapping(BOUNDS))


def cnn():
    at_hand("torch")
    from torch import nn

    return fitted(
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(128, 10),
        ),
        epochs=6,
    )  # fmt: skip


def batch_normalised_cnn():
    at_hand("torch")
    from torch import nn

    return fitted(
        lambda: nn.Sequential(
            nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
            nn.Dropout(0.1), nn.Flatten(), nn.Linear(72, 10),
        ),
        epochs=6,
    )  # fmt: skip


def log_softmax():
    """Its outputs are logits but for a number added to each row."""
    at_hand("torch")
    from torch import nn

    plain = at_hand("torch").build(Network(NET, trained()), Wrapping(BOUNDS))
    net = nn.Sequential(plain.net, nn.LogSoftmax(1))
    return at_hand("torch").wrap(net, Wrapping(BOUNDS))


def in_bytes():
    """Trained on pixels from 0 to 255, and given such."""
    return at_hand("numpy").build(
        Network(NET, built(scale="bytes", epochs=20).weights()), Wrapping((0.0, 255.0))
    )


def scaled(factor):
    """The same decisions with logits so many times as large."""
    weights = dict(trained())
    for name in ("layers.1.weight", "layers.1.bias"):
        weights[name] = factor * weights[name]
    return at_hand("numpy").build(Network(NET, weights), Wrapping(BOUNDS))


def overconfident():
    """Logits so large that softmax(z) rounds to one, and the cross-entropy to zero."""
    return scaled(50)


def unsure():
    """Logits so small that softmax(z) is nearly uniform."""
    return scaled(0.01)


HEALTHY = {
    "numpy-linear": lambda: built(net=LINEAR),
    "numpy-mlp": built,
    "numpy-smoothed": lambda: built(smoothing=0.1),
    "numpy-hardly-trained": lambda: built(epochs=1),
    "numpy-overtrained": lambda: built(epochs=40),
    "numpy-defended": lambda: built(adversary=True),
    "numpy-overconfident": overconfident,
    "numpy-unsure": unsure,
    "numpy-in-bytes": in_bytes,
    "numpy-black-box": lambda: BlackBox(built()),
    "torch-deep": lambda: built("torch", DEEP, epochs=5),
    "torch-defended": lambda: built("torch", DEEP, epochs=8, adversary=True),
    "torch-batch-norm": lambda: built("torch", NORMALISED, epochs=6),
    "torch-log-softmax": log_softmax,
    "torch-wrapped-cnn": cnn,
    "torch-wrapped-batch-norm-cnn": batch_normalised_cnn,
    "keras-mlp": lambda: built("keras", epochs=3),
    "keras-defended": lambda: built("keras", epochs=4, adversary=True),
}
