"""Somebody's weights in a spec: in a network that is described there."""

from __future__ import annotations

import pytest

from harness.errors import SpecError
from harness.evaluation.resolve import resolved
from harness.spec.own import WeightsSpec
from harness.spec.reading import parse_spec
from harness.spec.spec import Spec

SPEC = """
name = "theirs"
[data]
name = "mnist"
[models.net]
file = "net.safetensors"
architecture = "cnn"
channels = [4, 8]
pool = [2, 1]
weights = { "layers.0" = "conv1" }
preprocessing = { mean = 0.1, std = 0.3 }
[attacks.fgsm]
epsilons = [0.1]
"""


def test_weights_are_described_like_a_network_that_is_trained():
    spec = parse_spec(SPEC, "theirs.toml")
    net = spec.models["net"]
    assert isinstance(net, WeightsSpec)
    assert (net.architecture, net.described) == ("cnn", {"channels": [4, 8], "pool": [2, 1]})
    assert (net.weights, net.source) == ({"layers.0": "conv1"}, "net.safetensors")
    assert (spec.trained, list(spec.weights), net.defended) == ({}, ["net"], False)
    assert resolved(spec).models == spec.models


def test_a_dump_says_what_was_said_and_is_read_again():
    spec = parse_spec(SPEC, "theirs.toml")
    said = spec.model_dump(mode="json")["models"]["net"]
    assert set(said) == {"file", "architecture", "channels", "pool", "weights", "preprocessing"}
    assert Spec.model_validate_json(spec.model_dump_json(), strict=True) == spec


def test_a_file_may_say_its_layers_itself():
    plain = SPEC.replace('architecture = "cnn"\nchannels = [4, 8]\npool = [2, 1]\n', "")
    net = resolved(parse_spec(plain, "theirs.toml")).models["net"]
    assert isinstance(net, WeightsSpec)
    assert net.architecture is None


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("channels =", "chanels =", "models.net.chanels: unknown key; did you mean channels?"),
        ("weights =", "wieghts =", "models.net.wieghts: unknown key; did you mean weights?"),
        ('"cnn"', '"cnm"', "models.net.architecture: cnm: no such architecture; "),
        ("pool = [2, 1]", "pool = [2]", "models.net.pool: 1 numbers for 2 convolutions"),
        ("pool = [2, 1]", "pool = [99, 1]", "models.net.architecture: cnn for images of 28 × 28: "),
        ('"net.safetensors"', '"net.onnx"', "models.net: file: net.onnx is no .safetensors file"),
        ('"net.safetensors"', '"net.pth"', "models.net: file: net.pth is no .safetensors file"),
        ("pool = [2, 1]", 'sha256 = "abc"', "models.net.sha256: "),
        ("pool = [2, 1]", 'outputs = "logits"', "models.net: outputs: a network that is described"),
        ("pool = [2, 1]", "channel_axis = 0", "models.net: channel_axis: say it of the data"),
        ("pool = [2, 1]", "options = { pool = 2 }", "models.net: options: they are the argum"),
        ("pool = [2, 1]", 'load = "a:b"', "models.net: give one of load and file"),
        ("pool = [2, 1]", 'backend = "trch"', "models.net.backend: trch: no such backend"),
        ('architecture = "cnn"\n', "", "models.net: channels: is of an architecture; name that"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_that_names_the_key(old, new, finding):
    assert old in SPEC
    with pytest.raises(SpecError) as error:
        resolved(parse_spec(SPEC.replace(old, new), "theirs.toml"))
    assert str(error.value).removeprefix("theirs.toml: ").startswith(finding)
    assert "\n" not in str(error.value)


def test_a_model_that_is_trained_here_has_no_file():
    text = SPEC.replace(
        "weights =", "training = { epochs = 1 }\nexpect = { clean = [0, 1] }\nweights ="
    ).replace('name = "theirs"', 'name = "theirs"\nbackends = ["numpy"]')
    with pytest.raises(SpecError, match=r"models\.net\.file: unknown key"):
        resolved(parse_spec(text.replace("preprocessing", "#"), "theirs.toml"))
