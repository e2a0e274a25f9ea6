"""The ensemble: each image's worst case over members that attack what those before them left."""

from dataclasses import replace

import numpy as np
import pytest
from small_models import Counting, attacked, linear, right, small_images, small_net

from harness.attacks import ATTACKS, ENSEMBLE, ENSEMBLE_L2, make_attack, strongest
from harness.attacks.apgd import APGD
from harness.attacks.fab import FAB
from harness.attacks.fgsm import FGSM
from harness.attacks.noise import Noise
from harness.attacks.pgd import MIM, PGD
from harness.attacks.square import Square
from harness.attacks.strongest import Strongest
from harness.errors import MeasurementError, SpecError
from harness.protocol import GRADIENT

EPSILONS = [0.05, 0.1, 0.2]
MEMBERS = (
    FGSM(), PGD(steps=5), PGD(name="other", steps=5, target="each", losses=("margin",)),
    Square(steps=60),
)  # fmt: skip


class Told:
    """An attack that notes what it is given, and turns the images that it is to break white."""

    norm, requires = "linf", frozenset()

    def __init__(self, name, breaks=()):
        self.name = name
        self.breaks = breaks
        self.seen = []

    def perturb(self, model, x, y, epsilons, *, index):
        self.seen.append((list(epsilons), index.tolist(), y.tolist()))
        for _ in epsilons:
            yield np.where(np.isin(index, self.breaks)[:, None], 1.0, x)


class Bright:
    """Of one pixel: class 1 from one half on, class 0 below."""

    xp, bounds, capabilities = np, (0.0, 1.0), frozenset({GRADIENT})

    def asarray(self, values):
        return np.asarray(values)

    def numpy(self, array):
        return np.asarray(array)

    def logits(self, x):
        return np.hstack([0.5 - x, x - 0.5])


def test_it_is_the_worst_case_of_its_members():
    model, (x, y) = small_net(), small_images()
    (alone,) = zip(*(_stands(member, model, x, y) for member in MEMBERS), strict=True)
    together, counts = _stands(Strongest(members=MEMBERS), model, x, y)[0], []
    for position in range(len(EPSILONS)):
        worst = np.all([robust[position] for robust in alone], axis=0)
        np.testing.assert_array_equal(together[position], worst)
        counts.append(worst.sum())
    assert counts == sorted(counts, reverse=True)
    assert min(robust[-1].sum() for robust in alone) < len(x) - 10


def _stands(attack, model, x, y):
    """Which images are right under an attack at every epsilon up to each."""
    found = attacked(attack, model, x, y, EPSILONS)
    misclassified = [model.logits(images).argmax(axis=1) != y for images in found]
    return (~np.logical_or.accumulate(misclassified),)


def test_each_member_sees_only_what_is_still_correct_with_its_labels_and_places():
    first, second, third = Told("a", [12, 13]), Told("b", [10]), Told("c")
    x, y = np.full((5, 1), 0.1), np.array([0, 1, 0, 0, 0])  # the second is wrong already
    attack = Strongest(members=(first, second, third))
    index = np.array([10, 11, 12, 13, 14])
    found = attacked(attack, Bright(), x, y, [0.0, 0.5, 0.6], index=index)
    assert first.seen == [([0.5], [10, 12, 13, 14], [0] * 4), ([0.6], [14], [0])]
    assert second.seen == [([0.5], [10, 14], [0] * 2), ([0.6], [14], [0])]
    assert third.seen == [([0.5], [14], [0]), ([0.6], [14], [0])]
    assert [batch[:, 0].tolist() for batch in found] == [
        [0.1] * 5, [1, 0.1, 1, 1, 0.1], [1, 0.1, 1, 1, 0.1],
    ]  # fmt: skip


def test_where_nothing_is_classified_correctly_no_member_is_asked():
    member = Told("a")
    attacked(Strongest(members=(member,)), Bright(), np.ones((2, 1)), [0, 0], [0.1, 0.2])
    assert member.seen == []


def test_a_black_box_is_attacked_by_what_needs_no_gradient():
    (x, y), net = small_images(), small_net()
    black = Counting(net)
    black.capabilities = frozenset()
    attack = Strongest(members=(*MEMBERS, Noise()))
    found = attacked(attack, black, x, y, EPSILONS)
    assert black.gradients == 0
    alone = attacked(Strongest(members=(MEMBERS[-1], Noise())), net, x, y, EPSILONS)
    np.testing.assert_array_equal(found, alone)
    assert right(net, found[-1], y) < len(x) - 10
    assert attack.requires == frozenset()


def test_an_ensemble_of_which_a_black_box_has_nothing_says_so():
    x, y = small_images()
    black = Counting(small_net())
    black.capabilities = frozenset()
    attack = make_attack("strongest", options={"members": ["fgsm", "pgd"]})
    with pytest.raises(MeasurementError, match="the model lacks what each member of strongest"):
        attacked(attack, black, x, y, EPSILONS)


def test_by_default_it_has_the_usual_members_with_their_defaults():
    attack = make_attack("strongest")
    assert attack.members == tuple(make_attack(name) for name in ENSEMBLE)
    assert (attack.name, attack.norm) == ("strongest", "linf")


def test_members_are_named():
    attack = make_attack("mine", "strongest", {"members": ["pgd-l2", "deepfool"]})
    assert [member.name for member in attack.members] == ["pgd-l2", "deepfool"]
    assert (attack.name, attack.norm) == ("mine", "l2")
    assert strongest("pgd").members == (PGD(),)


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        (["fgsm", "pdg"], r"members: pdg: no such attack; the attacks are [^\n]*"),
        (["fgsm", "strongest"], "members: name one or more attacks, other than strongest"),
        ([], "members: name one or more attacks, other than strongest"),
        (
            ["pgd", "pgd-l2", "fgsm", "deepfool"],
            r"members: they bound their perturbations by different norms "
            r"\(L∞: pgd, fgsm; L2: pgd-l2, deepfool\)",
        ),
        (["pgd", "fgsm", "pgd"], r"members: 2 of them are called pgd; give each [^\n]*"),
        (["fgsm", "strongest-l2"], "members: name one or more attacks, other than strongest"),
        (5, "members: 5 is no list of names"),
        ([5], r"members: \[5\] is no list of names"),
        ([["pgd"]], r"members: \[\['pgd'\]\] is no list of names"),
    ],
)
@pytest.mark.parametrize("name", ["strongest", "strongest-l2"])
def test_members_that_cannot_be_are_one_line(members, complaint, name):
    with pytest.raises(SpecError, match=rf"^{complaint}$"):
        make_attack(name, options={"members": members})


@pytest.mark.parametrize(
    ("members", "complaint"),
    [
        ((), "members: name one or more attacks"),
        ((PGD(), FGSM(), PGD(steps=3)), r"members: 2 of them are called pgd; [^\n]*"),
        ((PGD(), PGD(name="far", norm="l2")), r"members: [^\n]* \(L∞: pgd; L2: far\)"),
    ],
)
def test_attacks_that_cannot_be_one_ensemble_are_refused(members, complaint):
    with pytest.raises(SpecError, match=rf"^{complaint}$"):
        Strongest(members=members)


# In L2


# Attacks that came after the counts of shipped specs had been taken are members only if named.
LATER = {
    "fab-l2",
    "fab-t-l2",
    "ddn",
    "fmn-l2",
    "cw-l2",
    "autoattack-l2",
    "hopskipjump-l2",
    "transfer-l2",
}


def test_by_default_the_ensemble_in_l2_has_what_there_was_in_l2():
    attack = make_attack("strongest-l2")
    assert (attack.name, attack.norm) == ("strongest-l2", "l2")
    in_l2 = {name for name in ATTACKS if make_attack(name).norm == "l2"} - {"strongest-l2"}
    assert {member.name for member in attack.members} == in_l2 - LATER
    assert attack.members == tuple(make_attack(name) for name in ENSEMBLE_L2)


def test_members_in_linf_are_replaced_by_their_kin_in_l2():
    attack = make_attack("strongest-l2", options={"members": ENSEMBLE})
    assert [member.name for member in attack.members] == [
        "fgm-l2", "pgd-l2", "apgd-l2", "apgd-t-l2", "square-l2",
    ]  # fmt: skip
    assert attack.members[1] == PGD(name="pgd-l2", norm="l2")
    others = [name for name in ATTACKS if make_attack(name).norm == "linf"]
    others.remove("strongest")
    kin = make_attack("mine", "strongest-l2", {"members": others})
    assert {member.norm for member in kin.members} == {"l2"}
    mim = next(member for member in kin.members if member.name == "mim-l2")
    assert mim == MIM(name="mim-l2", norm="l2")
    already = make_attack("strongest-l2", options={"members": ["deepfool", "pgd-l2"]})
    assert [member.name for member in already.members] == ["deepfool", "pgd-l2"]


# AutoAttack


def test_autoattack_is_the_published_ensemble():
    attack = make_attack("autoattack")
    assert (attack.name, attack.norm, attack.requires) == ("autoattack", "linf", frozenset())
    assert attack.members == (
        APGD(name="apgd-ce", steps=100, restarts=1, losses=("cross-entropy",)),
        APGD(name="apgd-t", steps=100, restarts=1, losses=("dlr",), target="each", targets=9),
        FAB(
            name="fab-t", steps=100, restarts=1, target="each", targets=9,
            alpha_max=0.1, eta=1.05, beta=0.9,
        ),
        Square(steps=5000, area=0.8),
    )  # fmt: skip
    in_l2 = make_attack("autoattack-l2")
    assert (in_l2.name, in_l2.norm) == ("autoattack-l2", "l2")
    assert [member.name for member in in_l2.members] == [m.name for m in attack.members]
    assert {member.norm for member in in_l2.members} == {"l2"}


def test_the_seed_of_autoattack_is_that_of_its_members():
    attack = make_attack("other", "autoattack", {"seed": 3})
    assert (attack.name, {member.seed for member in attack.members}) == ("other", {3})


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["autoattack", "autoattack-l2"])
def test_autoattack_attacks_networks_of_few_classes(name, classes):
    model = linear([[0, 0], [3, 4], [1, 1]][:classes], [0, -4.2, -9][:classes])
    x, y = np.array([[0.5, 0.5]]), [0]  # short of class 1 by 0.7: 0.1 in L∞, 0.14 in L2
    whole = make_attack(name)
    members = (*whole.members[:-1], replace(whole.members[-1], steps=20))
    near, far = attacked(replace(whole, members=members), model, x, y, [0.09, 0.15])
    assert right(model, near, y) == 1
    assert right(model, far, y) == 0


def test_autoattack_can_be_a_member_and_has_its_kin_in_l2():
    attack = make_attack("strongest-l2", options={"members": ["pgd", "autoattack"]})
    assert attack.members[1] == make_attack("autoattack-l2")
