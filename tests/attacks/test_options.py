"""Options of attacks in a run: all of them, as plain data; and how the gate compares them."""

from __future__ import annotations

import enum
import json
import re
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from typing import ClassVar

import numpy as np
import pytest
from gate_runs import row_of
from small_models import small_images, small_net

import harness
from harness.attacks import ATTACKS, make_attack
from harness.attacks.options import options_of
from harness.attacks.pgd import MIM, PGD
from harness.evaluation.benchmark import Benchmark
from harness.gate import Baseline, compare, store
from harness.gate.settings import differences
from harness.spec.reading import load_spec, suites_folder


def spec_of(attack, **section):
    return {"name": "digits", "attacks": {attack.name: {"options": options_of(attack), **section}}}


NO_OPTIONS = {"name", "eot", "home", "_opened"}
"""What the records call an attack, a mean over one draw, where a source is looked for, and it."""
CALLED = {"attack": "method"}
"""What is told under another name, because ``attack`` says which attack it is itself."""


@pytest.mark.parametrize("name", ATTACKS)
def test_every_option_of_every_attack_is_there_as_plain_data(name):
    attack = make_attack(name)
    options = options_of(attack)
    assert json.loads(json.dumps(options, allow_nan=False)) == options
    fields = {part.name for part in fields_of(attack)} - NO_OPTIONS
    assert set(options) == {CALLED.get(field, field) for field in fields} | {"attack"}


def test_options_by_hand():
    assert options_of(PGD(name="mine", steps=2)) == {
        "attack": "PGD", "norm": "linf", "steps": 2, "restarts": 1, "start": "random",
        "losses": list(PGD().losses), "target": "none", "targets": 9, "seed": 0,
        "rel_stepsize": 1.25,
    }  # fmt: skip
    members = options_of(make_attack("strongest", options={"members": ["fgsm", "pgd"]}))["members"]
    assert members == {"fgsm": options_of(make_attack("fgsm")), "pgd": options_of(PGD())}


# Attacks of somebody else


class Norm(enum.Enum):
    LINF = "linf"


class Theirs:
    """With what a foreign attack may hold."""

    name = "theirs"

    def __init__(self):
        self.steps, self.norm, self.rate = np.int64(7), Norm.LINF, np.float32(0.5)
        self.shape, self.mask, self.table = (1, 2), np.ones(3), np.zeros((40, 40))
        self.net, self._secret, self.inner = object(), 1, PGD(steps=3)
        self.itself = self
        self.callback = print

    def perturb(self): ...

    @property
    def broken(self):
        raise RuntimeError


@dataclass
class TheirData:
    levels: list[float] = field(default_factory=lambda: [0.1, float("inf")])
    name: str = "data"


class Telling:
    def options(self):
        return {"steps": 5, "what": object()}


class Lying(Telling):
    steps: ClassVar[int] = 1

    def __init__(self):
        self.rel_stepsize = 2

    def options(self):
        raise RuntimeError("not now")


def test_a_foreign_attack_tells_its_plain_attributes_or_its_own_options():
    told = options_of(Theirs())
    json.dumps(told, allow_nan=False)
    assert told["attack"].endswith("test_options.Theirs")
    assert (told["steps"], told["norm"], told["rate"], told["shape"]) == (7, "linf", 0.5, [1, 2])
    assert told["mask"] == [1.0, 1.0, 1.0]
    assert told["table"].startswith("float64 (40, 40) ")
    assert told["inner"]["steps"] == 3
    assert told["callback"] == "print"
    assert told["(not compared)"] == ["broken", "net"]
    assert not {"_secret", "secret", "name"} & set(told)
    assert options_of(TheirData())["levels"] == [0.1, "inf"]
    assert options_of(Telling())["steps"] == 5
    assert options_of(Lying())["rel_stepsize"] == 2


# In runs and gates


def test_evaluate_stores_them_and_a_baseline_of_40_steps_is_no_baseline_of_2():
    x, y = small_images(60)
    model = small_net()
    runs = [
        harness.evaluate(model, x, y, [PGD(steps=steps), "fgsm"], [0.1]) for steps in (40, 2, 40)
    ]
    assert runs[0].spec["attacks"]["pgd"]["options"]["steps"] == 40
    baseline = Baseline.of(runs[0])
    row = row_of(compare(runs[1], baseline), "numpy model pgd eps=0.1")
    assert (row.verdict, row.detail) == (
        "incomparable",
        "attacks.pgd.rel_stepsize is 1.25, was 0.0625, attacks.pgd.steps is 2, was 40",
    )
    assert all(row.verdict == "unchanged" for row in compare(runs[2], baseline).rows)


def test_two_attacks_of_one_name_and_different_classes_differ():
    old, new = spec_of(PGD(name="mine")), spec_of(MIM(name="mine"))
    assert differences(old, new, "mine") == "attacks.mine.attack is MIM, was PGD"


def test_a_member_of_an_ensemble_that_changed_is_named():
    old, new = make_attack("strongest"), make_attack("strongest")
    changed = spec_of(new)
    changed["attacks"]["strongest"]["options"]["members"]["pgd"]["steps"] = 3
    told = differences(spec_of(old), changed, "strongest")
    assert told == "attacks.strongest.members.pgd.steps is 3, was 40"
    fewer = spec_of(make_attack("strongest", options={"members": ["fgsm", "pgd"]}))
    assert "attacks.strongest.members.square" in differences(spec_of(old), fewer, "strongest")


def test_another_number_of_images_is_named():
    told = differences(spec_of(PGD(), images=500), spec_of(PGD()), "pgd")
    assert told == "attacks.pgd.images is None, was 500"


# Baselines that know less


@dataclass(frozen=True, kw_only=True)
class Later(type(make_attack("fgsm"))):
    """An attack that got an option, and changed a default."""

    name: str = "later"
    flavour: str = "new"
    depth: int = 3
    BEFORE: ClassVar = {"flavour": "old"}


@pytest.fixture
def later(monkeypatch):
    monkeypatch.setattr(Later, "__module__", "harness.attacks.later")
    monkeypatch.setitem(ATTACKS, "later", Later)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "section",
    [
        {"epsilons": [0.1]},  # a baseline that holds only what the spec said
        {"options": {"attack": "Later", "norm": "linf"}},  # one of before there were these options
    ],
)
def test_an_option_that_a_baseline_does_not_know_has_the_value_of_before_or_the_default(section):
    old = {"attacks": {"later": section}}
    assert differences(old, spec_of(Later(flavour="old")), "later") == ""
    assert differences(old, spec_of(Later()), "later") == "attacks.later.flavour is new, was old"
    told = differences(old, spec_of(Later(flavour="old", depth=4)), "later")
    assert told == "attacks.later.depth is 4, was 3"


@pytest.mark.usefixtures("later")
def test_what_an_older_spec_said_counts():
    old = {"attacks": {"x": {"epsilons": [0.1], "attack": "later", "flavour": "odd"}}}
    told = differences(old, spec_of(Later(name="x", flavour="new")), "x")
    assert told == "attacks.x.flavour is new, was odd"


def test_of_a_foreign_attack_an_older_baseline_knows_nothing():
    old = {"attacks": {"theirs": {"epsilons": [0.1]}}}
    assert differences(old, spec_of(Theirs()), "theirs") == ""


def test_settings_that_were_left_out_have_their_defaults():
    assert differences({}, {"saliency": {"top": 0.15}}, "saliency/top") == ""
    told = differences({}, {"saliency": {"top": 0.2}}, "saliency/top")
    assert told == "saliency.top is 0.2, was 0.15"
    new = {"minimal": {"limit": 2.0}} | spec_of(PGD(steps=5, losses=("cross-entropy",)))
    told = differences({}, new, "minimal-epsilon/pgd")
    assert told == (
        "minimal.limit is 2.0, was 1.0, attacks.pgd.rel_stepsize is 0.5, was 0.0625, "
        "attacks.pgd.steps is 5, was 40"
    )


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_the_shipped_baselines_and_a_run_of_now_are_asked_the_same(name):
    """But for options of which a class says that the default changed."""
    baseline = Baseline.load(store.locate(suites_folder() / "baselines" / name))
    run = Benchmark(load_spec(name)).run
    for entry in baseline.runs[-1].records:
        told = differences(baseline.runs[-1].spec, run.spec, entry.check)
        changed = {key for attack in ATTACKS for key in getattr(make_attack(attack), "BEFORE", {})}
        assert set(re.findall(r"[\w.-]+\.(\w+) is ", told)) <= changed, told
