"""Copies of a user's PyTorch network: float64, with random layers, and one that learns."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_torch import CLASSES, X, Y, bits, cnn, exported, logits_of, model_of, seeded, vit

from harness.data.dataset import one_hot
from harness.errors import NotApplicable
from harness.maths.objectives import CrossEntropy
from harness.protocol import Batch

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:torch", "ignore::FutureWarning:copyreg"
)


def scripted():
    net = cnn()
    import torch

    return torch.jit.script(net)


def traced():
    net = cnn()
    import torch

    return torch.jit.trace(net, torch.tensor(X))


def compiled():
    net = cnn()
    import torch

    return torch.compile(net)


KINDS = {
    "cnn": cnn, "vit": vit, "script": scripted, "trace": traced, "compiled": compiled,
    "program": lambda: exported(cnn()), "program of a vit": lambda: exported(vit()),
}  # fmt: skip


@pytest.fixture(params=KINDS)
def model(request):
    """A wrapped network that has been asked once, and whose weights are as they were afterwards."""
    at_hand("torch")
    if request.param == "compiled":
        import torch

        torch.compiler.reset()
    made = model_of(KINDS[request.param]())
    if request.param != "compiled":  # nothing is compiled unless it is called
        logits_of(made)
    before, modes = bits(made.net), [module.training for module in made.net.modules()]
    yield made
    assert bits(made.net) == before
    assert [module.training for module in made.net.modules()] == modes
    assert all(parameter.grad is None for parameter in made.net.parameters())


def copies_of(model):
    return at_hand("torch").copies(model)


def weights(net):
    return {name: value.detach().numpy().copy() for name, value in net.named_parameters()}


def changed(a, b):
    return {name for name in a if not np.array_equal(a[name], b[name])}


# float64


def test_in_float64_the_logits_are_the_same_and_more_exact(model):
    import torch

    double = copies_of(model).float64()
    assert double.dtype == torch.float64
    found = logits_of(double)
    assert found.dtype == np.float64
    plain = model.like(model.net._orig_mod) if hasattr(model.net, "_orig_mod") else model
    np.testing.assert_allclose(found, logits_of(plain), atol=1e-5)


def test_the_gradient_in_float64_matches_finite_differences(model):
    double, objective = copies_of(model).float64(), CrossEntropy()
    x, step = X[:3].astype(np.float64), 1e-6
    direction = np.random.default_rng(1).standard_normal(x.shape)
    labels = double.asarray(Y[:3])
    _, gradient = double.logits_and_gradient(double.asarray(x), labels, objective)
    true = double.asarray(np.eye(CLASSES)[Y[:3]]) > 0
    high, low = (
        double.numpy(objective.value(double.xp, double.logits(double.asarray(moved)), true))
        for moved in (x + step * direction, x - step * direction)
    )
    expected = (high - low) / (2 * step)
    found = (double.numpy(gradient) * direction).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_a_program_that_names_a_dtype_is_float64_throughout():
    at_hand("torch")
    import torch

    class Casts(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.last = torch.nn.Linear(108, CLASSES)

        def forward(self, x):
            return self.last(x.to(torch.float32).flatten(1)).to(torch.float32)

    model = model_of(exported(seeded(Casts)))
    double = copies_of(model).float64()
    weight, bias = (value.detach().numpy() for value in double.net.parameters())
    exact = X.reshape(12, -1).astype(float) @ weight.T + bias
    np.testing.assert_allclose(logits_of(double, X.astype(float)), exact, rtol=1e-13)


# Random layers


def test_a_stage_more_changes_the_weights_of_that_stage_alone(model):
    copies = copies_of(model)
    assert 1 <= copies.stages() <= 8
    steps = [weights(copies.randomised(k, 7).net) for k in range(copies.stages() + 1)]
    names = [changed(a, b) for a, b in pairwise(steps)]
    assert all(names)
    assert len(set().union(*names)) == sum(map(len, names))  # none in two stages
    at_last = {name.rpartition(".")[0] for name in names[0]}
    assert at_last & {"8", "head"}
    # A weight of two axes or more is drawn; of vectors, an untrained norm stays as it is.
    assert set().union(*names) >= {name for name, value in steps[0].items() if value.ndim > 1}
    assert not changed(steps[-1], weights(copies.randomised(99, 7).net))


def test_random_copies_are_those_of_their_seed_and_finite(model):
    import torch

    copies = copies_of(model)
    before = torch.random.get_rng_state()
    first, again, other = (copies.randomised(9, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert bits(first.net) == bits(again.net)
    assert changed(weights(first.net), weights(other.net))
    outputs = [logits_of(each) for each in (first, other)]
    assert all(np.isfinite(found).all() for found in outputs)
    assert not np.allclose(*outputs)


def test_stages_follow_the_forward_pass_and_not_the_registration():
    model = model_of(vit())
    logits_of(model)
    copies = copies_of(model)
    assert copies.stages() == 8
    first, last = weights(model.net), weights(copies.randomised(1, 0).net)
    assert changed(first, last) == {"head.weight", "head.bias"}
    # Token, positions and patches come last, for they are used first.
    nearly, whole = (weights(copies.randomised(k, 0).net) for k in (7, 8))
    assert {"token", "position", "patches.weight"} <= changed(nearly, whole)


@pytest.mark.parametrize("graph", [False, True])
def test_statistics_of_a_random_stage_start_anew(graph):
    """They do not fit: of many layers with variances of 1e-8, the logits would overflow."""
    at_hand("torch")
    from torch import nn

    def made():
        blocks = [
            nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, eps=1e-12)) for _ in range(12)
        ]
        return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(108, CLASSES))

    net = seeded(made)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.fill_(1e-8)
            module.weight.data.fill_(1e-4)
    model = model_of(exported(net.eval()) if graph else net.eval())
    copies = copies_of(model)
    for k in range(1, copies.stages() + 1):
        assert np.abs(logits_of(copies.randomised(k, 0))).max() < 1e3


def test_a_module_that_resets_all_within_it_becomes_random_alone():
    at_hand("torch")
    import torch
    from torch import nn

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask = nn.Parameter(torch.ones(3, 6, 6))
            self.last = nn.Linear(108, CLASSES)

        def reset_parameters(self):
            nn.init.normal_(self.mask)
            self.last.reset_parameters()

        def forward(self, x):
            return self.last((x * self.mask).flatten(1))

    copies = copies_of(model_of(seeded(Whole)))
    one, two = (weights(copies.randomised(k, 0).net) for k in (1, 2))
    assert changed(one, two) == {"mask"}


def test_tied_weights_stay_tied():
    at_hand("torch")
    from torch import nn

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.into, self.out = nn.Linear(108, 8), nn.Linear(8, 8)
            self.again, self.last = nn.Linear(8, 8), nn.Linear(8, CLASSES)
            self.again.weight = self.out.weight

        def forward(self, x):
            return self.last(self.again(self.out(self.into(x.flatten(1)))))

    model = model_of(seeded(Tied))
    for copy in (copies_of(model).randomised(9, 0), copies_of(model).float64()):
        assert copy.net.again.weight is copy.net.out.weight
        assert copy.net.again.weight is not model.net.out.weight


def test_resnet_18_has_eight_stages():
    at_hand("torch")
    from torch import nn

    net = nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for _ in range(20)],
                        nn.Flatten(), nn.Linear(108, CLASSES))  # fmt: skip
    assert copies_of(model_of(net)).stages() == 8


# Learning


def test_a_learner_learns_and_leaves_the_global_generator_alone(model):
    import torch

    learner, twin = (copies_of(model).learner(3) for _ in range(2))
    batch, before = Batch(X, one_hot(Y, CLASSES)), torch.random.get_rng_state()
    first, *_, last = [learner.step(batch, 1e-2) for _ in range(60)]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert last.loss < first.loss / 2
    assert last.correct >= 10
    assert twin.step(batch, 1e-2) == first
    assert np.array_equal(logits_of(learner.model), logits_of(learner.model))  # no dropout
    assert learner.step(Batch(X[:1], one_hot(Y[:1], CLASSES)), 1e-3).correct in (0, 1)


def test_a_learner_in_half_precision_learns_in_float32():
    at_hand("torch")
    import torch

    net = cnn().to(torch.bfloat16)
    learner = copies_of(model_of(net)).learner(0)
    assert {value.dtype for value in learner.model.net.parameters()} == {torch.float32}
    batch = Batch(X, one_hot(Y, CLASSES))
    losses = [learner.step(batch, 1e-2).loss for _ in range(30)]
    assert losses[-1] < losses[0] / 2


# What cannot be copied


def test_what_cannot_be_copied_says_why():
    at_hand("torch")
    import torch

    class Uncopied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.lock = cnn(), threading.Lock()

        def forward(self, x):
            return self.net(x)

    net = Uncopied()
    frozen = torch.jit.freeze(torch.jit.script(cnn()))
    for made, why in ((net, "cannot be copied .*lock"), (frozen, "constants of a frozen")):
        copies = copies_of(model_of(made))
        for ask in (copies.float64, lambda: copies.randomised(1, 0), lambda: copies.learner(0)):  # noqa: B023
            with pytest.raises(NotApplicable, match=why) as error:
                ask()
            assert "\n" not in str(error.value)


def test_of_a_model_of_another_kind_there_are_no_copies():
    assert at_hand("torch").copies(object()) is None
