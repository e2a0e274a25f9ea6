"""Small PyTorch networks for 3 × 6 × 6 images of four classes, as users bring them."""

from __future__ import annotations

import numpy as np
from backends_at_hand import at_hand

from harness.protocol import UNIT

SHAPE, CLASSES = (3, 6, 6), 4
X = np.random.default_rng(0).random((12, *SHAPE), dtype=np.float32)
Y = np.arange(12) % CLASSES


def seeded(make):
    """What a function makes, with the same random weights each time."""
    at_hand("torch")
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def cnn():
    """Convolutions, batch normalisation with statistics of its own, dropout."""
    at_hand("torch")
    import torch
    from torch import nn

    def make():
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Tanh(), nn.Conv2d(4, 4, 3),
            nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, CLASSES),
        )  # fmt: skip
        for _ in range(20):
            net(torch.rand(16, *SHAPE))
        return net.eval()

    return seeded(make)


def vit():
    """A transformer on patches, whose layers are not registered in the order of their use."""
    at_hand("torch")
    import torch
    from torch import nn

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(8, CLASSES)
            self.token = nn.Parameter(torch.randn(1, 1, 8))
            self.position = nn.Parameter(torch.randn(1, 10, 8))
            self.patches = nn.Conv2d(3, 8, 2, stride=2)
            layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
            self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
            self.norm = nn.LayerNorm(8)

        def forward(self, x):
            tokens = self.patches(x).flatten(2).transpose(1, 2)
            tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.position
            return {"logits": self.head(self.norm(self.encoder(tokens)[:, 0]))}

    return seeded(ViT).eval()


def exported(net, rows=None):
    """The network as a program: of so many images, or of any number."""
    import torch

    rule = None if rows else ({0: torch.export.Dim("n", min=1, max=64)},)
    # Sequential takes "input", a class of ours "x": they are matched by place.
    return torch.export.export(net, (torch.tensor(X[: rows or 4]),), dynamic_shapes=rule)


def model_of(net, how=UNIT):
    return at_hand("torch").wrap(net, how)


def logits_of(model, x=X):
    return model.numpy(model.logits(model.asarray(x)))


def bits(net):
    """All that the network holds, as bytes."""
    return {name: value.numpy().tobytes() for name, value in net.state_dict().items()}
