"""Specs: what ships loads, what is wrong is said in one line, and the hash is of the content."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from tiny_spec import tiny_spec

from harness.attacks.fgsm import FGSM
from harness.attacks.pgd import PGD
from harness.data import shape_of
from harness.errors import SpecError, one_line
from harness.evaluation.resolve import attack_of, open_spec
from harness.files import fingerprint
from harness.networks.families import ImageKind, architecture_of
from harness.spec.reading import load_spec, parse_spec, spec_names, suites_folder
from harness.spec.training import RECIPES, TrainingSpec

SPEC = """\
name = "toy"
seed = 3
backends = ["numpy", "torch"]

[data]
name = "digits"

[attacks.fgsm]
epsilons = [0.0, 0.1, 0.3]

[saliency]
top = 0.2

[models.mlp]
hidden = [16, 8]
dropout = 0.25

[models.mlp.training]
epochs = 2
learning_rate = 1e-2

[models.mlp.expect]
clean = [0.5, 1.0]
saliency_margin = 0.05

[models.mlp.expect.attacks.fgsm]
"0.1" = [0.0, 0.6]
"""
REORDERED = """
# The same, said in another order and spelling.
backends = [ "numpy", 'torch' ]   # the oracle first
seed = 0x3
data = { name = "digits" }
name = "toy"
saliency.top = 0.20
attacks.fgsm.epsilons = [0, 1e-1, 0.30]
[models.mlp]
expect = { saliency_margin = 5e-2, attacks = { fgsm = { "1e-1" = [0, 0.6] } }, clean = [0.5, 1] }
training = { learning_rate = 0.01, epochs = 2 }
dropout = 0.25
hidden = [16, 8]
"""


def edited(old, new):
    assert SPEC.count(old) == 1
    return SPEC.replace(old, new)


def test_the_specs_that_ship_load_by_name_and_by_path():
    assert {"digits", "mnist"} <= set(spec_names())
    for name in spec_names():
        spec = load_spec(name)
        assert spec.name == name
        assert 0.0 in spec.attacks["fgsm"].epsilons
        assert load_spec(str(suites_folder() / "specs" / f"{name}.toml")) == spec


@pytest.mark.parametrize("name", spec_names())
def test_the_networks_of_the_specs_that_ship_fit_their_images(name):
    spec = open_spec(name)
    # A copy of CIFAR-10 is somebody's own images, in the shape of the original.
    said = shape_of(spec.data.name or name.removesuffix("-jpeg"))
    assert said is not None
    for model in spec.models.values():
        made = architecture_of(model.architecture, model.options, ImageKind(*said))
        assert (made.input_shape, made.classes, made.channel_axis) == said


def test_a_spec_is_read_as_it_is_written(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(SPEC, encoding="utf-8")
    spec = load_spec(str(path))
    assert (spec.name, spec.seed, spec.backends) == ("toy", 3, ("numpy", "torch"))
    assert (spec.data.name, spec.data.split, spec.data.seed) == ("digits", "70-20-10", 0)
    assert spec.attacks["fgsm"].epsilons == (0.0, 0.1, 0.3)
    assert (spec.saliency.top, spec.saliency.random_draws) == (0.2, 5)
    model = spec.models["mlp"]
    assert model.options == {"hidden": [16, 8], "dropout": 0.25}
    assert (model.training.epochs, model.training.learning_rate) == (2, 0.01)
    assert model.expect.clean == (0.5, 1.0)
    assert model.expect.saliency_margin == 0.05
    assert model.expect.attacks == {"fgsm": {0.1: (0.0, 0.6)}}


# Files


def complaint(name_or_path):
    with pytest.raises(SpecError) as caught:
        load_spec(str(name_or_path))
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_an_unknown_name_lists_the_names():
    text = complaint("digts")
    assert text.startswith("digts: no such spec; the specs are ")
    assert all(name in text for name in spec_names())
    assert complaint("../specs/digits").startswith("../specs/digits: no such spec")


def test_a_missing_file_a_folder_and_bytes_that_are_no_text_are_named(tmp_path):
    absent, folder, binary = (tmp_path / f"{n}.toml" for n in ("absent", "folder", "binary"))
    folder.mkdir()
    binary.write_bytes(b"name = '\xff'")
    for path in (absent, folder, binary):
        assert complaint(path).startswith(f"{path}: cannot be read (")


def test_a_spec_that_is_wrong_names_its_file(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text(edited("seed = 3", "sead = 3"), encoding="utf-8")
    assert complaint(path) == f"{path}: sead: unknown key; did you mean seed?"


# Content


@pytest.mark.parametrize(
    "text",
    [
        "name = ",
        "name = 'a'\nname = 'b'",
        edited("[data]", "[data"),
        edited("seed = 3", "seed = 03"),
        edited("seed = 3", f"seed = {'9' * 5000}"),
    ],
)
def test_text_that_is_not_toml_is_refused(text):
    with pytest.raises(SpecError, match=r"^f\.toml: not valid TOML: [^\n]+$"):
        parse_spec(text, "f.toml")


EPSILONS = "epsilons = [0.0, 0.1, 0.3]"
WRONG = [
    # Unknown and missing keys
    ("seed = 3", "seeed = 3", "seeed: unknown key"),
    ("top = 0.2", "tpo = 0.2", "saliency.tpo: unknown key; did you mean top?"),
    # An unknown key comes before the one that is missing in its place, also where an attack's
    # options may have any name.
    ("hidden = [16, 8]", "hiden = [16, 8]",
     "models.mlp.hiden: unknown key; did you mean hidden?"),
    ("clean = [0.5, 1.0]", "cleen = [0.5, 1.0]",
     "models.mlp.expect.cleen: unknown key; did you mean clean?"),
    (EPSILONS, "epsilon = [0.0, 0.1, 0.3]",
     "attacks.fgsm.epsilon: unknown key; did you mean epsilons?"),
    ("hidden = [16, 8]", 'hidden = [16, 8]\narchitecure = "mlp"',
     "models.mlp.architecure: unknown key; did you mean architecture?"),
    (EPSILONS, "", "attacks.fgsm.epsilons: Field required"),
    ("seed = 3", "zzz = 3", "zzz: unknown key; check the spelling or remove it"),
    ("dropout = 0.25", "droput = 0.25", "models.mlp.droput: unknown key"),
    (EPSILONS, f"{EPSILONS}\nsteps = 4", "attacks.fgsm: steps: fgsm has no such option"),
    (EPSILONS, f"{EPSILONS}\nname = 'mine'", "attacks.fgsm: name: fgsm has no such option"),
    ('name = "toy"', "", "name: Field required"),
    ("clean = [0.5, 1.0]", "", "models.mlp.expect.clean: Field required"),
    # Wrong types: nothing is converted
    ('name = "toy"', "name = 3", "name: * (got 3)"),
    ("seed = 3", 'seed = "3"', "seed: * (got '3')"),
    ("seed = 3", "seed = true", "seed: * (got True)"),
    ("seed = 3", "seed = 3.5", "seed: * (got 3.5)"),
    ("seed = 3", "seed = 4294967296", "seed: *4294967296* (got 4294967296)"),
    ('name = "digits"', 'name = "digits"\nseed = 4294967296', "data.seed: * (got 4294967296)"),
    ("seed = 3", "seed = 2024-01-01", "seed: * (got '2024-01-01')"),
    ("epochs = 2", "epochs = true", "models.mlp.training.epochs: * (got True)"),
    ("1e-2", "true", "models.mlp.training.learning_rate: * (got True)"),
    ("1e-2", '"1e-2"', "models.mlp.training.learning_rate: * (got '1e-2')"),
    ("[16, 8]", "16", "models.mlp.hidden: * (got 16)"),
    ("[16, 8]", "[true]", "models.mlp.hidden.0: * (got True)"),
    ("[0.5, 1.0]", "[true, true]", "models.mlp.expect.clean.0: * (got True)"),
    ("[0.5, 1.0]", "0.5", "models.mlp.expect.clean: * (got 0.5)"),
    ("[0.5, 1.0]", "[0.5]", "models.mlp.expect.clean.1: Field required"),
    (EPSILONS, "epsilons = 0.1", "attacks.fgsm.epsilons: * (got 0.1)"),
    (EPSILONS, "epsilons = [false, 0.1]", "attacks.fgsm.epsilons.0: * (got False)"),
    (EPSILONS, 'epsilons = ["0.1"]', "attacks.fgsm.epsilons.0: * (got '0.1')"),
    # Values out of range
    ("seed = 3", "seed = -1", "seed: * (got -1)"),
    ('["numpy", "torch"]', "[]", "backends: * (got [])"),
    ("[16, 8]", "[]", "models.mlp.hidden: * (got [])"),
    ("[16, 8]", "[16, 0]", "models.mlp.hidden.1: * (got 0)"),
    ("dropout = 0.25", "dropout = 1.0", "models.mlp.dropout: * (got 1.0)"),
    ("dropout = 0.25", "dropout = nan", "models.mlp.dropout: * (got nan)"),
    ("epochs = 2", "epochs = 0", "models.mlp.training.epochs: * (got 0)"),
    ("1e-2", "0.0", "models.mlp.training.learning_rate: * (got 0.0)"),
    ("1e-2", "nan", "models.mlp.training.learning_rate: * (got nan)"),
    ("1e-2", "inf", "models.mlp.training.learning_rate: * (got inf)"),
    ("top = 0.2", "top = 0.0", "saliency.top: * (got 0.0)"),
    ("top = 0.2", "top = nan", "saliency.top: * (got nan)"),
    ("[0.5, 1.0]", "[0.5, 1.1]", "models.mlp.expect.clean.1: * (got 1.1)"),
    ("[0.5, 1.0]", "[-0.1, 1.0]", "models.mlp.expect.clean.0: * (got -0.1)"),
    ("[0.5, 1.0]", "[nan, 1.0]", "models.mlp.expect.clean.0: * (got nan)"),
    ("= 0.05", "= nan", "models.mlp.expect.saliency_margin: * (got nan)"),
    (EPSILONS, "epsilons = []", "attacks.fgsm.epsilons: * (got [])"),
    (EPSILONS, "epsilons = [-0.1, 0.1]", "attacks.fgsm.epsilons.0: * (got -0.1)"),
    (EPSILONS, "epsilons = [0.1, nan]", "attacks.fgsm.epsilons.1: * (got nan)"),
    (EPSILONS, "epsilons = [0.1, inf]", "attacks.fgsm.epsilons.1: * (got inf)"),
    (EPSILONS, "epsilons = [0.1, 0.1000001]", "attacks.fgsm: epsilons must differ in their first"),
    # What does not exist
    ('["numpy", "torch"]', '["numpy", "theano"]',
     "backends: theano: no such backend; the backends are torch, keras, jax, numpy"),
    ("[saliency]", "[attacks.fgms]\nepsilons = [0.1]\n[saliency]",
     "attacks.fgms: no such attack; the attacks are *, fgsm, *, pgd, "),
    ("[attacks.fgsm]", "[attacks.mine]\nepsilons = [0.1]\n[attacks.fgsm]",
     "attacks.mine: no such attack; the attacks are *"),
    ("[attacks.fgsm]", '[attacks.mine]\nattack = "pdg"\nepsilons = [0.1]\n[attacks.fgsm]',
     "attacks.mine: pdg: no such attack; the attacks are *"),
    # Options of attacks
    *(("[attacks.fgsm]", f"[attacks.pgd]\nepsilons = [0.1]\n{option}\n[attacks.fgsm]", finding)
      for option, finding in (
          ("steps = 0", "attacks.pgd: steps: * (got 0)"),
          ("steps = 2.5", "attacks.pgd: steps: * (got 2.5)"),
          ("steps = true", "attacks.pgd: steps: * (got True)"),
          ('steps = "9"', "attacks.pgd: steps: * (got '9')"),
          ("stepz = 9", "attacks.pgd: stepz: pgd has no such option; did you mean steps?"),
          ("rel_stepsize = nan", "attacks.pgd: rel_stepsize: * (got nan)"),
          ("rel_stepsize = 0.0", "attacks.pgd: rel_stepsize: * (got 0.0)"),
          ('start = "clear"', "attacks.pgd: start: * (got 'clear')"),
          ('losses = ["margin", "hinge"]', "attacks.pgd: losses.1: * (got 'hinge')"),
          ('losses = "margin"', "attacks.pgd: losses: * (got 'margin')"),
          ('target = "nearest"', "attacks.pgd: target: * (got 'nearest')"),
          ("images = 0", "attacks.pgd.images: * (got 0)"),
          ("images = true", "attacks.pgd.images: * (got True)"),
          ("attack = 3", "attacks.pgd.attack: * (got 3)"),
          ('attack = "strongest"\nmembers = ["pgd", "deepfool"]',
           "attacks.pgd: members: they bound their perturbations by different norms"),
      )),
    # Recipes
    ("epochs = 2", 'recipe = "fast"', "models.mlp.training.recipe: * (got 'fast')"),
    ("epochs = 2", "recipe = 3", "models.mlp.training.recipe: * (got 3)"),
    *(("epochs = 2", f'recipe = "{name}"',
       "models.mlp.training.adversary.epsilon: Field required")
      for name in ("fgsm-at", "pgd-at", "trades", "mart", "awp", "gradalign")),
    ("epochs = 2", 'recipe = "ibp"', "models.mlp.training.certified.epsilon: Field required"),
    ("epochs = 2", 'recipe = "ibp"\ncertified = {epsilon = 0.1, kappa = 1.0}',
     "models.mlp.training.certified.kappa: * (got 1.0)"),
    ("epochs = 2", 'recipe = "ibp"\ncertified = {epsilon = 0.1, steps = 3}',
     "models.mlp.training.certified.steps: unknown key*"),
    ("epochs = 2", 'recipe = "ibp"\ncertified = {epsilon = 0.1, warm_up = 0.3, ramp = 0.8}',
     "models.mlp.training.certified: warm_up and ramp are shares of one training: 0.3 + 0.8 is "
     "more than 1"),
    ("epochs = 2", 'recipe = "ibp"\ncertified = {epsilon = 0.1}\nadversary = {epsilon = 0.1, '
     "steps = 3, rel_stepsize = 0.5}",
     "models.mlp.training: adversary and certified are two defences; say one, with its recipe"),
    ("epochs = 2", 'recipe = "pgd-at"\nadversary = {epsilon = 0.0}',
     "models.mlp.training.adversary.epsilon: * (got 0.0)"),
    ("epochs = 2", 'recipe = "pgd-at"\nadversary = {epsilom = 0.1}',
     "models.mlp.training.adversary.epsilom: unknown key; did you mean epsilon?"),
    ("epochs = 2", 'recipe = "pgd-at"\nadversary = 3', "models.mlp.training.adversary: * (got 3)"),
    ("epochs = 2", 'recipe = "trades"\nadversary = {epsilon = 0.1, mart_lambda = 5}',
     "models.mlp.training.adversary: trades_beta and mart_lambda are of two losses; say one, with "
     "its recipe or pgd-at"),
    ("epochs = 2", 'recipe = "mart"\nadversary = {epsilon = 0.1, mart_lambda = 0.0}',
     "models.mlp.training.adversary.mart_lambda: * (got 0.0)"),
    ("epochs = 2", 'recipe = "awp"\nadversary = {epsilon = 0.1, weight_gamma = 1.0}',
     "models.mlp.training.adversary.weight_gamma: * (got 1.0)"),
    ("epochs = 2", 'recipe = "gradalign"\nadversary = {epsilon = 0.1, align_lambda = nan}',
     "models.mlp.training.adversary.align_lambda: * (got nan)"),
    ("epochs = 2", 'recipe = "gradalign"\nadversary = {epsilon = 0.1, start = "zero"}',
     "models.mlp.training.adversary.start: * (got 'zero')"),
    ("epochs = 2", "adversary = {epsilon = 0.1}",
     "models.mlp.training.adversary.steps: Field required (and 1 more)"),
    ("epochs = 2", 'augmentation = "affin"', "models.mlp.training.augmentation: * (got 'affin')"),
    ("epochs = 2", "averaging = 1.0", "models.mlp.training.averaging: * (got 1.0)"),
    ("epochs = 2", "label_smoothing = 1.0", "models.mlp.training.label_smoothing: * (got 1.0)"),
    ("epochs = 2", "weight_decay = nan", "models.mlp.training.weight_decay: * (got nan)"),
    # What contradicts itself
    (EPSILONS, "epsilons = [0.1, 0.1]", "attacks.fgsm: epsilons must increase*"),
    (EPSILONS, "epsilons = [0.3, 0.1]", "attacks.fgsm: epsilons must increase*"),
    ("[0.5, 1.0]", "[1.0, 0.5]", "models.mlp.expect: clean: the range [1, 0.5] is empty"),
    ("[0.0, 0.6]", "[0.7, 0.6]", "models.mlp.expect: attacks.fgsm.0.1: * [0.7, 0.6] is empty"),
    ('"0.1" =', '"0.2" =', "models.mlp.expect.attacks.fgsm: epsilon 0.2 is not in the sweep"),
    ('"0.1" =', '"low" =', "models.mlp.expect.attacks.fgsm.low: * (got 'low')"),
    ('"0.1" =', '"nan" =', "models.mlp.expect.attacks.fgsm.nan: * (got 'nan')"),
    ("expect.attacks.fgsm]", "expect.attacks.pgd]",
     "models.mlp.expect.attacks.pgd: there is no [attacks.pgd]"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "finding"), WRONG, ids=[f"{new or 'no ' + old}" for old, new, _ in WRONG]
)
def test_a_wrong_spec_is_refused_in_one_line_with_its_file_and_key(
    old, new, finding, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("f.toml").write_text(edited(old, new), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        open_spec("f.toml")
    pattern = re.escape(f"f.toml: {finding}").replace(r"\*", r"[^\n]*")
    assert re.match(pattern, str(caught.value))
    assert "\n" not in str(caught.value)


def test_ranges_of_one_point_and_an_epsilon_of_zero_are_allowed():
    spec = parse_spec(edited("[0.5, 1.0]", "[1, 1]"), "f.toml")
    assert spec.models["mlp"].expect.clean == (1.0, 1.0)


def test_of_several_findings_the_first_is_told_and_the_others_are_counted():
    text = edited("seed = 3", "seed = -1").replace("epochs = 2", "epochs = 0")
    with pytest.raises(SpecError, match=r"^f\.toml: seed: [^\n]* \(and 1 more\)$"):
        parse_spec(text, "f.toml")


def test_the_largest_seed_and_close_epsilons_are_allowed():
    spec = parse_spec(edited("seed = 3", "seed = 4294967295"), "f.toml")
    assert spec.seed == 2**32 - 1
    spec = parse_spec(edited(EPSILONS, "epsilons = [0.1, 0.100001]"), "f.toml")
    assert spec.attacks["fgsm"].epsilons == (0.1, 0.100001)


def test_an_attack_has_a_name_of_its_own_and_options_and_may_see_fewer_images():
    text = (
        'attack = "pgd"\nepsilons = [0.1]\nsteps = 7\nrel_stepsize = 0.25\n'
        "restarts = 3\nimages = 100\n"
        'losses = ["margin", "dlr"]\nstart = "random"\nseed = 5'
    )
    spec = parse_spec(edited("[saliency]", f"[attacks.hard]\n{text}\n[saliency]"), "f.toml")
    sweep = spec.attacks["hard"]
    assert attack_of(spec, "hard") == PGD(
        name="hard", steps=7, rel_stepsize=0.25, restarts=3, losses=("margin", "dlr"), seed=5
    )
    assert (sweep.epsilons, sweep.images) == ((0.1,), 100)
    assert attack_of(spec, "fgsm") == FGSM()
    assert spec.attacks["fgsm"].images is None
    assert type(spec).model_validate(spec.model_dump()).attacks == spec.attacks


def test_a_table_of_no_attacks_is_a_spec_without_attacks():
    text = edited("[attacks.fgsm]\n" + EPSILONS, "[attacks]").split("[models.mlp.expect.attacks")[0]
    assert parse_spec(text, "f.toml").attacks == {}
    with pytest.raises(SpecError, match=r"^f\.toml: attacks: Field required$"):
        parse_spec(text.replace("[attacks]", ""), "f.toml")


# Recipes


def training(text):
    return (
        parse_spec(edited("epochs = 2\nlearning_rate = 1e-2", text), "f.toml")
        .models["mlp"]
        .training
    )


def test_without_a_recipe_it_is_the_standard_one():
    found = training("")
    assert found == training('recipe = "standard"')
    assert (found.epochs, found.batch_size, found.schedule, found.patience) == (
        15, 128, "cosine", 5,
    )  # fmt: skip
    assert (found.weight_decay, found.averaging, found.augmentation) == (0, 0, "none")
    assert found.adversary is None


@pytest.mark.parametrize("name", RECIPES)
def test_a_named_recipe_fills_in_what_is_not_said(name):
    defences = {"adversary", "certified"} & set(RECIPES[name])
    said = "".join(f"\n{part} = {{epsilon = 0.25}}" for part in defences)
    found = training(f'recipe = "{name}"{said}')
    for key, value in RECIPES[name].items():
        if key not in defences:
            assert getattr(found, key) == value, key
    for part in ("adversary", "certified"):
        defence = getattr(found, part)
        assert (defence is not None) == (part in defences)
        for key, value in RECIPES[name].get(part, {}).items():
            assert getattr(defence, key) == value, key
        assert defence is None or defence.epsilon == 0.25
    assert found.recipe == name
    assert found.defends == bool(defences)


def test_what_is_said_wins_and_the_adversary_is_merged():
    found = training(
        'recipe = "trades"\nepochs = 3\nlabel_smoothing = 0.25\naugmentation = "none"\n'
        "adversary = {epsilon = 0.5, steps = 2}"
    )
    assert (found.epochs, found.label_smoothing, found.augmentation) == (3, 0.25, "none")
    assert found.weight_decay == RECIPES["trades"]["weight_decay"]
    assert found.adversary.model_dump() == {
        "epsilon": 0.5, "steps": 2, "rel_stepsize": 0.4, "trades_beta": 3.0, "ramp": 0.2,
    }  # fmt: skip


def test_the_recipes_are_not_changed_by_being_used():
    before = repr(RECIPES)
    training('recipe = "trades"\nadversary = {epsilon = 0.5, steps = 2}')
    assert repr(RECIPES) == before


@pytest.mark.parametrize(
    "text",
    [
        *(f'recipe = "{name}"\nadversary = {{epsilon = 0.5}}'
          for name in ("trades", "mart", "awp", "gradalign")),
        'recipe = "gradalign"\nadversary = {epsilon = 0.5, start = "random"}',
        'recipe = "awp"\nadversary = {epsilon = 0.5, mart_lambda = 2.0, steps = 3}',
        'recipe = "ibp"\ncertified = {epsilon = 0.5, kappa = 0.25}',
        'recipe = "accurate"', "",
    ],
)  # fmt: skip
def test_a_recipe_that_is_read_back_is_the_same(text):
    found = training(text)
    assert TrainingSpec.model_validate_json(found.model_dump_json()) == found


def test_what_an_adversary_does_not_do_is_not_in_its_dump():
    """So models that were trained before there was more to say are still found."""
    found = training('recipe = "fgsm-at"\nadversary = {epsilon = 0.25}')
    assert found.adversary.model_dump() == {
        "epsilon": 0.25, "steps": 1, "rel_stepsize": 1.25, "trades_beta": None, "ramp": 0.2,
    }  # fmt: skip


def test_what_is_not_to_be_certified_is_not_in_a_dump():
    assert "certified" not in training("").model_dump()
    found = training('recipe = "ibp"\ncertified = {epsilon = 0.5}')
    assert found.model_dump()["certified"] == {
        "epsilon": 0.5, "kappa": 0.5, "warm_up": 0.05, "ramp": 0.5,
    }  # fmt: skip


def test_none_says_nothing():
    said = {"recipe": "mart", "adversary": {"epsilon": 0.5, "mart_lambda": None}}
    assert TrainingSpec(**said).adversary.mart_lambda == 5.0


def test_losses_and_moved_weights_go_together():
    for recipe, more in (("awp", "trades_beta = 3"), ("mart", "weight_gamma = 0.01")):
        found = training(f'recipe = "{recipe}"\nadversary = {{epsilon = 0.5, {more}}}').adversary
        assert found.weight_gamma
        assert found.trades_beta or found.mart_lambda


# Hash and immutability


def test_the_hash_depends_on_what_is_said_and_not_on_how():
    spec, again = parse_spec(SPEC, "a.toml"), parse_spec(REORDERED, "b.toml")
    assert spec == again
    assert spec.sha256 == again.sha256
    assert re.fullmatch(r"[0-9a-f]{64}", spec.sha256)
    # A default that is spelled out says nothing new.
    explicit = edited("[data]\n", '[data]\nsplit = "70-20-10"\n')
    assert parse_spec(explicit, "c.toml").sha256 == spec.sha256


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed = 3", "seed = 4"),
        ('["numpy", "torch"]', '["torch", "numpy"]'),
        ('name = "digits"', 'name = "mnist"'),
        ("0.1, 0.3]", "0.1, 0.31]"),
        (EPSILONS, f"{EPSILONS}\nimages = 9"),
        (EPSILONS, f"{EPSILONS}\nnorm = 'l2'"),
        (EPSILONS, f"{EPSILONS}\nattack = 'pgd'"),
        (EPSILONS, f"{EPSILONS}\nattack = 'pgd'\nsteps = 3"),
        ("top = 0.2", "top = 0.21"),
        ("[16, 8]", "[8, 16]"),
        ("epochs = 2", "epochs = 3"),
        ("epochs = 2", 'epochs = 2\nrecipe = "accurate"'),
        ("epochs = 2", "epochs = 2\naveraging = 0.9"),
        ("dropout = 0.25", "dropout = 0.25\nbatch_norm = true"),
        ("[0.0, 0.6]", "[0.0, 0.61]"),
        ("saliency_margin = 0.05", ""),
    ],
)
def test_every_value_changes_the_hash(old, new):
    changed = parse_spec(edited(old, new), "f.toml")
    assert changed.sha256 != parse_spec(SPEC, "f.toml").sha256


def test_the_hash_of_a_run_is_that_of_its_spec():
    spec = parse_spec(SPEC, "f.toml")
    stored = spec.model_dump(mode="json")
    assert fingerprint(dict(reversed(stored.items()))) == spec.sha256


def test_a_spec_cannot_be_changed():
    spec = parse_spec(SPEC, "f.toml")
    for part, key in (
        (spec, "seed"),
        (spec.data, "seed"),
        (spec.attacks["fgsm"], "epsilons"),
        (spec.saliency, "top"),
        (spec.models["mlp"].training, "epochs"),
        (spec.models["mlp"].expect, "clean"),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(part, key, getattr(part, key))


def test_messages_are_squeezed_onto_one_line_of_bounded_length():
    assert one_line("a\n  b\tc ") == "a b c"
    assert one_line(ValueError()) == "ValueError"
    long = one_line("x " * 1000)
    assert len(long) == 500
    assert long.endswith("…")


def test_no_attack_takes_the_name_of_the_clean_accuracy():
    text = tiny_spec() + '\n[attacks.clean]\nattack = "fgsm"\nepsilons = [0.1]\n'
    with pytest.raises(SpecError, match=r"^s.toml: attacks.clean: .* rename it"):
        parse_spec(text, "s.toml")
