"""PyTorch networks, as docs/models.md has them."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from kinds import (
    MEAN,
    SIDE,
    STD,
    Weights,
    first,
    given,
    images_drawn,
    kind,
    labelled,
    package_at_hand,
)

from harness.errors import HarnessError

Answer = namedtuple("Answer", ["hidden", "logits"])


def network(weights):
    """The network of those weights."""
    import torch
    from torch import nn

    classes = weights.dense.shape[1]
    _, _, channels, filters = weights.kernel.shape
    net = nn.Sequential(
        nn.Conv2d(channels, filters, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(len(weights.dense), classes),
    )  # fmt: skip
    arrays = (
        weights.kernel.transpose(3, 2, 0, 1), weights.bias, weights.channels_first.T, weights.last
    )  # fmt: skip
    with torch.no_grad():
        for parameter, array in zip(net.parameters(), arrays, strict=True):
            parameter.copy_(torch.tensor(np.ascontiguousarray(array)))
    return net.eval()


def around(net, answer):
    """The network with what it returns put into something."""
    from torch import nn

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net

        def forward(self, x):
            return answer(net(x))

    return Around()


def plain(classes=3, answer=None, normalised=False, **names):
    import torch

    weights = Weights.drawn(classes, normalised=normalised)

    def score(images):
        return weights.scores(images, normalised)

    x, y = labelled(score)
    net = network(weights)
    found = given(score, x, y, torch=torch, mean=MEAN, std=STD, **names)
    found.names |= {"x": first(x), "net": around(net, answer) if answer else net}
    return found


@kind("a `torch.nn.Module`, images (n, c, h, w)", "torch")
def module():
    return plain()


@kind("images normalised per channel", "torch")
def normalised():
    return plain(normalised=True)


@kind("a module in bfloat16", "torch")
def bfloat16():
    return plain()


@kind("returns a tuple, the first of which are the logits", "torch")
def of_a_tuple():
    return plain(answer=lambda logits: (logits, -logits))


@kind("returns a dict with `logits`", "torch")
def of_a_dict():
    return plain(answer=lambda logits: {"hidden": -logits, "logits": logits})


@kind("returns an object with `.logits`", "torch")
def of_an_object():
    return plain(answer=lambda logits: Answer(-logits, logits))


@kind("returns several outputs by name", "torch")
def of_names():
    return plain(answer=lambda logits: {"colours": -logits, "animals": logits})


@kind("one logit an image, for two classes", "torch")
def one_logit():
    return plain(classes=1)


@kind("ends in a softmax", "torch")
def softmax():
    found = plain(answer=lambda logits: logits.softmax(dim=1))
    found.attack = "square"
    return found


@kind("weights in a file (a state dict)", "torch")
def state_dict():
    import torch

    found = plain()
    torch.save(found.names["net"].state_dict(), "net.pth")
    found.names["net"] = network(Weights.drawn(seed=9))
    return found


def example():
    import torch

    return torch.zeros(2, 3, SIDE, SIDE)


@kind("TorchScript", "torch")
def script():
    return plain(example=example())


@kind("a TorchScript file", "torch")
def script_file():
    import torch

    found = plain()
    torch.jit.trace(found.names.pop("net"), example()).save("net.pt")
    return found


def sizes():
    import torch

    return ({0: torch.export.Dim("batch", min=1)},)


@kind("a `torch.export` program", "torch")
def program():
    return plain(example=example(), sizes=sizes())


@kind("a `.pt2` file", "torch")
def program_file():
    import torch

    found = plain()
    exported = torch.export.export(found.names.pop("net"), (example(),), dynamic_shapes=sizes())
    torch.export.save(exported, "net.pt2")
    return found


@kind("a compiled module", "torch")
def compiled():
    return plain(backend="eager")


@kind("Hugging Face `transformers`", "torch", heavy="transformers")
def transformer():
    import torch

    transformers = package_at_hand("transformers")
    config = transformers.ViTConfig(
        image_size=SIDE, patch_size=4, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=3, hidden_act="gelu",
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = transformers.ViTForImageClassification(config).eval()
        with torch.no_grad():
            for value in net.parameters():
                value.add_(0.3 * torch.randn_like(value))
            shades = torch.tensor(first(images_drawn(300, (SIDE, SIDE, 3))))
            net.classifier.bias -= net((shades - 0.5) / 0.5).logits.mean(dim=0)
    weights = {name: value.numpy().astype(np.float64) for name, value in net.state_dict().items()}

    def score(images):
        return vit(weights, (images.astype(np.float64) - 0.5) / 0.5)

    x, y = labelled(score)
    found = given(score, x, y, net=net, torch=torch)
    found.names["x"] = first(x)
    return found


def vit(weights, x):
    """A vision transformer of one layer and two heads in NumPy, of images (n, h, w, c)."""
    from scipy.special import erf, softmax

    def of(end):
        (name,) = [name for name in weights if name.endswith(end)]
        return weights[name]

    def linear(values, name):
        return values @ of(f"{name}.weight").T + of(f"{name}.bias")

    def norm(values, name):
        centred = values - values.mean(axis=-1, keepdims=True)
        deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return centred / deviation * of(f"{name}.weight") + of(f"{name}.bias")

    patches = x.reshape(len(x), 2, 4, 2, 4, 3).transpose(0, 1, 3, 5, 2, 4).reshape(len(x), 4, 48)
    kernel = of("projection.weight").reshape(8, 48)
    tokens = patches @ kernel.T + of("projection.bias")
    token = np.broadcast_to(of("cls_token"), (len(x), 1, 8))
    state = np.concatenate([token, tokens], axis=1) + of("position_embeddings")
    names = QUERIES if any("q_proj" in name for name in weights) else QUERIES_BEFORE
    before = norm(state, "layernorm_before")
    q, k, v = (
        linear(before, name).reshape(len(x), 5, 2, 4).transpose(0, 2, 1, 3) for name in names[:3]
    )
    mixed = softmax(q @ k.transpose(0, 1, 3, 2) / 2, axis=-1) @ v
    state = state + linear(mixed.transpose(0, 2, 1, 3).reshape(len(x), 5, 8), names[3])
    wide = linear(norm(state, "layernorm_after"), names[4])
    state = state + linear(wide * (1 + erf(wide / np.sqrt(2))) / 2, names[5])
    return linear(norm(state, "vit.layernorm")[:, 0], "classifier")


QUERIES = ("q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2")
QUERIES_BEFORE = (
    "attention.query", "attention.key", "attention.value", "attention.output.dense",
    "intermediate.dense", "0.output.dense",
)  # fmt: skip
"""What the parts of a layer have been called."""


@kind("takes more than the images", "torch")
def two_inputs():
    found = plain()
    inner = found.names["net"]

    def net(images, extra):
        if extra != 7:
            raise HarnessError("the other input is not what it was")
        return inner(images)

    found.names |= {"net": net, "extra": 7}
    found.attack = "square"
    return found
