"""Attacks of other packages, made by name: what is wrong with one is said in one line."""

import pytest

from harness.attacks import ATTACKS, make_attack
from harness.errors import SpecError


class Theirs:
    """Another package's attack, no dataclass."""

    norm, requires = "linf", frozenset()

    def __init__(self, name="theirs", strength=1.0):
        if strength > 1:
            raise ValueError("strength must be\nat most 1")
        self.name = name

    def perturb(self, model, x, y, epsilons, *, index):
        return (x for _ in epsilons)


class InL7(Theirs):
    norm = "l7"


@pytest.mark.parametrize(
    ("made", "options", "complaint"),
    [
        (Theirs, {"strength": 2.0}, "theirs: strength must be at most 1"),
        (Theirs, {"strenght": 0.5}, "strenght: theirs has no such option; did you mean strength?"),
        (lambda: None, {}, "theirs: makes a NoneType, which is no attack"),
        (lambda: Theirs(name="other"), {}, "theirs: its name is 'other'; give it that of its "),
        (InL7, {}, "theirs: theirs has the norm 'l7', not linf or l2"),
        (3, {}, "theirs: 'int' object is not callable"),
    ],
)
def test_what_is_wrong_with_an_attack_of_another_package_is_one_line(
    monkeypatch, made, options, complaint
):
    monkeypatch.setitem(ATTACKS, "theirs", made)
    with pytest.raises(SpecError) as error:
        make_attack("theirs", options=options)
    assert str(error.value).startswith(complaint)
    assert "\n" not in str(error.value)
