"""The harness's saliency maps beside Captum's, and the loss gradient beside PyTorch's autograd."""

import numpy as np
import pytest

from harness.saliency.methods import STEPS, explain
from suites.speed.peers import Captum

RELATIVE = 1e-5
"""Rounding of float32 maps, relative to the largest value of each."""


@pytest.fixture(scope="module")
def model(digits):
    return digits.build("torch")


def require_equal(ours, theirs):
    theirs = theirs.detach().numpy()
    assert np.abs(theirs).max() > 0.1
    scale = np.abs(theirs).max(axis=(1, 2), keepdims=True)
    assert np.all(np.abs(ours - theirs) <= RELATIVE * scale)


@pytest.mark.parametrize(
    ("method", "theirs"),
    [
        ("gradient", Captum.gradient),
        ("gradient-x-input", Captum.gradient_times_input),
        ("integrated-gradients", lambda captum, x, y: captum.integrated_gradients(x, y, STEPS)),
    ],
)
def test_maps_are_captums(digits, model, method, theirs):
    images, classes = model.asarray(digits.x), model.asarray(digits.y)
    found = explain(model, digits.x, digits.y, method)
    require_equal(found, theirs(Captum(model.net), images, classes))


def test_the_loss_gradient_is_that_of_autograd(digits, model):
    import torch

    x = model.asarray(digits.x).clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(model.net(x), model.asarray(digits.y), reduction="sum")
    (expected,) = torch.autograd.grad(loss, x)
    found = explain(model, digits.x, digits.y, "loss-gradient")
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5 * float(expected.abs().max()))
