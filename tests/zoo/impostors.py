"""Saliency methods that do not explain the model, and the checks that each of them fails."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import sobel

from harness.saliency import methods

IGNORES_MODEL = {"random-layers", "random-weights", "random-labels", "class-sensitivity"}


def edges(model, x, y, index):
    """An edge detector (Adebayo et al. 2018, section 1): it looks as if it explained."""
    images = model.numpy(x)
    return model.asarray(np.hypot(sobel(images, axis=1), sobel(images, axis=2)))


def the_input(model, x, y, index):
    return x


def constant(model, x, y, index):
    return 0 * x + 1


def shuffled(model, x, y, index):
    """The gradient with its pixels in another order, always the same one."""
    maps = model.numpy(methods.gradient(model, x, y, index))
    order = np.random.default_rng(0).permutation(maps[0].size)
    return model.asarray(maps.reshape(len(maps), -1)[:, order].reshape(maps.shape))


def noise():
    """Other random numbers at every call, and the same in every run of the tests."""
    random = np.random.default_rng(0)

    def method(model, x, y, index):
        return model.asarray(random.random(tuple(x.shape), dtype=np.float32) + 0.01)

    return method


def upside_down(model, x, y, index):
    """The wrong pixels first: those that matter least."""
    maps = model.numpy(methods.gradient(model, x, y, index))
    return model.asarray(1 / (np.abs(maps) + 1e-3))


def not_a_number(model, x, y, index):
    return x * np.nan


def vanished(model, x, y, index):
    return 0 * x


def negated(model, x, y, index):
    return -methods.gradient(model, x, y, index)


def forgot_the_way(model, x, y, index):
    """Integrated gradients without the factor x - b."""
    return methods.integrated_gradients(model, x, y, index) / (x + 1)


def in_one_framework(model, x, y, index):
    """Right in NumPy alone."""
    maps = methods.gradient(model, x, y, index)
    return maps if isinstance(x, np.ndarray) else 1.1 * maps


def edges_times_gradient(model, x, y, index):
    """The gradient, dressed up as the image's edges."""
    return edges(model, x, y, index) * methods.gradient(model, x, y, index)


def with_other_relus(model, backward):
    """A torch network with the gradients of its ReLUs replaced by ``backward(flow, values)``."""
    import torch

    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            ctx.save_for_backward(values)
            return values.clamp(min=0)

        @staticmethod
        def backward(ctx, flow):
            return backward(flow, *ctx.saved_tensors)

    class Layer(torch.nn.Module):
        def forward(self, values):
            return Relu.apply(values)

    layers = (Layer() if isinstance(part, torch.nn.ReLU) else part for part in model.net)
    return type(model)(torch.nn.Sequential(*layers), model.bounds)


def _gradient_with(backward):
    return lambda model, x, y, index: methods.gradient(
        with_other_relus(model, backward), x, y, index
    )


guided_backpropagation = _gradient_with(lambda flow, values: flow.clamp(min=0) * (values > 0))
"""(Springenberg et al. 2015.) It partly restores the image (Nie et al. 2018)."""
deconvnet = _gradient_with(lambda flow, values: flow.clamp(min=0))
"""(Zeiler & Fergus 2014.)"""

IMPOSTORS = {
    "edges": (edges, {*IGNORES_MODEL, "occlusion"}),
    "the-input": (the_input, IGNORES_MODEL),
    "constant": (constant, {*IGNORES_MODEL, "occlusion"}),
    "shuffled": (shuffled, {"occlusion"}),
    "edges-times-gradient": (edges_times_gradient, {"image-factor"}),
    "upside-down": (upside_down, {"occlusion"}),
    "noise": (noise(), {"deterministic", "backends", "occlusion"}),
    "not-a-number": (not_a_number, {"finite"}),
    "vanished": (vanished, {"finite"}),
}  # fmt: skip
"""Each with the checks that fire, all of them and no other."""

RANDOMISED = {"random-layers", "random-weights", "random-labels"}
ON_A_CNN = {
    "guided-backpropagation": (guided_backpropagation, RANDOMISED),
    "deconvnet": (deconvnet, {"random-layers"}),
    "edges-times-gradient": (edges_times_gradient, {"image-factor"}),
    "edges": (edges, IGNORES_MODEL),
    "the-input": (the_input, IGNORES_MODEL),
}
"""Each with checks that fire where a convolutional torch network is explained, among others."""

UNDER_A_NAME = {
    "gradient": (negated, {"finite-differences"}),
    "integrated-gradients": (forgot_the_way, {"completeness"}),
}
"""Those that pretend to be a method of the harness, of which it is known what it should be."""
