"""Attacks that look for the nearest adversarial image, beside the peers' own, at equal budgets.

The accuracy under attack is compared where some images are misclassified and others are not: ours
may leave one image in a hundred more correct than the best of the peers, and no more.
"""

from dataclasses import replace

import numpy as np
import pytest

from harness.attacks import make_attack
from harness.maths.norms import NORMS

COUNT = 100
LUCK = 1
"""Images in a hundred that ours may leave correct where the best of the peers does not."""
RADII = {"linf": (0.1, 0.15, 0.2), "l2": (1.0, 1.5, 2.0)}
STEPS, SEARCHES = 40, 5


@pytest.fixture(scope="module")
def victim(defended):
    """A model, and what the tests attack of it: images that it classifies correctly."""
    some = defended.first(2 * COUNT)
    model = some.build("torch")
    x, y = model.asarray(some.x), model.asarray(some.y)
    right = model.logits(x).argmax(1) == y
    return model, x[right][:COUNT], y[right][:COUNT]


def ours(victim, name, **options):
    images, _ = make_attack(name, options=options).search(*victim)
    return images


def foolboxs(victim, name, **options):
    import foolbox

    model, x, y = victim
    attack = getattr(foolbox.attacks, name)(**options)
    criterion = foolbox.criteria.Misclassification(y)
    return attack.run(foolbox.PyTorchModel(model.net, bounds=(0, 1)), x, criterion)


def torchattackss_fab(victim, norm, epsilon, targeted):
    import torchattacks

    model, x, y = victim
    attack = torchattacks.FAB(
        model.net, norm={"linf": "Linf", "l2": "L2"}[norm], eps=epsilon, steps=STEPS,
        n_restarts=1, multi_targeted=targeted, n_classes=4 if targeted else 10,
    )  # fmt: skip
    return attack(x, y)


def right(victim, images, norm, epsilon):
    """How many are correct under attack: none is found, or it is too far away."""
    model, x, y = victim
    images = images.detach()
    wrong = (model.logits(images).argmax(1) != y).numpy()
    length = NORMS[norm].length(np, (images - x).numpy())
    return int(np.sum(~(wrong & (length <= epsilon))))


def require_no_weaker(victim, mine, theirs, norm):
    """Theirs are images, or make them for an epsilon."""
    told = []
    for epsilon in RADII[norm]:
        made = [peer(epsilon) if callable(peer) else peer for peer in theirs]
        best = min(right(victim, images, norm, epsilon) for images in made)
        told.append((right(victim, mine, norm, epsilon), best))
    assert all(left <= best + LUCK for left, best in told), told
    assert any(0 < best < COUNT for _, best in told), told


@pytest.mark.parametrize("norm", RADII)
def test_fab_is_no_weaker(victim, norm):
    mine = ours(victim, "fab" if norm == "linf" else "fab-l2", steps=STEPS)
    # Its search does not depend on epsilon, when it starts but once.
    require_no_weaker(victim, mine, [torchattackss_fab(victim, norm, 99.0, targeted=False)], norm)


@pytest.mark.parametrize("norm", RADII)
def test_targeted_fab_is_no_weaker(victim, norm):
    name = "fab-t" if norm == "linf" else "fab-t-l2"
    mine = ours(victim, name, steps=STEPS, targets=3)
    peer = [lambda epsilon: torchattackss_fab(victim, norm, epsilon, targeted=True)]
    require_no_weaker(victim, mine, peer, norm)


def test_ddn_is_no_weaker(victim):
    mine = ours(victim, "ddn", steps=STEPS)
    require_no_weaker(victim, mine, [foolboxs(victim, "DDNAttack", steps=STEPS)], "l2")


@pytest.mark.parametrize("norm", RADII)
def test_fmn_is_no_weaker(victim, norm):
    mine = ours(victim, "fmn" if norm == "linf" else "fmn-l2", steps=STEPS)
    name = "LInfFMNAttack" if norm == "linf" else "L2FMNAttack"
    require_no_weaker(victim, mine, [foolboxs(victim, name, steps=STEPS)], norm)


def test_cw_is_no_weaker(victim):
    import torchattacks

    model, x, y = victim
    mine = ours(victim, "cw-l2", steps=STEPS, searches=SEARCHES, initial_c=1.0, stepsize=0.05)
    options = {"steps": STEPS, "binary_search_steps": SEARCHES, "stepsize": 0.05}
    theirs = [
        foolboxs(victim, "L2CarliniWagnerAttack", initial_const=1.0, **options),
        torchattacks.CW(model.net, c=1.0, steps=SEARCHES * STEPS, lr=0.05)(x, y),
    ]
    require_no_weaker(victim, mine, theirs, "l2")


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.15), ("l2", 1.5)])
def test_autoattack_is_no_weaker(victim, norm, epsilon):
    """Its four attacks with a tenth of their budgets, here as in torchattacks."""
    import torch
    import torchattacks as peer

    model, x, y = victim
    x, y = x[: COUNT // 2], y[: COUNT // 2]
    standard = make_attack("autoattack" if norm == "linf" else "autoattack-l2")
    budgets = {
        "apgd-ce": {"steps": 20}, "apgd-t": {"steps": 20, "targets": 3},
        "fab-t": {"steps": 20, "targets": 3}, "square": {"steps": 300},
    }  # fmt: skip
    members = tuple(replace(one, **budgets[one.name]) for one in standard.members)
    attack = replace(standard, members=members)
    (mine,) = attack.perturb(model, x, y, [epsilon], index=np.arange(len(x)))
    net = torch.nn.Sequential(torch.nn.Flatten(1, 2), model.net)  # it wants a channel
    same = {"norm": {"linf": "Linf", "l2": "L2"}[norm], "eps": epsilon}
    ensemble = peer.MultiAttack([
        peer.APGD(net, steps=20, loss="ce", **same),
        peer.APGDT(net, steps=20, n_classes=4, **same),
        peer.FAB(net, steps=20, n_restarts=1, multi_targeted=True, n_classes=4, **same),
        peer.Square(net, n_queries=300, **same),
    ])  # fmt: skip
    theirs = ensemble(x[:, None], y)[:, 0]
    left = [right((model, x, y), images, norm, epsilon * 1.0001) for images in (mine, theirs)]
    assert left[0] <= left[1] + LUCK
    assert 0 < left[1] < len(x)
