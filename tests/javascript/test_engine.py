"""The playground's networks in JavaScript beside the NumPy backend in float64, on equal weights."""

from __future__ import annotations

import base64
import math

import numpy as np
import pytest
from javascript_at_hand import said_by_node
from layered import ARCHITECTURES, CLASSES, images_for, layered

from harness import registry
from harness.attacks.fgsm import FGSM
from harness.attacks.minimal import along_gradient, by_search
from harness.attacks.pgd import PGD
from harness.networks.initial import initial_weights
from harness.networks.javascript import half_bytes, in_half, layers_in_json
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
    Wrapping,
)
from harness.saliency.maps import pixel_scores, top_pixels
from harness.saliency.methods import METHODS

COUNT = 12
MAPS = ("gradient", "gradient-x-input", "integrated-gradients", "loss-gradient")


def described(network, bounds):
    """A network as the playground has it."""
    architecture = network.architecture
    weights = half_bytes(architecture, network.weights)
    return {
        "name": "net",
        "input": {
            "shape": architecture.input_shape, "channel_axis": architecture.channel_axis,
            "bounds": bounds,
        },
        "classes": [str(label) for label in range(architecture.classes)],
        "layers": layers_in_json(architecture),
        "weights": base64.b64encode(weights).decode("ascii"),
    }  # fmt: skip


def oracle(network, bounds=(0.0, 1.0)):
    return registry.builder("numpy").build(network, Wrapping(bounds), dtype="float64")


def flat(images):
    return np.asarray(images, np.float64).reshape(len(images), -1).tolist()


def asked(network, x, y, folder, bounds=(0.0, 1.0), **more):
    request = {"model": described(network, bounds), "images": flat(x), "labels": y.tolist()}
    return said_by_node("engine.mjs", request | more, folder)


def one_in_all_places(count):
    """Each image is the first of a dataset of its own, as on the page."""
    return np.zeros(count, dtype=np.int64)


def alike(found, expected, tolerance=1e-12):
    expected = np.asarray(expected).reshape(np.shape(found))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_gradients_are_numpys(name, tmp_path):
    network, x = in_half(layered(name)), images_for(name, COUNT).astype(np.float64)
    flow = np.random.default_rng(2).normal(size=(COUNT, CLASSES))
    said = asked(network, x, np.zeros(COUNT, int), tmp_path, flow=flow.tolist())
    logits, back = oracle(network).through(x)
    alike(said["logits"], logits)
    alike(said["gradients"], back(flow))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_attacks_are_the_harness_s_to_the_image(name, tmp_path):
    network, x = in_half(layered(name)), images_for(name, COUNT).astype(np.float64)
    model = oracle(network)
    # The predicted labels, but for two images: those are misclassified from the start.
    y = (model.logits(x).argmax(axis=1) + np.isin(np.arange(COUNT), (3, 7))) % CLASSES
    epsilons = (0.0, 0.02, 0.1)
    ask = [{"attack": a, "epsilon": e} for a in ("fgsm", "pgd") for e in epsilons]
    said = asked(network, x, y, tmp_path, ask={"attack": ask})["attack"]
    for number, attack in enumerate((FGSM(), PGD())):
        for place, epsilon in enumerate(epsilons):
            (found,) = attack.perturb(model, x, y, [epsilon], index=one_in_all_places(COUNT))
            answers = [all_[3 * number + place] for all_ in said]
            labels = [answer["adversarial"]["label"] for answer in answers]
            assert labels == model.logits(found).argmax(axis=1).tolist()
            assert [a["misclassified"] for a in answers] == (np.array(labels) != y).tolist()
            alike([answer["image"] for answer in answers], found, 1e-9)
            distances = [answer["distance"] for answer in answers]
            alike(distances, abs(found - x).reshape(COUNT, -1).max(axis=1), 1e-9)
            alike([a["perturbation"] for a in answers], found - x, 1e-9)


@pytest.mark.parametrize("name", ["mlp", "cnn-first", "odd"])
def test_smallest_epsilons_are_the_harness_s(name, tmp_path):
    count = 4
    network, x = in_half(layered(name)), images_for(name, count).astype(np.float64)
    model = oracle(network)
    y = (model.logits(x).argmax(axis=1) + (np.arange(count) == 3)) % CLASSES
    ask = [{"attack": name, "limit": limit} for name in ("fgsm", "pgd") for limit in (0.1, 1.0)]
    said = asked(network, x, y, tmp_path, ask={"smallest": ask})["smallest"]
    for place, limit in enumerate((0.1, 1.0)):
        expected = along_gradient(model, x, y, limit).epsilons
        told = [math.inf if a[place]["epsilon"] is None else a[place]["epsilon"] for a in said]
        np.testing.assert_allclose(told, expected, rtol=0, atol=1e-12)
        assert told[3] == 0
        # Image by image, since each is the first of a dataset of its own.
        for at in range(count):
            alone = by_search(model, PGD(), x[at : at + 1], y[at : at + 1], limit).epsilons[0]
            found = said[at][2 + place]["epsilon"]
            assert (math.inf if found is None else found) == pytest.approx(alone, abs=1e-9)


@pytest.mark.parametrize("name", ["mlp", "mlp-unsaid", "cnn-first", "cnn-last", "odd"])
def test_maps_and_masks_are_the_harness_s(name, tmp_path):
    network, x = in_half(layered(name)), images_for(name, COUNT).astype(np.float64)
    model, y = oracle(network), np.arange(COUNT) % CLASSES
    ask = [{"method": method, "top": top} for method in MAPS for top in (0.15, 0.0375, 0.9)]
    said = asked(network, x, y, tmp_path, ask={"explain": ask})["explain"]
    axis = network.architecture.channel_axis
    for place, options in enumerate(ask):
        expected = METHODS[options["method"]](model, x, y, one_in_all_places(COUNT))
        found = np.array([answers[place]["map"] for answers in said])
        alike(found, expected, 1e-11)
        scores = pixel_scores(found.reshape(x.shape), axis)
        alike([answers[place]["scores"] for answers in said], scores)
        masks = [answers[place]["mask"] for answers in said]
        np.testing.assert_array_equal(masks, top_pixels(scores, options["top"]).reshape(COUNT, -1))


def random_network(seed):
    """A few layers of random sizes that fit each other."""
    random = np.random.default_rng(seed)

    def pick(low, high):
        return int(random.integers(low, high + 1))

    def conv(channels):
        kernel = (pick(1, 3), pick(1, 3))
        padding = tuple((pick(0, 2), pick(0, 2)) for _ in kernel)
        return Conv(channels, kernel, (pick(1, 2), pick(1, 2)), padding)

    depth, sides = pick(1, 3), (pick(8, 11), pick(8, 11))
    shape, axis = [(sides, None), ((depth, *sides), 0), ((*sides, depth), 2)][pick(0, 2)]
    pool = [
        MaxPool((3, 2), (pick(1, 2), 2), ((pick(0, 2), pick(0, 2)), (pick(0, 1), 0))),
        MeanPool((2, pick(1, 2)), (1, pick(1, 2))),
    ][pick(0, 1)]
    channels = pick(1, 4)
    inner = Residual((Conv(channels, (3, 3), padding=((1, 1), (1, 1))), ReLU()))
    begin = [(ReLU(), pool), (pool,)][pick(0, 1)]
    layers = (conv(pick(1, 4)), *begin, conv(channels), inner, Flatten(), Dense(6), ReLU())
    architecture = Architecture(shape, (*layers, Dense(CLASSES)), CLASSES, axis)
    return in_half(Network(architecture, initial_weights(architecture, seed)))


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_have_numpys_logits_and_the_slopes_of_finite_differences(seed, tmp_path):
    network, random = random_network(seed), np.random.default_rng([seed, 1])
    x = random.random((1, *network.architecture.input_shape))
    way, size = random.normal(size=x.shape), 1e-6
    flow = random.normal(size=(3, CLASSES))
    flow[:] = flow[0]
    three = np.concatenate([x, x + size * way, x - size * way])
    said = asked(network, three, np.zeros(3, int), tmp_path, flow=flow.tolist(), bounds=(-9, 9))
    alike(said["logits"], oracle(network).logits(three))
    rise = (np.array(said["logits"][1]) - said["logits"][2]) @ flow[0] / (2 * size)
    slope = np.array(said["gradients"][0]) @ way.reshape(-1)
    assert slope == pytest.approx(rise, rel=1e-5, abs=1e-7)


def test_equal_values_of_a_window_give_the_gradient_to_the_first(tmp_path):
    """Of [[3, 3], [1, 3]] the first 3 has it; with no number above zero a ReLU has none."""
    layers = (MaxPool((2, 2), (2, 2)), ReLU(), Flatten())
    architecture = Architecture((2, 4), layers, 2)
    x = np.array([[[3.0, 3.0, 0.0, -1.0], [1.0, 3.0, -2.0, 0.0]]])
    said = asked(
        Network(architecture, {}), x, np.array([0]), tmp_path, flow=[[5.0, 7.0]], bounds=(-3, 3)
    )
    assert said["logits"] == [[3, 0]]
    assert said["gradients"] == [[5, 0, 0, 0, 0, 0, 0, 0]]


def test_logits_that_hardly_differ_are_scaled_as_in_the_harness(tmp_path):
    """A nearly uniform softmax, dead classes, and ties of the other classes."""
    random = np.random.default_rng(3)
    for number, classes in enumerate((2, 3, 10)):
        architecture = Architecture((4,), (Dense(classes),), classes)
        weights = {
            "layers.0.weight": random.normal(0, 1e-3, (classes, 4)).astype(np.float32),
            "layers.0.bias": np.where(np.arange(classes) == 2, -3.0, 0.01).astype(np.float32),
        }
        network = in_half(Network(architecture, weights))
        x, y = random.random((8, 4)), np.arange(8) % 2
        ask = {"attack": [{"attack": "fgsm", "epsilon": 0.1}]}
        folder = tmp_path / str(number)
        folder.mkdir()
        said = asked(network, x, y, folder, ask=ask)["attack"]
        model = oracle(network)
        (expected,) = FGSM().perturb(model, x, y, [0.1], index=one_in_all_places(8))
        np.testing.assert_allclose([a["image"] for (a,) in said], expected, rtol=0, atol=1e-15)
