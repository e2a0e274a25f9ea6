"""Specs of somebody's own models and data, and epsilons in another unit."""

from __future__ import annotations

import pytest

from harness.errors import SpecError
from harness.spec.reading import load_spec, parse_spec
from harness.spec.spec import Spec

OWN = """
name = "ours"
[data]
file = "test.npz"
bounds = [0.0, 1.0]
[models.net]
load = "package.models:load"
options = { checkpoint = "best.pt" }
preprocessing = { mean = [0.5, 0.4, 0.3], std = 0.25 }
[attacks.fgsm]
epsilons = [0, 8, 16]
"""
ONE = OWN.replace("mean = [0.5, 0.4, 0.3]", "mean = 0.5")


def test_an_own_model_needs_neither_training_nor_expectations_nor_backends():
    spec = parse_spec(ONE, "own.toml")
    net = spec.models["net"]
    assert (net.source, net.options, net.expect) == (
        "package.models:load", {"checkpoint": "best.pt"}, None,
    )  # fmt: skip
    assert (net.preprocessing.means, net.preprocessing.deviations) == ((0.5,), (0.25,))
    assert (spec.backends, spec.trained, spec.data.source) == ((), {}, "test.npz")


def test_a_dump_says_what_was_said_and_is_read_again():
    spec = parse_spec(ONE, "own.toml")
    said = spec.model_dump(mode="json")
    assert set(said["data"]) == {"file", "split", "seed"}
    assert set(said["models"]["net"]) == {"load", "options", "preprocessing"}
    assert Spec.model_validate_json(spec.model_dump_json(), strict=True) == spec


def test_what_nobody_says_of_own_models_is_not_in_the_hash_of_the_specs_that_ship():
    said = load_spec("digits").model_dump(mode="json")
    assert set(said["data"]) == {"name", "split", "seed"}
    assert not {"epsilon_unit", "device", "batch_size", "home"} & set(said)


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("load =", "laod =", "models.net.laod: unknown key; did you mean load?"),
        ('load = "package.models:load"', 'load = "package.models"',
         "models.net.load: 'package.models' is not package.module:function"),
        ('load = "package.models:load"', 'load = "a:b"\nfile = "net.onnx"',
         "models.net: give one of load and file"),
        ('load = "package.models:load"', 'file = "net.onnx"', "models.net: options: "),
        ("mean = 0.5", "mean = [0.5, 0.4]", "models.net.preprocessing: 2 means, but 1 deviations"),
        ("std = 0.25", "std = 0", "models.net.preprocessing.std: "),
        ('file = "test.npz"', 'file = "test.npz"\nname = "digits"', "data: give one of "),
        ('file = "test.npz"', 'name = "digits"', "data: bounds: is of own images"),
        ('file = "test.npz"', 'file = "a.npz"\nsplit = "canonical"', "data: split: own images"),
        ('file = "test.npz"', 'file = "a.npz"\nsize = [8, 8]', "data: size: is of the images"),
        ('file = "test.npz"', 'load = "a:b"\ntrain = "c"', "data: train: let the function"),
        ("bounds = [0.0, 1.0]", "bounds = [1.0, 0.0]", "data: bounds: "),
        ("bounds = [0.0, 1.0]", 'fil = "x"', "data.fil: unknown key; did you mean file?"),
        ('name = "ours"', 'name = "ours"\nepsilon_unit = "byte"', "epsilon_unit: "),
        ('name = "ours"', 'name = "ours"\nbatch_size = 0', "batch_size: "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_its_key(old, new, finding):
    with pytest.raises(SpecError) as error:
        parse_spec(ONE.replace(old, new, 1), "own.toml")
    assert str(error.value).startswith(f"own.toml: {finding}")
    assert "\n" not in str(error.value)


def test_epsilons_are_divided_by_their_unit_wherever_they_stand():
    text = ONE.replace('name = "ours"', 'name = "ours"\nepsilon_unit = 255').replace(
        "[attacks.fgsm]", "expect = { attacks = { fgsm = { 8 = [0.1, 0.9] } } }\n[attacks.fgsm]"
    )
    text += "[saliency]\nepsilon = 4\n[minimal]\nlimit = 51\n[gate.tolerances]\n'fgsm@16' = 0.1\n"
    spec = parse_spec(text, "own.toml")
    assert spec.attacks["fgsm"].epsilons == (0.0, 8 / 255, 16 / 255)
    assert spec.models["net"].expect.attacks == {"fgsm": {8 / 255: (0.1, 0.9)}}
    assert (spec.saliency.epsilon, spec.minimal.limit) == (4 / 255, 0.2)
    assert spec.gate.tolerance_of("fgsm", 16 / 255) == 0.1
    # Read again from a dump, they are in pixel units.
    assert Spec.model_validate_json(spec.model_dump_json(), strict=True).attacks == spec.attacks
