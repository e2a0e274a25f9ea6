"""Networks of every family, written, checked, read again, and run by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from backends_at_hand import at_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_graphs import onnx

from harness import registry
from harness.errors import HarnessError
from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights
from harness.networks.onnx.reading import read_network
from harness.networks.onnx.writing import onnx_bytes
from harness.protocol import (
    Architecture,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    MeanPool,
    Network,
    ReLU,
    Residual,
    Scale,
)


def network_of(architecture, seed):
    """The network with random weights, and biases that are not zero."""
    random = np.random.default_rng(seed)
    weights = {
        name: (value + random.normal(0, 0.1, value.shape)).astype(np.float32)
        for name, value in initial_weights(architecture, seed).items()
    }
    return Network(architecture, weights)


SHAPES = st.sampled_from([((9, 8), None), ((3, 9, 8), 0), ((1, 9, 8), 0), ((9, 8, 3), 2)])
SIDES = st.lists(st.integers(1, 3), min_size=1, max_size=3)


@st.composite
def networks(draw):
    """One of the families' networks, with any of their options."""
    (shape, axis), seed = draw(SHAPES), draw(st.integers(0, 99))
    family = draw(st.sampled_from(["mlp", "cnn", "resnet"]))
    norm = {"batch_norm": draw(st.booleans()), "dropout": draw(st.sampled_from([0.0, 0.2]))}
    if family == "mlp":
        options = {"hidden": draw(st.lists(st.integers(1, 9), max_size=2))} | norm
    elif family == "cnn":
        count = len(draw(SIDES))
        each = st.lists(st.integers(1, 3), min_size=count, max_size=count)
        options = norm | {
            "channels": draw(each), "kernel": draw(each), "padding": draw(st.integers(0, 2)),
            "stride": draw(st.integers(1, 2)), "mean_pool": draw(st.booleans()),
            "dense": draw(st.lists(st.integers(1, 9), max_size=1)),
            "pool": draw(st.sampled_from([1, [2] + [1] * (count - 1)])),
        }  # fmt: skip
    else:
        options = {"depth": draw(st.sampled_from([8, 10])), "width": draw(st.integers(1, 3))}
    try:
        made = architecture_of(family, options, ImageKind(shape, 4, axis))
    except HarnessError:  # the maps are too small for so many layers
        made = architecture_of("mlp", {"hidden": [3]}, ImageKind(shape, 4, axis))
    return network_of(made, seed)


def checked(network, folder):
    """What is written of a network is read the same, and is the same to ONNX Runtime."""
    at_hand("onnx")
    import onnxruntime

    content = onnx_bytes(network)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    path = folder / "net.onnx"
    path.write_bytes(content)
    read = read_network(path).network
    assert read.architecture == network.architecture.inference
    assert read.weights.keys() == network.weights.keys()
    for name, value in network.weights.items():
        np.testing.assert_array_equal(read.weights[name], value)
    shape = network.architecture.input_shape
    x = np.random.default_rng(1).normal(size=(5, *shape)).astype(np.float32)
    exact = registry.builder("numpy").build(network, dtype="float64").logits(x)
    session = onnxruntime.InferenceSession(content)
    for count in (5, 1):
        found = session.run(["logits"], {"images": x[:count]})[0]
        np.testing.assert_allclose(found, exact[:count], rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@settings(max_examples=60, deadline=None)
@given(network=networks())
def test_networks_of_the_families_come_back_as_they_were(network, folder):
    checked(network, folder)


ODD = {
    "uneven padding, and scales": (
        (3, 7, 9), 0,
        (Scale(), Conv(4, (3, 2), (2, 1), ((0, 2), (1, 0))), Scale(), ReLU(),
         MaxPool((2, 3), (2, 2), ((1, 0), (0, 1))), Flatten(), Scale(), Dense(3)),
    ),
    "sums within sums": (
        (5, 5, 2), 2,
        (Residual((Residual((Conv(2, (1, 1)), ReLU())), Conv(3, (3, 3))), (Conv(3, (3, 3)),)),
         ReLU(), MeanPool((2, 2), (1, 1)), Flatten(), Residual((Dense(12), ReLU())), Dense(3)),
    ),
    "a vector": ((6,), None, (Dense(4), ReLU(), Dense(3))),
    "images of other axes": ((2, 3, 2), 0, (Flatten(), Dense(3))),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_networks_of_no_family_come_back_too(name, tmp_path):
    shape, axis, layers = ODD[name]
    checked(network_of(Architecture(shape, layers, 3, axis), 1), tmp_path)
