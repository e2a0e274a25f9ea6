"""What a spec says of certificates: sweeps, and what is expected of them; nothing if unsaid."""

import pytest

from harness.errors import SpecError
from harness.spec.expect import ExpectSpec
from harness.spec.measures import CertifiedSpec
from harness.spec.reading import load_spec, parse_spec, spec_names
from harness.spec.spec import Spec
from harness.spec.units import in_pixel_units

SPEC = """\
name = "toy"
backends = ["numpy"]
[data]
name = "digits"
[attacks.fgsm]
epsilons = [0.1]
[certified.crown]
epsilons = [0.0, 0.1]
images = 20
intermediate = "ibp"
[certified.loose]
certifier = "ibp"
epsilons = [0.05]
[models.mlp]
hidden = [8]
[models.mlp.training]
epochs = 1
[models.mlp.expect]
clean = [0.5, 1.0]
[models.mlp.expect.certified.crown]
"0.1" = [0.2, 1.0]
"""


def test_certificates_are_swept_as_attacks_are_and_have_options_of_their_own():
    spec = parse_spec(SPEC, "f.toml")
    crown, loose = spec.certified["crown"], spec.certified["loose"]
    assert (crown.epsilons, crown.images, crown.certifier) == ((0.0, 0.1), 20, None)
    assert crown.options == {"intermediate": "ibp"}
    assert (loose.certifier, loose.images, loose.options) == ("ibp", None, {})
    assert spec.models["mlp"].expect.certified == {"crown": {0.1: (0.2, 1.0)}}
    assert Spec.model_validate_json(spec.model_dump_json(), strict=True) == spec


def test_a_spec_without_certificates_says_nothing_of_them_so_that_its_hash_stays():
    for name in spec_names():
        spec = load_spec(name)
        if not spec.certified:
            assert "certified" not in spec.model_dump(mode="json")
    text = SPEC.partition("[certified")[0] + "[models.mlp]" + SPEC.partition("[models.mlp]")[2]
    without = parse_spec(text.partition("[models.mlp.expect.certified")[0], "f.toml")
    said = without.model_dump(mode="json")
    assert "certified" not in said
    assert "certified" not in said["models"]["mlp"]["expect"]
    assert without.sha256 != parse_spec(SPEC, "f.toml").sha256


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ("[0.0, 0.1]", "[0.1, 0.0]", "certified.crown: epsilons must increase"),
        ("[0.0, 0.1]", "[-0.1, 0.1]", "certified.crown.epsilons."),
        ("[0.0, 0.1]", "[]", "certified.crown.epsilons: "),
        ("images = 20", "images = 0", "certified.crown.images: "),
        ("[certified.crown]", "[certifed.crown]", "certifed: unknown key; did you mean certified?"),
        ("[certified.crown]", '[certified."a/b"]', "certified.a/b: 'a/b' cannot be a name"),
        ('"0.1" =', '"0.2" =',
         "models.mlp.expect.certified.crown: epsilon 0.2 is not in the sweep"),
        ("expect.certified.crown", "expect.certified.ibp",
         "models.mlp.expect.certified.ibp: there is no [certified.ibp]"),
        ("[0.2, 1.0]", "[0.2, 0.1]",
         "models.mlp.expect: certified.crown.0.1: the range [0.2, 0.1] is empty"),
        ("[0.2, 1.0]", "[0.2, 1.1]", "models.mlp.expect.certified.crown.0.1."),
        ("[models.mlp]", "[gate.tolerances]\n'certified/crown@0.3' = 0.1\n[models.mlp]",
         "gate.tolerances.certified/crown@0.3: no such check; "),
        ("[models.mlp]", "[gate.tolerances]\ncrown = 0.1\n[models.mlp]",
         "gate.tolerances.crown: no such check; "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line_with_its_key(old, new, finding):
    with pytest.raises(SpecError) as error:
        parse_spec(SPEC.replace(old, new, 1), "f.toml")
    said = str(error.value)
    assert said.startswith(f"f.toml: {finding}"), said
    assert "\n" not in said


def test_the_gate_may_tolerate_more_of_a_certificate():
    text = SPEC + "[gate.tolerances]\n'certified/loose' = 0.2\n'certified/crown@0.1' = 0.1\n"
    gate = parse_spec(text, "f.toml").gate
    assert gate.tolerance_of("certified/loose", 0.05) == 0.2
    assert gate.tolerance_of("certified/crown", 0.1) == 0.1
    assert gate.tolerance_of("certified/crown", 0.0) == gate.tolerance


def test_epsilons_of_certificates_are_divided_by_their_unit_wherever_they_stand():
    text = SPEC.replace('name = "toy"', 'name = "toy"\nepsilon_unit = 10')
    text += "[gate.tolerances]\n'certified/crown@0.1' = 0.1\n"
    spec = parse_spec(text, "f.toml")
    assert spec.certified["crown"].epsilons == (0.0, 0.01)
    assert spec.certified["loose"].epsilons == (0.005,)
    assert spec.models["mlp"].expect.certified == {"crown": {0.01: (0.2, 1.0)}}
    assert spec.gate.tolerance_of("certified/crown", 0.01) == 0.1


@pytest.mark.parametrize("odd", [None, 3, "x", [], {"crown": 3}, {"crown": {"epsilons": "x"}}])
def test_what_is_no_section_is_left_for_validation_to_refuse(odd):
    said = {"epsilon_unit": 255, "certified": odd, "models": {"m": {"expect": {"certified": odd}}}}
    found = in_pixel_units(said)
    assert found["certified"] == odd
    assert found["models"]["m"]["expect"]["certified"] == odd


def test_a_certified_spec_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        CertifiedSpec(epsilons=(0.1,)).certifier = "crown"
    assert ExpectSpec().model_dump() == {"clean": None, "attacks": {}, "saliency_margin": 0.0}
