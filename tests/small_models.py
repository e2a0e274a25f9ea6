"""Small models for the tests of attacks, and what is asked of a model counted."""

from __future__ import annotations

import numpy as np
from backends_at_hand import at_hand

from harness.networks.initial import initial_weights
from harness.protocol import Network, Wrapping, fully_connected

SHAPE, CLASSES = (4, 4), 5
NET = fully_connected(SHAPE, (12,), CLASSES)


def linear(matrix, bias=None, *, bounds=(0.0, 1.0), dtype="float64", backend="numpy"):
    """Logits ``matrix @ pixels + bias``; no bias is one of zeros."""
    matrix = np.array(matrix, dtype)
    classes, pixels = matrix.shape
    bias = np.zeros(classes) if bias is None else np.array(bias, float)
    weights = {"layers.0.weight": matrix, "layers.0.bias": bias}
    net = fully_connected((pixels,), (), classes)
    return at_hand(backend).build(Network(net, weights), Wrapping(bounds), dtype=dtype)


def small_net(backend="numpy", dtype="float64"):
    """A network of one hidden layer with random weights."""
    return at_hand(backend).build(Network(NET, initial_weights(NET, seed=0)), dtype=dtype)


def small_images(count=40, wrong=4):
    """Images, and as labels what the network says of them; of the first so many it is wrong."""
    x = np.random.default_rng(0).random((count, *SHAPE), dtype=np.float32)
    y = small_net().logits(x.astype(float)).argmax(axis=1)
    y[:wrong] = (y[:wrong] + 1) % CLASSES
    return x, y


class Counting:
    """A model that notes the images of every call."""

    def __init__(self, model):
        self.model = model
        self.asked = []
        self.gradients = 0

    def __getattr__(self, name):
        return getattr(self.model, name)

    def logits(self, x):
        self.asked.append(self.model.numpy(x))
        return self.model.logits(x)

    def logits_and_gradient(self, x, y, objective):
        self.asked.append(self.model.numpy(x))
        self.gradients += 1
        return self.model.logits_and_gradient(x, y, objective)

    @property
    def rows(self):
        """How many images each call had."""
        return [len(x) for x in self.asked]


def attacked(attack, model, x, y, epsilons, index=None):
    """The adversarial batches as NumPy arrays; images and labels are given as such."""
    index = np.arange(len(x)) if index is None else index
    found = attack.perturb(
        model, model.asarray(np.array(x)), model.asarray(np.array(y)), epsilons, index=index
    )
    return [model.numpy(batch) for batch in found]


def right(model, images, y):
    """How many of the images the model classifies correctly."""
    return int((model.numpy(model.logits(model.asarray(images))).argmax(axis=1) == y).sum())
