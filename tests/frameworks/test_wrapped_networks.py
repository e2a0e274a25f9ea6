"""Networks that users bring: wrapped they stay as they were, and what is none is refused."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import NAMES, at_hand
from small_trainers import NET, OBJECTIVES, one_line

from harness.errors import BackendError
from harness.maths.objectives import ClassLogit, CrossEntropy
from harness.protocol import UNIT, Network

# PyTorch


def test_torch_networks_that_work_in_place_leave_their_input_alone(images, labels):
    backend = at_hand("torch")
    import torch

    class Centres(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Linear(16, 3)

        def forward(self, x):
            x -= 0.5
            return self.last(x.mul_(2.0).flatten(1))

    net = Centres()
    model = backend.wrap(net, UNIT)
    x = model.asarray(images.copy())
    first = model.logits(x)
    beside, gradient = model.logits_and_gradient(x, model.asarray(labels), ClassLogit())
    np.testing.assert_array_equal(model.numpy(x), images)
    expected = net.last((torch.tensor(images) * 2 - 1).flatten(1))
    assert torch.allclose(first, expected, atol=1e-6)
    assert torch.equal(first, beside)
    # The logit of a class rises by twice its weights.
    of_class = 2 * net.last.weight[torch.tensor(labels)].detach().reshape(12, 4, 4)
    assert torch.allclose(gradient, of_class)


def test_torch_computes_no_gradients_of_weights(weights, images, labels):
    model = at_hand("torch").build(Network(NET, weights))
    for objective in OBJECTIVES:
        model.logits_and_gradient(model.asarray(images), model.asarray(labels), objective)
    assert all(parameter.grad is None for parameter in model.net.parameters())


def test_torch_leaves_the_gradients_that_the_user_has(images, labels):
    backend = at_hand("torch")
    import torch

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    net[1].weight.grad = torch.ones(3, 16)
    net[1].bias.requires_grad_(False)
    model = backend.wrap(net, UNIT)
    x = model.asarray(images)
    with torch.no_grad():
        _, gradient = model.logits_and_gradient(x, model.asarray(labels), CrossEntropy())
    assert gradient.abs().max() > 0
    assert not gradient.requires_grad
    assert not x.requires_grad
    assert bool((net[1].weight.grad == 1).all())
    assert not net[1].bias.requires_grad


def test_each_torch_module_gets_its_own_mode_back(images, labels):
    backend = at_hand("torch")
    import torch

    class Fails(torch.nn.Module):
        armed = False

        def forward(self, x):
            if self.armed:
                raise RuntimeError("out of order")
            return x

    norm = torch.nn.BatchNorm1d(16)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), norm, torch.nn.Dropout(0.5), torch.nn.Dropout(0.5),
        torch.nn.Linear(16, 3), Fails(),
    )  # fmt: skip
    net.train()
    net[2].eval()
    modes = [module.training for module in net.modules()]
    assert set(modes) == {True, False}
    model = backend.wrap(net, UNIT)
    x, y = model.asarray(images), model.asarray(labels)
    assert torch.equal(model.logits(x), model.logits(x))
    model.logits_and_gradient(x, y, CrossEntropy())
    net[5].armed = True
    for call in (lambda: model.logits(x), lambda: model.logits_and_gradient(x, y, ClassLogit())):
        with pytest.raises(RuntimeError, match="out of order"):
            call()
        assert [module.training for module in net.modules()] == modes
    assert norm.num_batches_tracked == 0
    assert not norm.running_mean.any()


# Keras


def test_keras_leaves_batch_statistics_alone(images, labels):
    backend = at_hand("keras")
    import keras

    net = keras.Sequential(
        [keras.Input((4, 4)), keras.layers.Flatten(), keras.layers.BatchNormalization(),
         keras.layers.Dropout(0.5), keras.layers.Dense(3)]
    )  # fmt: skip
    before = [value.copy() for value in net.get_weights()]
    model = backend.wrap(net, UNIT)
    x = model.asarray(images)
    first, second = (model.numpy(model.logits(x)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    model.logits_and_gradient(x, model.asarray(labels), CrossEntropy())
    for old, new in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_keras_model_without_a_declared_input_is_refused():
    backend = at_hand("keras")
    import keras

    class Subclassed(keras.Model):
        def call(self, x):
            return x

    for net in (keras.Sequential([keras.layers.Dense(3)]), Subclassed()):
        with pytest.raises(BackendError) as error:
            backend.wrap(net, UNIT)
        assert "no declared input" in one_line(error)
        assert "keras.Input" in str(error.value)


# What a backend refuses


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("net", [object(), "net", None])
def test_what_is_no_network_of_the_framework_is_refused(name, net):
    with pytest.raises(BackendError) as error:
        at_hand(name).wrap(net, UNIT)
    assert type(net).__name__ in one_line(error)
