"""Networks of half and mixed precision: images stay float32, and are cast at the network's door."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand

import harness
from harness.attacks.apgd import APGD
from harness.attacks.deepfool import DeepFool
from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.attacks.square import Square
from harness.attacks.strongest import Strongest
from harness.errors import BackendError, HarnessError
from harness.maths.objectives import LogOdds

RANDOM = np.random.default_rng(0)
SHAPE, CLASSES = (1, 6, 6), 4
X = RANDOM.random((60, *SHAPE), dtype=np.float32)
EPSILONS = [0.0, 0.02, 0.05]
ATTACKS = [
    "fgsm", PGD(steps=3), APGD(steps=3), APGD(name="apgd-t", steps=3, target="each", targets=2),
    PGD(name="pgd-l2", norm="l2", steps=3), DeepFool(steps=3), Square(steps=20), "noise",
    Strongest(members=(FGSM(), APGD(steps=2))),
]  # fmt: skip


def torch_net(convolutional=True):
    """A small network with seeded weights, in float32."""
    at_hand("torch")
    import torch
    from torch import nn

    with torch.random.fork_rng():
        torch.manual_seed(0)
        if not convolutional:
            return nn.Sequential(nn.Flatten(), nn.Linear(36, 16), nn.ReLU(), nn.Linear(16, CLASSES))
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, CLASSES)
        )


def scaled(net):
    """The same with logits that lie further apart, as those of a trained network do."""
    at_hand("torch")
    import torch

    with torch.no_grad():
        net[-1].weight *= 20
        net[-1].bias *= 20
    return net


def labels_of(net):
    """What the network says in float32, so that all images are right."""
    model = harness.wrap(net)
    return model.numpy(model.logits(model.asarray(X))).argmax(axis=1)


def counts(model, y, attacks=("fgsm",), epsilons=EPSILONS):
    run = harness.evaluate(model, X, y, attacks=attacks, epsilons=epsilons)
    records = [record for record in run.records if not record.check.startswith("validity/")]
    assert {(r.status, r.reason) for r in records} == {("measured", "")}
    return {(r.check, r.epsilon): r.correct for r in records}


@pytest.fixture(scope="module")
def reference():
    net = scaled(torch_net())
    return labels_of(net), counts(harness.wrap(net), labels_of(net), ATTACKS)


@pytest.mark.parametrize(("precision", "near"), [("float16", 2), ("bfloat16", 6)])
def test_half_precision_is_measured_as_single_precision_is(reference, precision, near):
    at_hand("torch")
    import torch

    y, expected = reference
    net = scaled(torch_net()).to(getattr(torch, precision))
    found = counts(harness.wrap(net), y, ATTACKS)
    assert found.keys() == expected.keys()
    assert max(abs(found[key] - expected[key]) for key in expected) <= near
    assert {parameter.dtype for parameter in net.parameters()} == {getattr(torch, precision)}


def test_autocast_within_the_network(reference):
    at_hand("torch")
    import torch

    class Autocast(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = scaled(torch_net())

        def forward(self, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return self.net(x)

    y, expected = reference
    model = harness.wrap(Autocast())
    assert model.net(torch.tensor(X)).dtype == torch.bfloat16
    found = counts(model, y, ATTACKS)
    assert max(abs(found[key] - expected[key]) for key in expected) <= 6


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_images_gradients_and_logits_of_a_half_precision_network_are_float32(precision):
    at_hand("torch")
    import torch

    net = torch_net().to(getattr(torch, precision))
    model = harness.wrap(net)
    x = model.asarray(X)
    logits, gradient = model.logits_and_gradient(x, model.asarray(np.zeros(60, int)), LogOdds())
    for array in (x, logits, gradient, model.logits(x)):
        assert array.dtype == torch.float32
    np.testing.assert_array_equal(model.numpy(x), X)
    exact = harness.wrap(torch_net())
    _, theirs = exact.logits_and_gradient(
        exact.asarray(X), exact.asarray(np.zeros(60, int)), LogOdds()
    )
    # As a whole: where rounding turns a unit on or off, a few pixels differ by more.
    assert float((gradient - theirs).norm()) <= 0.05 * float(theirs.norm())


def test_a_gradient_in_half_precision_is_that_of_the_rounded_weights():
    """Of a linear network it is the weights themselves; the oracle is NumPy in float64."""
    at_hand("torch")
    import torch

    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).half()
    net = torch.nn.Linear(5, 3, bias=False, dtype=torch.float16)
    net.weight.data = weight
    model = harness.wrap(net)
    x = RANDOM.random((7, 5)).astype(np.float32)
    y = np.array([0, 1, 2, 0, 1, 2, 0])
    logits, found = model.logits_and_gradient(model.asarray(x), model.asarray(y), LogOdds())
    flow = LogOdds().logit_gradient(
        np, logits.numpy().astype(np.float64), np.arange(3) == y[:, None]
    )
    np.testing.assert_allclose(found, flow @ weight.double().numpy(), rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", ["integer", "boolean", "buffer", "float8", "none"])
def test_dtype_and_device_are_those_of_the_first_floating_tensor(kind, reference):
    at_hand("torch")
    import torch

    class Preceded(torch.nn.Module):
        def __init__(self):
            super().__init__()
            if kind == "integer":
                self.steps = torch.nn.Parameter(torch.tensor([3]), requires_grad=False)
            if kind == "boolean":
                self.mask = torch.nn.Parameter(torch.ones(6) > 0, requires_grad=False)
            if kind == "float8":
                packed = torch.ones(2).to(torch.float8_e4m3fn)
                self.packed = torch.nn.Parameter(packed, requires_grad=False)
            if kind == "buffer":
                self.register_buffer("table", torch.arange(5))
            self.net = scaled(torch_net())

        def forward(self, x):
            return self.net(x)

    y, expected = reference
    net = Preceded()
    if kind == "none":
        weights = {name: value.detach().clone() for name, value in net.net.named_parameters()}

        def functional(x, inner=net.net):
            return torch.func.functional_call(inner, weights, (x,))

        net = torch.nn.Module()
        net.forward = functional
    model = harness.wrap(net)
    assert (model.dtype, model.device) == (torch.float32, torch.device("cpu"))
    found = counts(model, y)
    assert found == {key: expected[key] for key in found}


def test_double_precision_stays_so_where_a_float32_buffer_comes_later():
    at_hand("torch")
    import torch

    net = torch_net().double()
    net.register_buffer("late", torch.ones(1))
    model = harness.wrap(net)
    assert model.dtype == torch.float64
    assert model.logits(model.asarray(X)).dtype == torch.float64


@pytest.mark.parametrize("set_to", ["float64", "float16"])
def test_torchs_default_dtype_does_not_matter(set_to):
    at_hand("torch")
    import torch

    before = torch.get_default_dtype()
    net = torch.nn.Module()
    net.forward = lambda x: 10 * x.flatten(1)[:, :4]
    torch.set_default_dtype(getattr(torch, set_to))
    try:
        model = harness.wrap(net)
        assert model.dtype == torch.float32
        y = X.reshape(60, -1)[:, :4].argmax(axis=1)
        assert counts(model, y)["clean", None] == 60
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize(
    ("outputs", "what"),
    [
        (lambda z: z.tolist()[0][0], "float"), (lambda z: "cat", "str"),
        (lambda z: z + 0j, "complex64"),
    ],
)  # fmt: skip
def test_outputs_that_are_no_logits_are_named(outputs, what):
    at_hand("torch")
    import torch

    net = torch_net()
    wrapped = torch.nn.Module()
    wrapped.forward = lambda x: outputs(net(x))
    said = f"returns .*{what}, not (one tensor of )?logits"
    with pytest.raises(HarnessError, match=said) as error:
        harness.evaluate(harness.wrap(wrapped), X, np.zeros(60, int))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("cut", ["detach", "numpy", "argmax"])
def test_a_torch_network_without_a_gradient_says_so_in_one_sentence(cut):
    at_hand("torch")
    import torch

    net = torch_net()
    cuts = {
        "detach": lambda x: net(x.detach()),
        "numpy": lambda x: net(torch.tensor(x.detach().numpy())),
        "argmax": lambda x: 9 * torch.nn.functional.one_hot(net(x).argmax(1), CLASSES).float(),
    }
    wrapped = torch.nn.Module()
    wrapped.forward = cuts[cut]
    run = harness.evaluate(harness.wrap(wrapped), X, labels_of(net), epsilons=[0.1])
    clean, attacked, *_ = run.records
    assert clean.correct == 60
    assert attacked.status == "error"
    assert attacked.reason.startswith("the network gives no gradient: ")


# Inference mode


@pytest.mark.parametrize("context", ["inference_mode", "no_grad"])
@pytest.mark.parametrize("made", ["net outside", "net inside", "net in half precision"])
def test_evaluate_within_inference_mode_or_without_gradients(reference, context, made):
    at_hand("torch")
    import torch

    y, expected = reference
    net = scaled(torch_net())
    with getattr(torch, context)():
        if made == "net inside":
            net = scaled(torch_net())
        if made == "net in half precision":
            net = net.half()
        images = torch.tensor(X)
        run = harness.evaluate(
            harness.wrap(net), images, torch.tensor(y), attacks=ATTACKS, epsilons=EPSILONS
        )
    found = {(r.check, r.epsilon): r.correct for r in run.records if r.total}
    assert found.keys() == expected.keys()
    near = 2 if "half" in made else 0
    assert max(abs(found[key] - expected[key]) for key in expected) <= near
    assert [p.requires_grad for p in net.parameters()] == [True] * 4


def test_a_network_that_works_in_place_within_inference_mode():
    at_hand("torch")
    import torch

    class InPlace(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = scaled(torch_net(convolutional=False))

        def forward(self, x):
            return self.net(x.mul_(2).div_(2))

    y = labels_of(scaled(torch_net(convolutional=False)))
    expected = counts(harness.wrap(InPlace()), y)
    with torch.inference_mode():
        assert counts(harness.wrap(InPlace()), y) == expected


def test_built_networks_within_inference_mode():
    at_hand("torch")
    import torch
    from small_models import small_images, small_net

    x, y = small_images()
    model = small_net("torch", "float32")
    expected = [r.correct for r in harness.evaluate(model, x, y, epsilons=[0.1]).records]
    with torch.inference_mode():
        found = [r.correct for r in harness.evaluate(model, x, y, epsilons=[0.1]).records]
    assert found == expected


# Keras


def keras_net(**heads):
    """The same network in a precision of its own in body and head."""
    at_hand("keras")
    import keras

    layers = [
        keras.Input(SHAPE, dtype=heads.get("entry", "float32")),
        keras.layers.Flatten(dtype=heads.get("body", "float32")),
        keras.layers.Dense(16, activation="relu", dtype=heads.get("body", "float32")),
        keras.layers.Dense(CLASSES, dtype=heads.get("head", heads.get("body", "float32"))),
    ]
    net = keras.Sequential(layers)
    random = np.random.default_rng(1)
    net.set_weights([3 * random.standard_normal(w.shape) / w.shape[0] ** 0.5
                     for w in net.get_weights()])  # fmt: skip
    return net


KERAS = {
    "mixed_float16": {"body": "mixed_float16"},
    "mixed_bfloat16": {"body": "mixed_bfloat16"},
    "mixed with a float32 head": {"body": "mixed_float16", "head": "float32"},
    "float16": {"entry": "float16", "body": "float16"},
    "bfloat16": {"entry": "bfloat16", "body": "bfloat16"},
    "float64 head": {"head": "float64"},
    "float64": {"entry": "float64", "body": "float64"},
}


KERAS_ATTACKS = [*ATTACKS[:4], DeepFool(steps=3)]


@pytest.fixture(scope="module")
def plain_keras():
    """Labels, and what the network leaves correct in float32 throughout."""
    plain = keras_net()
    y = labels_of(plain)
    return y, counts(harness.wrap(plain), y, KERAS_ATTACKS, [0.05])


@pytest.mark.parametrize("kind", KERAS)
def test_keras_heads_of_another_dtype_than_the_input(plain_keras, kind):
    y, expected = plain_keras
    model = harness.wrap(keras_net(**KERAS[kind]))
    found = counts(model, y, KERAS_ATTACKS, [0.05])
    # In bfloat16 more images lie as near to the boundary as its rounding.
    near = 8 if "bfloat16" in kind else 2
    assert max(abs(found[key] - expected[key]) for key in expected) <= near
    doubles = "float64" in kind
    logits, gradient = model.logits_and_gradient(model.asarray(X), model.asarray(y), LogOdds())
    for array in (model.asarray(X), logits, gradient, model.logits(model.asarray(X))):
        assert model.numpy(array).dtype == (np.float64 if doubles else np.float32)


@pytest.mark.parametrize("kind", ["uint8", "int32"])
def test_a_keras_network_that_takes_integers_is_refused_with_the_remedy(kind):
    at_hand("keras")
    import keras

    net = keras.Sequential(
        [keras.Input((3, 3), dtype=kind), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(),
         keras.layers.Dense(3)]
    )  # fmt: skip
    with pytest.raises(BackendError, match=f"input is {kind}, .*no gradient.*clone_model") as error:
        harness.wrap(net, bounds=(0, 255))
    assert "\n" not in str(error.value)
    # What the line advises.
    rebuilt = keras.models.clone_model(keras.Model(net.inputs, net.outputs), [keras.Input((3, 3))])
    rebuilt.set_weights(net.get_weights())
    x = RANDOM.integers(0, 256, (20, 3, 3)).astype(np.float32)
    y = np.asarray(net(x.astype(kind))).argmax(axis=1)
    run = harness.evaluate(harness.wrap(rebuilt, bounds=(0, 255)), x, y, epsilons=[0.0, 255.0])
    assert [record.correct for record in run.records][:2] == [20, 20]
    assert run.records[2].correct < 20


def test_a_keras_network_of_two_inputs_is_refused():
    at_hand("keras")
    import keras

    ends = [keras.Input((3,)), keras.Input((3,))]
    net = keras.Model(ends, keras.layers.Add()(ends))
    with pytest.raises(BackendError, match="has 2 inputs, not one; wrap a function"):
        harness.wrap(net)


def test_a_keras_network_without_a_gradient_says_so_in_one_sentence():
    at_hand("keras")
    import keras

    class Stop(keras.layers.Layer):
        def call(self, x):
            return keras.ops.stop_gradient(x)

    net = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), Stop(),
                            keras.layers.Dense(CLASSES)])  # fmt: skip
    run = harness.evaluate(harness.wrap(net), X, labels_of(net), epsilons=[0.1])
    clean, attacked, *_ = run.records
    assert clean.correct == 60
    assert attacked.status == "error"
    assert attacked.reason.startswith("the network gives no gradient: ")


# Integers, and modules without a mode


class Counts:
    """Scores of two classes in a dtype of its own."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset()

    def __init__(self, dtype):
        self.dtype = dtype

    def asarray(self, values):
        return values

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        return (100 * x.reshape(len(x), -1)[:, :CLASSES]).astype(self.dtype)

    def logits_and_gradient(self, x, y, objective):
        raise NotImplementedError


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "bool", "object", "complex64"])
@pytest.mark.parametrize("attacks", [[], "square"])
def test_logits_that_are_no_floats_are_refused(dtype, attacks):
    """Differences of unsigned ones wrap round, and attacks begin from an infinite loss."""
    y = np.zeros(len(X), int)
    with pytest.raises(HarnessError, match=f": logits are {dtype}; return floats$"):
        harness.evaluate(Counts(dtype), X, y, attacks=attacks, epsilons=[0.1])


def test_whole_numbers_of_probabilities_are_read_as_such():
    y = np.zeros(len(X), int)
    ask = {"attacks": "noise", "epsilons": [0.0, 0.1], "outputs": "probabilities"}
    votes, floats = (harness.evaluate(Counts(d), X, y, **ask) for d in ("uint8", "float64"))
    assert votes.records[0].status == floats.records[0].status == "measured"


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_a_frozen_torchscript_network_is_measured_as_the_plain_one():
    at_hand("torch")
    import torch

    net = scaled(torch_net()).eval()
    y = labels_of(net)
    frozen = torch.jit.freeze(torch.jit.script(net))
    ask = {"attacks": ["fgsm", "noise"], "epsilons": [0.0, 0.02, 0.05]}
    expected, found = (counts(harness.wrap(each), y, **ask) for each in (net, frozen))
    assert found == expected
