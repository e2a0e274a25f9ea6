"""Layers by hand: shapes, names of weights, what does not fit, and values of small networks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from backends.numpy_backend import NumpyBackend
from harness.errors import SpecError
from harness.maths.objectives import ClassLogit
from harness.networks.families import ImageKind, architecture_of
from harness.protocol import (
    Architecture,
    ArchitectureError,
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    MeanPool,
    Network,
    ReLU,
    Residual,
    Scale,
    pooled_first,
)

SAME = ((1, 1), (1, 1))


def built(architecture: Architecture, **weights: object):
    named = {f"layers.{key[1:]}.{'weight' if key[0] == 'w' else 'bias'}": np.array(value, float)
             for key, value in weights.items()}  # fmt: skip
    return NumpyBackend().build(Network(architecture, named), dtype="float64")


def test_shapes_and_names_go_from_input_to_logits_branches_before_shortcuts():
    net = Architecture(
        (8, 8, 3),
        (
            Conv(4, (3, 3), padding=SAME), BatchNorm(), ReLU(),
            Residual((Conv(6, (3, 3), (2, 2), SAME), BatchNorm()), (Conv(6, (1, 1), (2, 2)),)),
            ReLU(), MaxPool((2, 2), (2, 2)), Dropout(0.1), Flatten(), Dense(2),
        ),
        2,
        channel_axis=2,
    )  # fmt: skip
    assert [place.after for place in net.placed] == [
        (4, 8, 8), (4, 8, 8), (4, 8, 8), (6, 4, 4), (6, 4, 4), (6, 2, 2), (6, 2, 2), (24,), (2,),
    ]  # fmt: skip
    assert net.weight_shapes() == {
        "layers.0.weight": (4, 3, 3, 3), "layers.0.bias": (4,),
        "layers.1.weight": (6, 4, 3, 3), "layers.1.bias": (6,),
        "layers.2.weight": (6, 4, 1, 1), "layers.2.bias": (6,),
        "layers.3.weight": (2, 24), "layers.3.bias": (2,),
    }  # fmt: skip
    assert net.weight_shapes() == net.inference.weight_shapes()


def test_a_norm_that_follows_no_linear_layer_is_a_scale_of_its_own():
    net = Architecture((4, 4), (Conv(2, (3, 3)), ReLU(), BatchNorm(), Flatten(), Dense(2)), 2)
    assert Scale() in net.inference.layers
    assert net.weight_shapes()["layers.1.weight"] == (2,)
    assert net.weight_shapes()["layers.2.weight"] == (2, 8)


def test_a_convolution_and_its_gradient_by_hand():
    net = Architecture((2, 3), (Conv(2, (1, 2)), Flatten(), Dense(2)), 2)
    # The two maps are left minus right, and right, of neighbouring pixels: of each row two.
    model = built(
        net, w0=[[[[1, -1]]], [[[0, 1]]]], b0=[0, 10],
        w1=[[1, 2, 3, 4, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0]], b1=[0, 0],
    )  # fmt: skip
    x = np.array([[[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]])
    # Left minus right: -1, -2, -8, -16; right: 2, ... plus 10.
    logits, gradient = model.logits_and_gradient(x, np.array([0]), ClassLogit())
    assert logits.tolist() == [[-1 - 4 - 24 - 64, 12.0]]
    assert gradient.tolist() == [[[1, -1 + 2, -2], [3, -3 + 4, -4]]]


def test_of_equal_values_the_first_of_a_window_gets_the_gradient():
    net = Architecture((2, 4), (MaxPool((2, 2), (2, 2)), Flatten(), Dense(2)), 2)
    model = built(net, w0=[[1, 10], [0, 0]], b0=[0, 0])
    x = np.array([[[3.0, 3.0, 0.0, 5.0], [3.0, 3.0, 5.0, 5.0]]])
    logits, gradient = model.logits_and_gradient(x, np.array([0]), ClassLogit())
    assert logits[0, 0] == 3 + 50
    assert gradient.tolist() == [[[1, 0, 0, 10], [0, 0, 0, 0]]]


def test_means_and_overlapping_windows_by_hand():
    net = Architecture((1, 3), (MeanPool((1, 2), (1, 1)), Flatten(), Dense(2)), 2)
    model = built(net, w0=[[2, 4], [0, 0]], b0=[0, 1])
    logits, gradient = model.logits_and_gradient(
        np.array([[[1.0, 3.0, 7.0]]]), np.array([0]), ClassLogit()
    )
    assert logits.tolist() == [[2 * 2 + 4 * 5, 1]]
    assert gradient.tolist() == [[[1, 3, 2]]]


def test_vectors_have_the_channel_where_images_have_it():
    layers = (Conv(2, (1, 1)), Flatten(), Dense(4))
    channels = np.eye(2)[:, :, None, None]
    identity = {"w0": channels, "b0": [0, 0], "w1": np.eye(4), "b1": [0] * 4}
    pixels = np.array([[[1.0, 2.0]], [[10.0, 20.0]]])  # channel, row, column
    first = built(Architecture((2, 1, 2), layers, 4, channel_axis=0), **identity)
    assert first.logits(pixels[None]).tolist() == [[1, 2, 10, 20]]
    last = built(Architecture((1, 2, 2), layers, 4, channel_axis=2), **identity)
    assert last.logits(np.moveaxis(pixels, 0, 2)[None]).tolist() == [[1, 10, 2, 20]]


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ((Dense(2),), ["layers[0] (Dense)", "1 × 4 × 4", "Flatten"]),
        ((Conv(2, (5, 5)), Flatten(), Dense(2)), ["layers[0] (Conv)", "5 × 5", "larger", "4 × 4"]),
        ((Flatten(), Conv(2, (1, 1)), Dense(2)), ["layers[1] (Conv)", "16"]),
        ((Flatten(), Dense(3)), ["end in 3", "2 classes"]),
        (
            (Residual((Conv(2, (3, 3)),)), Flatten(), Dense(2)),
            ["layers[0] (Residual)", "2 × 2 × 2", "1 × 4 × 4"],
        ),
        (
            (
                Residual(
                    (Conv(2, (1, 1)), MaxPool((9, 9), (1, 1))),
                ),
                Flatten(),
                Dense(2),
            ),
            ["layers[0].branch[1] (MaxPool)", "9 × 9"],
        ),
        ((Dropout(1.0), Flatten(), Dense(2)), ["layers[0] (Dropout)", "[0, 1)"]),
        ((Conv(2, (1, 1), (0, 1)), Flatten(), Dense(2)), ["stride", "0 × 1"]),
        ((Conv(0, (1, 1)), Flatten(), Dense(2)), ["channels of 0"]),
        ((Conv(1, (1, 1), padding=((-1, 0), (0, 0))), Flatten(), Dense(2)), ["negative"]),
    ],
)
def test_layers_that_do_not_fit_are_named_with_both_shapes(layers, words):
    with pytest.raises(ArchitectureError) as error:
        Architecture((4, 4), layers, 2)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("axis", [None, 1])
def test_images_whose_channels_are_not_known_go_to_no_convolution(axis):
    with pytest.raises(ArchitectureError, match="channel_axis"):
        Architecture((4, 4, 4), (Conv(2, (1, 1)), Flatten(), Dense(2)), 2, channel_axis=axis)
    Architecture((4, 4, 4), (Flatten(), Dense(2)), 2, channel_axis=axis)


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("cnn", {"channels": [4] * 9, "kernel": 5, "padding": 0}, ["5 × 5", "28 × 28", "layers["]),
        ("cnn", {"channels": [4, 5], "kernel": [3]}, ["kernel: 1 numbers for 2 convolutions"]),
        ("cnn", {"channels": [4, 5], "padding": [1, -1]}, ["padding.1: ", "(got -1)"]),
        ("cnn", {"channels": [4, 5], "kernel": [1.5, 3]}, ["kernel.0: ", "integer (got 1.5)"]),
        ("cnn", {"channels": [4], "stride": "x"}, ["stride: ", "integer (got 'x')"]),
        ("cnn", {"channels": []}, ["channels"]),
        ("cnn", {"channels": [4], "pool": 0}, ["pool"]),
        ("cnn", {}, ["channels"]),
        ("resnet", {"depth": 19}, ["depth: 19", "18", "6 n + 2"]),
        ("resnet", {"depth": 8, "widht": 3}, ["widht: unknown key", "width"]),
        ("cnnn", {"channels": [4]}, ["architecture", "cnn"]),
    ],
)
def test_options_that_cannot_be_are_one_line(name, given, words):
    with pytest.raises(SpecError) as error:
        architecture_of(name, given, ImageKind((28, 28), 10))
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_resnet_18_for_small_images_has_the_usual_size():
    net = architecture_of("resnet", {"depth": 18}, ImageKind((32, 32, 3), 10, 2))
    # 11,173,962 with the two of each batch normalisation, 4,800 pairs, one of which is a bias here.
    shapes = net.weight_shapes()
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 11_173_962 - 4_800
    assert net.placed[-3].before == (512, 4, 4)


def test_a_pool_swaps_places_with_the_relu_before_it_and_not_where_it_pads():
    pool, padded = MaxPool((2, 2), (2, 2)), MaxPool((2, 2), (2, 2), SAME)
    layers = (Conv(2, (1, 1)), ReLU(), pool, ReLU(), padded, Flatten(), Dense(2))
    placed = pooled_first(Architecture((8, 8), layers, 2).placed)
    assert [p.layer for p in placed] == [layers[0], pool, ReLU(), ReLU(), padded, *layers[5:]]
    assert [p.after for p in placed[:5]] == [(2, 8, 8), *[(2, 4, 4)] * 3, (2, 3, 3)]
    assert all(after.before == before.after for before, after in itertools.pairwise(placed))
