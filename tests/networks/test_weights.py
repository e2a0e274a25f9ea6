"""Weights in files of others, and which of them are those of which layer of a network."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

from harness import registry
from harness.maths.query import logits_of
from harness.networks.description import architecture_from, described
from harness.networks.families import ImageKind, architecture_of
from harness.networks.initial import initial_weights
from harness.networks.weights import WeightsError, network_of_file, read_weights
from harness.protocol import BN_EPSILON, Network

IMAGES = ImageKind.of((6, 6), 3)
CNN = {"channels": [2, 2], "padding": 0, "dense": [4, 4]}
SHAPES = {
    "features.conv1": (2, 1, 3, 3), "features.conv2": (2, 2, 3, 3), "fc1": (4, 8), "fc2": (4, 4),
    "fc10": (3, 4),
}  # fmt: skip
"""A foreign file of that network: 6 × 6 pixels become 4 × 4, then 2 × 2, of two channels."""


def drawn(shapes=SHAPES, seed=0, bias=True):
    random = np.random.default_rng(seed)
    made = {}
    for name, shape in shapes.items():
        made[f"{name}.weight"] = random.standard_normal(shape).astype(np.float32)
        if bias:
            made[f"{name}.bias"] = random.standard_normal(shape[:1]).astype(np.float32)
    return made


def stored(folder, tensors, **metadata):
    path = folder / "net.safetensors"
    save_file(tensors, path, metadata or None)
    return read_weights(path)


def put(folder, tensors, options=CNN, images=IMAGES, mapping=None, name="cnn"):
    architecture = architecture_of(name, options, images)
    return network_of_file(stored(folder, tensors), architecture, mapping)


def refusal(folder, tensors, **more):
    with pytest.raises(WeightsError) as error:
        put(folder, tensors, **more)
    said = str(error.value)
    assert said.startswith(f"{folder / 'net.safetensors'}: ")
    assert "\n" not in said
    return said.partition(": ")[2]


def test_layers_of_other_names_go_by_shape_and_among_equals_by_number(tmp_path):
    tensors = drawn()
    network = put(tmp_path, tensors)
    for number, path in enumerate(SHAPES):
        for part in ("weight", "bias"):
            np.testing.assert_array_equal(
                network.weights[f"layers.{number}.{part}"], tensors[f"{path}.{part}"]
            )


def test_numbers_count_as_numbers_not_as_text(tmp_path):
    shapes = {"net.8": (4, 36), "net.9": (4, 4), "net.10": (4, 4), "net.11": (3, 4)}
    tensors = drawn(shapes)
    network = put(tmp_path, tensors, {"hidden": [4, 4, 4]}, name="mlp")
    for number, path in enumerate(shapes):
        np.testing.assert_array_equal(
            network.weights[f"layers.{number}.weight"], tensors[f"{path}.weight"]
        )


@settings(max_examples=20, deadline=None)
@given(st.permutations(sorted(drawn())))
def test_the_order_in_a_file_says_nothing(tmp_path_factory, order):
    folder = tmp_path_factory.mktemp("order")
    tensors = drawn()
    network = put(folder, {name: tensors[name] for name in order})
    np.testing.assert_array_equal(network.weights["layers.4.weight"], tensors["fc10.weight"])


def test_names_that_do_not_tell_two_layers_of_one_shape_apart_are_refused(tmp_path):
    shapes = {"first": (4, 36), "left": (4, 4), "right": (4, 4), "last": (3, 4)}
    said = refusal(tmp_path, drawn(shapes), options={"hidden": [4, 4, 4]}, name="mlp")
    assert said == (
        "left, right are each 4 × 4, and their names do not tell which of them is layers.1 and "
        'which layers.2; say it, as in weights = { "layers.1" = "left", "layers.2" = "right" }'
    )


def test_what_is_said_of_them_counts(tmp_path):
    shapes = {"first": (4, 36), "left": (4, 4), "right": (4, 4), "last": (3, 4)}
    tensors = drawn(shapes)
    options = {"options": {"hidden": [4, 4, 4]}, "name": "mlp"}
    mapping = {"layers.1": "right", "layers.2": "left"}
    network = put(tmp_path, tensors, mapping=mapping, **options)
    np.testing.assert_array_equal(network.weights["layers.1.bias"], tensors["right.bias"])
    np.testing.assert_array_equal(network.weights["layers.2.bias"], tensors["left.bias"])
    for wrong, finding in (
        ({"layer.1": "left"}, "weights: layer.1: no such layer; *; did you mean layers.1?"),
        ({"layers.1": "lefd"}, "weights.layers.1: lefd: no such layer of the file; *mean left?"),
        ({"layers.1": "first"}, "first.weight is 4 × 36, and layers.1.weight (Dense) 4 × 4"),
    ):
        said = refusal(tmp_path, tensors, mapping=wrong, **options)
        start, _, end = finding.partition("*")
        assert said.startswith(start)
        assert said.endswith(end)


@pytest.mark.parametrize(
    ("shapes", "finding"),
    [
        (
            SHAPES | {"fc1": (4, 9)},
            "layers.2.weight (Dense) is 4 × 8, and no weight of the file is; fc1.weight is 4 × 9: "
            "check the architecture and its options, and that weights lie as PyTorch has them, "
            "(out, in) and (out, in, height, width)",
        ),
        (
            {name: shape for name, shape in SHAPES.items() if name != "fc2"},
            "layers.3.weight (Dense) is 4 × 4, and the file has no weight of that shape left",
        ),
        (
            SHAPES | {"head": (7, 4)},
            "head.weight (7 × 4) is of no layer of the network, which has 5 with weights, and the "
            "file 6",
        ),
        (
            SHAPES | {"fc3": (4, 4)},
            "fc2, fc3 are each 4 × 4, and the network has 1 such layer: layers.3",
        ),
    ],
)
def test_what_does_not_fit_is_said_with_both_shapes(tmp_path, shapes, finding):
    assert refusal(tmp_path, drawn(shapes)) == finding


def test_neutral_names_are_taken_as_they_are_and_must_fit(tmp_path):
    architecture = architecture_of("cnn", CNN, IMAGES)
    weights = initial_weights(architecture, 3)
    network = put(tmp_path, weights)
    assert network.weights.keys() == weights.keys()
    for name, value in weights.items():
        np.testing.assert_array_equal(network.weights[name], value)
    weights["layers.2.bias"] = np.zeros(5, np.float32)
    assert refusal(tmp_path, weights) == (
        "layers.2.bias: its shape is 5, and the network's layer has 4"
    )


def test_a_layer_without_a_bias_has_zeros(tmp_path):
    network = put(tmp_path, drawn(bias=False))
    assert not network.weights["layers.1.bias"].any()
    assert network.weights["layers.1.bias"].shape == (2,)


@pytest.mark.parametrize(
    ("layer", "norm"),
    [("conv1", "bn1"), ("body.0", "body.1"), ("a.conv", "a.norm"), ("fc", "bn")],
)
def test_batch_normalisation_is_folded_into_the_layer_that_it_follows(tmp_path, layer, norm):
    random = np.random.default_rng(1)
    tensors = drawn({layer: (5, 36), "out": (3, 5)})
    for part in ("weight", "bias", "running_mean", "running_var"):
        tensors[f"{norm}.{part}"] = random.uniform(0.5, 2, 5).astype(np.float32)
    tensors[f"{norm}.num_batches_tracked"] = np.array(7)
    network = put(tmp_path, tensors, {"hidden": [5], "batch_norm": True}, name="mlp")
    x = random.random((4, 36)).astype(np.float32)
    before = x @ tensors[f"{layer}.weight"].T + tensors[f"{layer}.bias"]
    spread = np.sqrt(tensors[f"{norm}.running_var"] + BN_EPSILON)
    after = (before - tensors[f"{norm}.running_mean"]) / spread
    after = after * tensors[f"{norm}.weight"] + tensors[f"{norm}.bias"]
    logits = np.maximum(after, 0) @ tensors["out.weight"].T + tensors["out.bias"]
    model = registry.builder("numpy").build(network)
    np.testing.assert_allclose(logits_of(model, x.reshape(4, 6, 6)), logits, rtol=1e-4, atol=1e-4)
    said = refusal(tmp_path, tensors, options={"hidden": [5]}, name="mlp")
    assert said.startswith(f"{norm}: batch normalisation, which the network has not after layers.0")


@pytest.mark.parametrize(("scale", "mean"), [(3e38, 0.0), (1e30, 1e30)])
def test_what_is_folded_must_be_finite(tmp_path, scale, mean):
    parts = {"weight": scale, "bias": 0.0, "running_mean": mean, "running_var": 1e-6}
    tensors = drawn({"fc": (5, 36), "out": (3, 5)})
    tensors |= {f"bn.{part}": np.full(5, value, np.float32) for part, value in parts.items()}
    said = refusal(tmp_path, tensors, options={"hidden": [5], "batch_norm": True}, name="mlp")
    assert said == "bn: folded into fc it makes numbers that are not finite in float32"


def test_columns_after_maps_are_of_the_channel_first_as_in_pytorch(tmp_path):
    """The same file gives the same logits on images with their channels at either end."""
    shapes = {"conv": (2, 3, 3, 3), "fc1": (5, 2 * 4 * 4), "fc2": (4, 5)}
    tensors = drawn(shapes)
    x = np.random.default_rng(2).random((6, 3, 6, 6)).astype(np.float32)
    options = {"channels": [2], "padding": 0, "dense": [5]}
    first = put(tmp_path, tensors, options, ImageKind((3, 6, 6), 4, 0))
    last = put(tmp_path, tensors, options, ImageKind((6, 6, 3), 4, 2))
    numpy = registry.builder("numpy")
    np.testing.assert_allclose(
        logits_of(numpy.build(last), np.ascontiguousarray(x.transpose(0, 2, 3, 1))),
        logits_of(numpy.build(first), x),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip
    np.testing.assert_array_equal(first.weights["layers.1.weight"], tensors["fc1.weight"])


def test_a_fully_connected_network_of_colour_images_likewise(tmp_path):
    tensors = drawn({"fc1": (5, 3 * 4 * 4), "fc2": (4, 5)})
    x = np.random.default_rng(2).random((6, 3, 4, 4)).astype(np.float32)
    first = put(tmp_path, tensors, {"hidden": [5]}, ImageKind((3, 4, 4), 4, 0), name="mlp")
    last = put(tmp_path, tensors, {"hidden": [5]}, ImageKind((4, 4, 3), 4, 2), name="mlp")
    numpy = registry.builder("numpy")
    np.testing.assert_allclose(
        logits_of(numpy.build(last), np.ascontiguousarray(x.transpose(0, 2, 3, 1))),
        logits_of(numpy.build(first), x),
        rtol=1e-5, atol=1e-5,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mlp", {"hidden": [4], "dropout": 0.5, "batch_norm": True}),
        ("cnn", CNN | {"pool": [2, 1], "padding": 1}),
        ("resnet", {"depth": 8, "width": 2}),
    ],
)
@pytest.mark.parametrize("images", [ImageKind((12, 12, 3), 4, 2), ImageKind.of((12, 12), 4)])
def test_what_is_exported_is_read_back_without_a_word(tmp_path, name, options, images):
    architecture = architecture_of(name, options, images)
    weights = initial_weights(architecture, 5)
    said = json.dumps(described(architecture.inference))
    assert architecture_from(json.loads(said)) == architecture.inference
    file = stored(tmp_path, weights, architecture=said)
    x = np.random.default_rng(0).random((3, *images.shape)).astype(np.float32)
    numpy = registry.builder("numpy")
    wanted = logits_of(numpy.build(Network(architecture, weights)), x)
    for given_architecture in (None, architecture):
        network = network_of_file(file, given_architecture)
        np.testing.assert_array_equal(logits_of(numpy.build(network), x), wanted)


def test_a_file_that_says_other_layers_than_the_spec_is_refused(tmp_path):
    architecture = architecture_of("cnn", CNN, IMAGES)
    said = json.dumps(described(architecture))
    file = stored(tmp_path, initial_weights(architecture, 5), architecture=said)
    other = architecture_of("cnn", CNN | {"dense": [4, 5]}, IMAGES)
    with pytest.raises(WeightsError, match=r"its layer 7 is Dense\(width=4\), and .* Dense\(w"):
        network_of_file(file, other)
    with pytest.raises(WeightsError, match=r"for images of 6 × 6, and these are of 7 × 7"):
        network_of_file(file, architecture_of("cnn", CNN, ImageKind.of((7, 7), 3)))


def test_weights_alone_are_of_no_network(tmp_path):
    with pytest.raises(WeightsError, match="does not say of which network; describe it in a spec"):
        network_of_file(stored(tmp_path, drawn()))


def broken(kind):
    whole = save(drawn())
    if kind == "truncated":
        return whole[:-20]
    if kind == "longer":
        return whole + b"more"
    if kind == "header":
        return struct.pack("<Q", 1 << 40) + whole[8:]
    return {"empty": b"", "text": b"no weights at all", "none": save({})}[kind]


@pytest.mark.parametrize("kind", ["truncated", "longer", "header", "empty", "text", "none"])
def test_a_file_that_is_not_whole_is_one_line(tmp_path, kind):
    path = tmp_path / "net.safetensors"
    path.write_bytes(broken(kind))
    with pytest.raises(WeightsError) as error:
        read_weights(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_other_types_of_numbers_become_float32_and_what_is_none_is_refused(tmp_path):
    tensors = drawn()
    half = {name: value.astype(np.float16) for name, value in tensors.items()}
    for name, value in stored(tmp_path, half).tensors.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, half[name].astype(np.float32))
    tensors["fc1.bias"][1] = np.nan
    with pytest.raises(WeightsError, match=r"fc1\.bias: holds numbers that are not finite"):
        stored(tmp_path, tensors)
    with pytest.raises(WeightsError, match=r"fc1\.bias: .* not finite in float32"):
        stored(tmp_path, drawn() | {"fc1.bias": np.full(4, 1e300)})
    with pytest.raises(WeightsError, match=r"fc1\.bias: bool are no weights"):
        stored(tmp_path, drawn() | {"fc1.bias": np.ones(4, bool)})
    with pytest.raises(WeightsError, match=r"fc1\.bias: int8 are no weights"):
        stored(tmp_path, drawn() | {"fc1.bias": np.ones(4, np.int8)})


def test_bfloat16_which_numpy_has_not_is_said(tmp_path):
    header = {"fc.weight": {"dtype": "BF16", "shape": [1, 1], "data_offsets": [0, 2]}}
    text = json.dumps(header).encode()
    path = tmp_path / "net.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"\x80\x3f")
    with pytest.raises(WeightsError, match=r"fc\.weight: .*save it in float32"):
        read_weights(path)


def test_a_hash_that_is_known_is_held_against_the_file(tmp_path):
    file = stored(tmp_path, drawn())
    assert read_weights(file.path, file.sha256.upper()).sha256 == file.sha256
    with pytest.raises(WeightsError, match=f"its SHA-256 is {file.sha256}, not {'0' * 64}"):
        read_weights(file.path, "0" * 64)


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("fc1.kernel", r"fc1\.kernel \(2\): names end in \.weight or \.bias"),
        ("scale", r"scale \(2\): names end in"),
        ("other.bias", "other: has a bias, and no weight"),
        ("bn.running_mean", "bn: has one of running_mean and running_var"),
    ],
)
def test_tensors_of_no_layer_are_refused(tmp_path, name, finding):
    with pytest.raises(WeightsError, match=finding):
        put(tmp_path, drawn() | {name: np.ones(2, np.float32)})


@pytest.mark.parametrize(
    "said",
    [
        "[]", "{", "[" * 2000 + "]" * 2000, '{"layers": []}',
        '{"input_shape": [6, 6], "classes": 3, "channel_axis": null, "layers": [{"kind": "Evil"}]}',
        '{"input_shape": [6, 6], "classes": true, "channel_axis": null, "layers": []}',
        '{"input_shape": [6, 6], "classes": 3, "channel_axis": null, "layers": '
        '[{"kind": "Flatten"}, {"kind": "Dense", "width": 1e9}]}',
        '{"input_shape": [6, 6], "classes": 3, "channel_axis": null, "layers": '
        '[{"kind": "Flatten"}, {"kind": "Dense", "width": 4}]}',
        '{"input_shape": [6, 6], "classes": 3, "channel_axis": null, "layers": '
        '[{"kind": "MaxPool", "size": [2], "stride": [2, 2], "padding": [[0, 0], [0, 0]]}]}',
    ],
)  # fmt: skip
def test_metadata_that_describe_no_network_are_one_line(tmp_path, said):
    with pytest.raises(WeightsError, match="what its metadata say of its layers is none"):
        stored(tmp_path, drawn(), architecture=said)
