"""Models in TensorFlow.js: the real one, from npm, gives the logits of the NumPy backend."""

from __future__ import annotations

import json

import numpy as np
import pytest
from javascript_at_hand import said_by_node, served, tfjs_at_hand
from layered import ARCHITECTURES, CLASSES, images_for, layered

from harness import registry
from harness.errors import HarnessError
from harness.evaluation.exporting import export
from harness.networks.initial import initial_weights
from harness.networks.tfjs import SHARD, tfjs_files
from harness.protocol import (
    Architecture,
    Conv,
    Dense,
    Flatten,
    MaxPool,
    MeanPool,
    Network,
    Residual,
    fully_connected,
)

COUNT = 100
VERSION = "4.22.0"
EDGES = Architecture(
    (9, 8),
    (
        # Below zero, and padding that TensorFlow.js has no pooling for.
        Conv(2, (2, 3), padding=((0, 1), (2, 0))), MaxPool((3, 4), (2, 1), ((2, 1), (0, 3))),
        MaxPool((2, 2), (1, 2), ((1, 1), (1, 0))), MeanPool((2, 1), (1, 1)),
        Residual((), (Conv(2, (1, 1)),)), Flatten(), Dense(CLASSES),
    ),
    CLASSES,
)  # fmt: skip
VECTORS = Architecture((6,), (Flatten(), Residual((Dense(6),)), Dense(CLASSES)), CLASSES)
OTHERS = {"edges": EDGES, "vectors": VECTORS}


def network_and_images(name):
    if name in ARCHITECTURES:
        return layered(name), images_for(name, COUNT)
    architecture = OTHERS[name]
    x = np.random.default_rng(1).random((COUNT, *architecture.input_shape), dtype=np.float32)
    return Network(architecture, initial_weights(architecture, 0)), x


def request_for(address, x):
    return {
        "address": address, "tfjs": str(tfjs_at_hand()), "shape": x.shape[1:],
        "images": x.reshape(-1).tolist(),
    }  # fmt: skip


@pytest.mark.parametrize("name", [*ARCHITECTURES, *OTHERS])
def test_the_real_one_gives_the_logits_of_the_network(name, tmp_path):
    network, x = network_and_images(name)
    export(network, tmp_path / "model", "tfjs")
    with served(tmp_path / "model") as address:
        said = said_by_node("tfjs.mjs", request_for(address, x), tmp_path)
    assert (said["backend"], said["version"]) == ("cpu", VERSION)
    assert said["input"] == [None, *network.architecture.input_shape]
    assert said["output"] == [None, CLASSES]
    expected = registry.builder("numpy").build(network, dtype="float64").logits(x)
    np.testing.assert_allclose(said["logits"], expected, rtol=0, atol=1e-5 * abs(expected).max())


def test_weights_are_cut_in_files_of_four_megabytes(tmp_path):
    architecture = fully_connected((60, 60), (400,), CLASSES)
    network = Network(architecture, initial_weights(architecture, 0))
    files = tfjs_files(network)
    document = json.loads(files.pop("model.json"))
    (group,) = document["weightsManifest"]
    assert group["paths"] == list(files) == [
        "group1-shard1of2.bin", "group1-shard2of2.bin",
    ]  # fmt: skip
    sizes = [len(content) for content in files.values()]
    total = 4 * sum(weight.size for weight in network.weights.values())
    assert sizes == [SHARD, total - SHARD]
    assert SHARD <= 4 * 1000 * 1000
    first = np.frombuffer(files[group["paths"][0]], "<f4", count=400)
    np.testing.assert_array_equal(first, network.weights["layers.0.weight"][:, 0])
    assert group["weights"][0] == {
        "name": "layers.0/kernel", "shape": [3600, 400], "dtype": "float32"
    }  # fmt: skip


def test_several_files_are_put_together(tmp_path):
    architecture = fully_connected((60, 60), (400,), CLASSES)
    network = Network(architecture, initial_weights(architecture, 0))
    x = np.random.default_rng(0).random((4, 60, 60), dtype=np.float32)
    export(network, tmp_path / "model", "tfjs")
    with served(tmp_path / "model") as address:
        said = said_by_node("tfjs.mjs", request_for(address, x), tmp_path)
    expected = registry.builder("numpy").build(network, dtype="float64").logits(x)
    np.testing.assert_allclose(said["logits"], expected, rtol=0, atol=1e-4 * abs(expected).max())


def test_a_window_without_a_pixel_is_refused(tmp_path):
    layers = (MaxPool((2, 2), (1, 1), ((2, 0), (0, 0))), Flatten(), Dense(CLASSES))
    architecture = Architecture((4, 4), layers, CLASSES)
    network = Network(architecture, initial_weights(architecture, 0))
    with pytest.raises(HarnessError, match="has windows without a pixel"):
        export(network, tmp_path / "model", "tfjs")
    assert not list(tmp_path.iterdir())
