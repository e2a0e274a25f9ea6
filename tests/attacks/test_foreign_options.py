"""Attacks of somebody else: each option is in the run, the same in every process, and compared."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import os
import subprocess
import sys
import threading
import types
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from backends_at_hand import at_hand
from gate_runs import row_of
from small_models import small_images, small_net

import harness
from harness.attacks.fgsm import FGSM
from harness.attacks.options import options_of
from harness.attacks.pgd import PGD
from harness.gate import Baseline, compare
from harness.gate.settings import differences, uncompared


def one_loss(z, y=0):
    return z


def other_loss(z, y=0):
    return -z


def scaled(factor):
    def loss(z):
        return factor * z

    return loss


class Foreign:
    """An attack with whatever options it is given."""

    name, norm, requires = "mine", "linf", frozenset({"gradient"})

    def __init__(self, **options):
        self.__dict__.update(options)

    def perturb(self, *arguments, **named):
        return FGSM().perturb(*arguments, **named)


class Behind(Foreign):
    @property
    def steps(self):
        return self._count


class Argument(Foreign):
    def __init__(self, steps):
        self._steps = steps


class Slots(Foreign):
    __slots__ = ("steps",)

    def __init__(self, steps):
        self.steps = steps


class Fixed(Foreign):
    steps = 3


class FixedOtherwise(Foreign):
    steps = 4


class Static(Foreign):
    loss = staticmethod(one_loss)


class StaticOtherwise(Foreign):
    loss = staticmethod(other_loss)


for other in (FixedOtherwise, StaticOtherwise):
    other.__qualname__ = other.__mro__[0].__qualname__.removesuffix("Otherwise")


@dataclasses.dataclass
class Config:
    steps: int = 1
    more: Any = None


@dataclasses.dataclass
class Data:
    loss: Any = None
    steps: int = 3
    levels: list[float] = dataclasses.field(default_factory=lambda: [0.5])
    name: ClassVar[str] = "mine"
    norm: ClassVar[str] = "linf"
    requires: ClassVar[frozenset[str]] = frozenset()

    def perturb(self): ...


class Tensor:
    """What an array of a framework looks like."""

    def __init__(self, values):
        self.values = np.asarray(values)

    def __array__(self, dtype=None, copy=None):
        return self.values


def deep(value, levels):
    for _ in range(levels):
        value = {"in": value}
    return value


def of(value):
    return Foreign(option=value)


DIFFERENT = {
    "number": (of(2), of(3)),
    "long number": (of(10**5000), of(10**5000 + 1)),
    "long text": (of("a" * 10**6), of("a" * 10**6 + "b")),
    "function": (of(one_loss), of(other_loss)),
    "built-in function": (of(len), of(print)),
    "lambda": (of(lambda z: z), of(lambda z: -z)),
    "lambda of a constant": (of(lambda z: 2 * z), of(lambda z: 3 * z)),
    "closure": (of(scaled(1)), of(scaled(2))),
    "default": (of(lambda z, k=1: z * k), of(lambda z, k=2: z * k)),
    "method": (of([1].append), of(Config(2).__init__)),
    "method of another object": (of(Behind(_count=1).perturb), of(Behind(_count=2).perturb)),
    "partial": (of(functools.partial(one_loss, y=1)), of(functools.partial(one_loss, y=2))),
    "type": (of(int), of(float)),
    "module": (of(json), of(os)),
    "path": (of(Path("a")), of(Path("b"))),
    "range": (of(range(3)), of(range(4))),
    "bytes": (of(b"a"), of(b"b")),
    "complex": (of(1j), of(2j)),
    "set": (of({1, 2}), of({1, 3})),
    "array": (of(np.zeros(100)), of(np.ones(100))),
    "array of texts": (of(np.array(["a", "b"])), of(np.array(["a", "c"]))),
    "array of a framework": (of(Tensor(np.zeros(99))), of(Tensor(np.ones(99)))),
    "long list": (of([0] * 99 + [1]), of([0] * 99 + [2])),
    "list of objects": (of([Config(1)] * 99), of([Config(2)] * 99)),
    "keys of two types": (of({1: 2, "1": 3}), of({1: 3, "1": 2})),
    "empty and not": (of({}), of({"a": 1})),
    "named tuple": (of(sys.version_info), of(sys.version_info[:2])),
    "deep": (of(deep(1, 5)), of(deep(2, 5))),
    "very deep": (of(deep(1, 30)), of(deep(2, 30))),
    "dataclass": (of(Config(1)), of(Config(2))),
    "dataclass in one": (of(Config(1, Config(1))), of(Config(1, Config(2)))),
    "namespace": (of(types.SimpleNamespace(a=1)), of(types.SimpleNamespace(a=2))),
    "queue": (of(collections.deque([1])), of(collections.deque([2]))),
    "dtype": (of(np.dtype("f4")), of(np.dtype("f8"))),
    "none": (of(None), of(1)),
    "attack": (of(PGD(steps=2)), of(PGD(steps=3))),
    "called as we call the class": (Foreign(attack="fgsm"), Foreign(attack="pgd")),
    "behind a property": (Behind(_count=2), Behind(_count=3)),
    "private argument": (Argument(2), Argument(3)),
    "slot": (Slots(2), Slots(3)),
    "attribute of the class": (Fixed(), FixedOtherwise()),
    "function of the class": (Static(), StaticOtherwise()),
    "field": (Data(one_loss), Data(other_loss)),
    "field that was not set": (Data(), Data(loss=one_loss)),
    "only on one side": (Foreign(), Foreign(loss=one_loss)),
    "only on the other": (Foreign(loss=None), Foreign()),
}


def spec_of(attack):
    return {"attacks": {"mine": {"options": json.loads(json.dumps(options_of(attack)))}}}


@pytest.mark.parametrize("case", DIFFERENT)
def test_another_option_is_a_difference(case):
    old, new = map(spec_of, DIFFERENT[case])
    assert "attacks.mine." in differences(old, new, "mine")
    assert "attacks.mine." in differences(new, old, "mine")
    assert differences(old, old, "mine") == ""


@pytest.mark.parametrize(
    ("torch_value", "other"), [("zeros(3)", "ones(3)"), ("zeros(99)", "ones(99)"),
                               ("float32", "float64"), ("relu", "tanh")]
)  # fmt: skip
def test_of_a_framework(torch_value, other):
    at_hand("torch")  # or skipped, or failed where it must be there
    import torch

    one, two = (eval(f"torch.{text}", {"torch": torch}) for text in (torch_value, other))  # noqa: S307
    assert differences(spec_of(of(one)), spec_of(of(two)), "mine")
    same = eval(f"torch.{torch_value}", {"torch": torch})  # noqa: S307
    assert differences(spec_of(of(one)), spec_of(of(same)), "mine") == ""


def test_a_loss_of_a_framework_is_told_and_its_network_is_not_compared():
    at_hand("torch")  # or skipped, or failed where it must be there
    import torch

    losses = [torch.nn.CrossEntropyLoss(label_smoothing=share) for share in (0.0, 0.1)]
    old, new = (spec_of(of(loss)) for loss in losses)
    assert "label_smoothing is 0.1, was 0.0" in differences(old, new, "mine")
    old, new = (spec_of(of(functools.partial(one_loss, torch.nn.Linear(k, 2)))) for k in (2, 3))
    assert differences(old, new, "mine") == ""
    told = uncompared(old, new, "mine")
    assert told == "mine has options that cannot be compared: option.arguments[0]"


STABLE = """
import functools, json, threading, types
import numpy as np
from harness.attacks.options import options_of
class Mine:
    name = "mine"
    def perturb(self): ...
    def method(self): ...
attack = Mine()
attack.option = {"a": {"x", "y", "z"}, "b": [object(), threading.Lock(), (n for n in [1])],
    "c": lambda z: z in {"p", "q", "r"}, "d": functools.partial(print, {"s", "t"}),
    "e": types.SimpleNamespace(f=attack.method, g=frozenset({"k", "l"})), "h": attack,
    "i": np.random.default_rng(), "j": np.arange(1000), "k": iter([1]), "l": {("a", "b"): 1}}
print(json.dumps(options_of(attack)))
"""


def test_an_unchanged_attack_tells_the_same_in_every_process():
    told = {
        subprocess.run(
            [sys.executable, "-c", STABLE], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        ).stdout
        for seed in (1, 2, 3)
    }  # fmt: skip
    assert len(told) == 1
    assert "0x" not in told.pop()


class Endless(dict):
    def items(self):
        return ((n, n) for n in iter(int, 1))


class Hostile:
    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise ValueError


ODD = {
    "object": object,
    "endless iterator": lambda: iter(int, 1),
    "endless mapping": Endless,
    "hostile": Hostile,
    "deep": lambda: deep(1, 2000),
    "lock": threading.Lock,
    "half a pair": lambda: {"\ud800": Path("\udcff"), "a": "\ud800"},
    "long list": lambda: list(range(10**6)),
    "large array": lambda: np.zeros(10**6),
    "not a number": lambda: [float("nan"), np.float16(1)],
    "many": lambda: [[[[[Config(n) for n in range(20)]] * 20] * 20] * 20] * 20,
    "array of objects": lambda: np.array([object()]),
    "masked array": lambda: np.ma.masked_array([1, 2], [0, 1]),
    "date": lambda: np.datetime64("2020-01-01"),
    "ellipsis": lambda: ...,
}


@pytest.mark.parametrize("case", ODD)
def test_whatever_an_attack_holds_is_told_or_named_and_bounded(case):
    options = options_of(of(ODD[case]()))
    text = json.dumps(options, allow_nan=False)
    assert len(text) < 10**5
    assert "option" in options
    assert text == json.dumps(options_of(of(ODD[case]())), allow_nan=False)


def test_what_holds_itself_is_told():
    attack = of([])
    attack.option += [attack, attack.option, {"a": attack}]
    assert differences(spec_of(attack), spec_of(attack), "mine") == ""


# One side only


@dataclasses.dataclass
class Later(Data):
    """The class of ``Data`` in its next version."""

    flavour: str = "new"
    depth: int = 3
    BEFORE: ClassVar = {"flavour": "old"}


Later.__qualname__ = Data.__qualname__


def test_an_option_that_a_foreign_class_declares_counts_as_what_it_was():
    old = spec_of(Data())
    assert differences(old, spec_of(Later(flavour="old")), "mine") == ""
    told = differences(old, spec_of(Later(depth=4)), "mine")
    assert told == "attacks.mine.depth is 4, was 3, attacks.mine.flavour is new, was old"


# In runs and gates


def test_the_gate_names_what_it_cannot_compare_and_compares_the_rest():
    x, y = small_images(60)
    runs = [
        harness.evaluate(small_net(), x, y, [attack], [0.1])
        for attack in (
            Foreign(rng=np.random.default_rng(1), loss=None),
            Foreign(rng=np.random.default_rng(1), loss=None),
            Foreign(rng=np.random.default_rng(1), loss=one_loss),
        )
    ]
    baseline = Baseline.of(runs[0])
    same = compare(runs[1], baseline)
    assert all(row.verdict == "unchanged" for row in same.rows)
    assert "mine has options that cannot be compared: rng" in same.notes
    row = row_of(compare(runs[2], baseline), "numpy model mine eps=0.1")
    assert row.verdict == "incomparable"
    assert row.detail.endswith("loss is test_foreign_options.one_loss, was None")
