"""Attacks that look for the nearest adversarial image, beside the peers' own, at equal budgets.

The accuracy under attack is compared where some images are misclassified and others are not: ours
may leave one image in a hundred more correct than the best of the peers, and no more.
"""

import numpy as np
import pytest

from harness.attacks import make_attack
from harness.maths.norms import NORMS

COUNT = 100
LUCK = 1
"""Images in a hundred that ours may leave correct where the best of the peers does not."""
RADII = {"linf": (0.1, 0.15, 0.2), "l2": (1.0, 1.5, 2.0)}
STEPS, SEARCHES = 60, 6


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
