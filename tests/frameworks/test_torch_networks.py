"""PyTorch networks as users have them: what is taken, what is refused, and how much they take."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_torch import CLASSES, X, Y, bits, cnn, exported, logits_of, model_of, seeded, vit
from small_trainers import NET, one_line

from harness import registry
from harness.errors import BackendError, BatchTooLarge, MeasurementError
from harness.maths.objectives import CrossEntropy
from harness.maths.query import batch_size_for
from harness.networks.initial import initial_weights
from harness.protocol import Network, Optimizer, Wrapping

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def both(model):
    """Logits with and without a gradient, and the gradient."""
    x, y = model.asarray(X), model.asarray(Y)
    beside, gradient = model.logits_and_gradient(x, y, CrossEntropy())
    np.testing.assert_array_equal(model.numpy(x), X)
    return logits_of(model), model.numpy(beside), model.numpy(gradient)


def calling(function, net=None):
    """A module that computes a function."""
    import torch

    made = torch.nn.Module()
    made.net = net or cnn()
    made.forward = lambda x: function(made.net, x)
    return made


# Kinds of networks


@pytest.mark.parametrize("kind", ["script", "trace", "frozen", "compiled", "any", "8", "1"])
def test_each_kind_of_network_gives_the_same_logits_and_gradient(kind):
    net = cnn()
    import torch

    expected = both(model_of(net))
    made = {
        "script": lambda: torch.jit.script(net), "trace": lambda: torch.jit.trace(net, images),
        "frozen": lambda: torch.jit.freeze(torch.jit.script(net)),
        "compiled": lambda: torch.compile(net.train(), backend="eager"),
        "any": lambda: exported(net), "8": lambda: exported(net, 8), "1": lambda: exported(net, 1),
    }  # fmt: skip
    images = torch.tensor(X)
    model = model_of(made[kind]())
    for ours, theirs in zip(both(model), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert registry.made_by(model)[0] == "torch"


@pytest.mark.parametrize("count", [1, 7, 8, 9, 65])
def test_batches_of_any_size_reach_a_program_in_those_that_it_takes(count):
    net = cnn()
    x = np.random.default_rng(1).random((count, 3, 6, 6), dtype=np.float32)
    for rows in (8, None):
        found = logits_of(model_of(exported(net, rows)), x)
        np.testing.assert_allclose(found, logits_of(model_of(net), x), atol=1e-5)


def test_a_program_of_unbounded_batches_is_asked_for_all_at_once():
    net = cnn()
    import torch

    sizes = ({0: torch.export.Dim("n")},)
    made = torch.export.export(net, (torch.tensor(X),), dynamic_shapes=sizes)
    model = model_of(made)
    assert model.rows[1] > 10**9
    np.testing.assert_allclose(logits_of(model, X[:1]), logits_of(model_of(net), X[:1]), atol=1e-5)


OUTPUTS = {
    "tuple": (lambda z: (z, z + 1), None), "list": (lambda z: [z], None),
    "dict": (lambda z: {"logits": z, "hidden": z + 1}, None),
    "one entry": (lambda z: {"scores": z}, None),
    "object": (lambda z: SimpleNamespace(logits=z, loss=None), None),
    "named": (lambda z: {"a": z + 1, "b": z}, "b"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OUTPUTS)
def test_logits_are_found_among_the_outputs(kind):
    net = cnn()
    function, output = OUTPUTS[kind]
    how = Wrapping(output=output)
    model = model_of(calling(lambda inner, x: function(inner(x)), net), how)
    for ours, theirs in zip(both(model), both(model_of(net)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("flat", [True, False])
def test_one_logit_an_image_is_that_of_the_second_of_two_classes(flat):
    net = cnn()
    import torch

    def one(inner, x):
        found = inner(x)[:, 0]
        return found if flat else found[:, None]

    def two(inner, x):
        found = inner(x)[:, 0]
        return torch.stack([torch.zeros_like(found), found], 1)

    models = [model_of(calling(function, net)) for function in (one, two)]
    x, y = models[0].asarray(X), models[0].asarray(Y % 2)
    assert np.array_equal(*map(logits_of, models))
    gradients = [model.logits_and_gradient(x, y, CrossEntropy())[1] for model in models]
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0


def test_what_a_network_is_is_told_and_its_weights_identify_it():
    net = cnn()
    import torch

    about = model_of(net).about()
    assert (about.kind, about.device) == ("torch.nn.Module Sequential", "cpu")
    # Two convolutions of 4 × 3 × 9 and 4 × 4 × 9, two norms of 2 × 4, and 64 × 4 + 4.
    assert about.parameters == (108 + 4) + (144 + 4) + 16 + 260
    assert len(about.identity) == 64
    for made in (torch.compile(net), torch.jit.script(net), exported(net)):
        assert model_of(made).about().identity == about.identity
    frozen = model_of(torch.jit.freeze(torch.jit.script(net))).about()
    assert (frozen.kind, frozen.parameters) == ("TorchScript", None)
    net[1].running_mean[0] += 1
    assert model_of(net).about().identity != about.identity
    other = model_of(torch.jit.freeze(torch.jit.script(net))).about()
    assert other.identity != frozen.identity
    assert len(model_of(net.bfloat16()).about().identity) == 64


# Devices


@pytest.mark.parametrize("name", ["gpu7", "cuda:99", "", "cpu:0x", "meta"])
def test_a_device_that_is_not_here_is_named(name):
    backend, net = at_hand("torch"), cnn()
    how, built = Wrapping(device=name), Network(NET, initial_weights(NET, seed=0))
    for ask in (
        lambda: backend.wrap(net, how), lambda: backend.build(built, how),
        lambda: backend.trainer(built, how, Optimizer(), seed=0),
    ):  # fmt: skip
        with pytest.raises(BackendError, match=f"^device: {name} is not here; there is cpu") as e:
            ask()
        assert "\n" not in str(e.value)


def test_a_network_that_is_elsewhere_is_copied_and_stays_there(monkeypatch):
    """No second device is at hand, so one is made up: that of meta tensors, which hold nothing."""
    net = cnn()
    import torch

    from backends import torch_taken

    elsewhere = torch.device("meta")
    monkeypatch.setattr(torch_taken, "device_named", lambda name: elsewhere)
    for made in (net, exported(net), torch.compile(net)):
        model = model_of(made, Wrapping(device="meta"))
        assert model.device == elsewhere
        assert {value.device for value in model.net.parameters()} == {elsewhere}
    assert {value.device.type for value in net.parameters()} == {"cpu"}
    monkeypatch.undo()
    assert model_of(net, Wrapping(device="cpu")).net is net


# What is refused or explained


def test_a_network_of_two_inputs_is_refused_by_their_names():
    at_hand("torch")
    import torch

    class Pair(torch.nn.Module):
        def forward(self, image, mask, *, scale: float = 1.0):
            return (image * mask).flatten(1) * scale

    images = torch.tensor(X), torch.tensor(X)
    program = torch.export.export(Pair(), images)
    for net in (Pair(), torch.jit.trace(Pair(), images),
                torch.compile(Pair()), program):  # fmt: skip
        with pytest.raises(BackendError, match=r"takes 2 inputs \(.*image, .*mask\)") as error:
            model_of(net)
        assert "wrap a torch.nn.Module whose forward" in one_line(error)


def test_a_function_is_refused_with_what_takes_it():
    at_hand("torch")
    import torch

    scripted = torch.jit.trace(lambda x: x.flatten(1), torch.tensor(X))
    for made in (torch.compile(lambda x: x), scripted):
        with pytest.raises(BackendError, match=r"harness\.wrap_function") as error:
            model_of(made)
        one_line(error)


def test_a_layer_whose_size_is_not_known_yet_is_refused():
    at_hand("torch")
    from torch import nn

    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES))
    with pytest.raises(BackendError, match=r"LazyLinear.*call it with one image before"):
        model_of(net)


@pytest.mark.parametrize("cut", ["no_grad", "inference_mode", "detach"])
def test_where_no_gradient_reaches_the_input_it_says_what_does_without(cut):
    net = cnn()
    import torch

    def without(inner, x):
        if cut == "detach":
            return inner(x.detach())
        with getattr(torch, cut)():
            return inner(x)

    model = model_of(calling(without, net))
    np.testing.assert_allclose(logits_of(model), logits_of(model_of(net)))
    with pytest.raises(MeasurementError, match="no gradient reaches the input; attack it with"):
        both(model)
    logits = model.logits(model.asarray(X))
    assert not logits.is_inference()


def test_one_that_takes_a_few_images_at_a_time_says_how_many():
    def few(inner, x):
        if len(x) > 5:
            raise ValueError("too many\nfor us")
        return inner(x)

    net = cnn()
    model = model_of(calling(few, net))
    for ask in (logits_of, both):
        with pytest.raises(
            MeasurementError, match="at most 5 images at a time; say batch_size = 5"
        ):
            ask(model)
    np.testing.assert_allclose(logits_of(model, X[:5]), logits_of(model_of(net), X[:5]))


def test_one_that_takes_batches_of_one_size_says_which():
    net = cnn()
    model = model_of(calling(lambda inner, x: inner(x.view(8, 3, 6, 6)), net))
    with pytest.raises(MeasurementError, match="batches of exactly 8 images"):
        logits_of(model)


def test_another_error_is_passed_on_as_it_is():
    def broken(inner, x):
        raise ValueError("out of order 8")

    with pytest.raises(ValueError, match="out of order 8"):
        logits_of(model_of(calling(broken, cnn())))

    def disliked(inner, x):
        if bool((x == 1).any()):
            raise ValueError("a white pixel")
        return inner(x)

    x = X.copy()
    x[7, 0, 0, 0] = 1
    with pytest.raises(ValueError, match="a white pixel"):
        logits_of(model_of(calling(disliked, cnn())), x)


# Memory


def out_of_memory(kind):
    import torch

    return {
        "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        "mps": RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
        "cpu": RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't "
                            "allocate memory: you tried to allocate 10 bytes"),
        "python": MemoryError(),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["cuda", "mps", "cpu", "python"])
@pytest.mark.parametrize("when", ["forward", "backward"])
def test_memory_that_is_used_up_is_a_batch_too_large(kind, when):
    at_hand("torch")
    import torch

    class Full(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            if when == "forward":
                raise out_of_memory(kind)
            return x.clone()

        @staticmethod
        def backward(ctx, flow):
            raise out_of_memory(kind)

    model = model_of(calling(lambda inner, x: inner(Full.apply(x)), cnn()))
    with pytest.raises(BatchTooLarge, match="12 images do not fit into memory") as error:
        both(model)
    one_line(error)


def test_an_image_takes_what_autograd_keeps_of_it():
    at_hand("torch")
    from torch import nn

    # The tanh keeps its 1,000 outputs; the second layer, whose weights are trained, the same; the
    # first its 108 inputs; and nothing of that grows with 109,000 weights.
    net = nn.Sequential(nn.Flatten(), nn.Linear(108, 1000), nn.Tanh(), nn.Linear(1000, CLASSES))
    model = model_of(net)
    assert model.footprint(model.asarray(X)) == 4 * (1000 + 108)
    assert model.footprint(model.asarray(X[:1])) == 4 * (1000 + 108)
    double = model_of(net.double())
    assert double.footprint(double.asarray(X)) == 8 * (1000 + 108)


@pytest.mark.parametrize("make", [cnn, vit])
def test_of_each_kind_of_network_an_image_takes_as_much(make):
    net = make()
    import torch

    model = model_of(net.train())
    expected = model.footprint(model.asarray(X[:2]))
    assert expected > 4 * 108
    assert net.training
    before = bits(net)
    kinds = [torch.compile(net), exported(net.eval(), 8), exported(net, 1)]
    for made in kinds:
        other = model_of(made)
        assert other.footprint(other.asarray(X[:2])) == pytest.approx(expected, rel=0.2)
    assert bits(net) == before


def test_a_network_that_fails_while_it_is_tried_is_as_it_was():
    def broken(inner, x):
        inner(x)
        raise ValueError("out of order")

    net = calling(broken, cnn()).train()
    before = bits(net)
    model = model_of(net)
    with pytest.raises(ValueError, match="out of order"):
        model.footprint(model.asarray(X))
    assert bits(net) == before
    assert all(module.training for module in net.modules() if module is net)


def test_batches_adapt_to_the_network_and_small_ones_stay_whole():
    at_hand("torch")
    from torch import nn

    small = at_hand("torch").build(Network(NET, initial_weights(NET, seed=0)))
    assert batch_size_for(small, np.zeros((5000, 4, 4), np.float32)) == 1000
    # Each pixel becomes a thousand: 108 kB an image after each of twenty layers.
    wide = [nn.Conv2d(3, 750, 1), nn.Tanh(), *[nn.Tanh() for _ in range(20)]]
    model = model_of(seeded(lambda: nn.Sequential(*wide, nn.Flatten(), nn.Linear(27000, CLASSES))))
    assert batch_size_for(model, np.zeros((5000, 3, 6, 6), np.float32)) < 150
