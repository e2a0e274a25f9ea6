"""Sanity checks on convolutional networks: the methods pass, and the known impostors do not.

Max-pooling, and ReLUs between convolutions, are what guided backpropagation and deconvnet need to
restore the image; on fully connected networks they can hardly be told from the gradient.
"""

import copy
from functools import cache

import numpy as np
import pytest
from backends_at_hand import at_hand
from zoo.impostors import ON_A_CNN
from zoo.networks import BOUNDS, digits

from harness.checks.sanity.checks import findings
from harness.checks.sanity.evidence import Evidence, Variants
from harness.protocol import Wrapping
from harness.saliency.methods import METHODS

SEEDS = (0,)


def cnn():
    from torch import nn

    return nn.Sequential(
        nn.Unflatten(1, (1, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def fitted(net, x, y, epochs):
    import torch

    optimizer = torch.optim.Adam(net.parameters(), 0.003)
    x, y = torch.tensor(x), torch.tensor(y)
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    return net


def cascade(net):
    """The network with its last layer random, the last two, and so on."""
    net = copy.deepcopy(net)
    for layer in reversed([part for part in net if hasattr(part, "weight")]):
        layer.reset_parameters()
        yield copy.deepcopy(net)


@cache
def evidence(seed):
    """A network trained on the digits, and its variants."""
    backend = at_hand("torch")
    import torch

    part = digits().train
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = fitted(cnn(), part.x, part.y, epochs=8)
        random_labels = np.random.default_rng(seed).integers(10, size=500)
        relabelled = fitted(cnn(), part.x[:500], random_labels, epochs=15)
        others = [*cascade(net), cnn(), relabelled, copy.deepcopy(net).double()]
    model, *layers, random, relabelled, exact = (
        backend.wrap(one, Wrapping(BOUNDS)) for one in (net, *others)
    )
    variants = Variants(tuple(layers), random, relabelled, exact, exact)
    return Evidence(model, digits().test.x, digits().test.y, variants=variants)


def of(seed, name, method=None):
    found = evidence(seed)
    return Evidence(found.model, found.test_x, found.test_y, name, method, found.variants)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", METHODS)
def test_the_methods_pass(name, seed):
    assert findings(of(seed, name)) == {}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ON_A_CNN)
def test_an_impostor_is_found(name, seed):
    method, fires = ON_A_CNN[name]
    assert set(findings(of(seed, name, method))) >= fires


def test_one_hidden_layer_less_costs_signed_likeness():
    """What the bounds by depth rest on: true maps lose their signs with the last layer."""
    true, impostor = of(0, "gradient"), of(0, "x", ON_A_CNN["guided-backpropagation"][0])
    assert max(abs(found.signed) for found in true.likenesses) < 0.3
    assert min(found.signed for found in impostor.likenesses) > 0.3
