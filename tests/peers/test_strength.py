"""The harness's APGD, DeepFool and Square Attack are no weaker than the peers'.

These attacks are random, or stop by rules of their own, so counts are compared, not images: ours
may leave so many more images correct, and no more.
"""

import numpy as np
import pytest

from harness.attacks import make_attack
from harness.attacks.sweep import sweep
from harness.maths.norms import L2
from harness.maths.query import correct_count
from suites.speed.peers import ArtTorch

EPSILON = 0.1
LUCK = 3
"""Images that a random attack may find less, of 180."""


@pytest.fixture(scope="module")
def model(digits):
    return digits.build("torch")


@pytest.fixture(scope="module")
def art(digits, model):
    """ART wants a channel, which the network flattens away."""
    return ArtTorch(model.net, (1, *digits.net.input_shape), digits.net.classes)


def right_under(name, model, digits, **options):
    attack = make_attack(name, options=options)
    (result,) = sweep(model, attack, digits.x, digits.y, [EPSILON])
    return correct_count(result.predictions, digits.y)


def test_apgd_is_as_strong_as_arts(digits, model, art):
    from art.attacks.evasion import AutoProjectedGradientDescent

    np.random.seed(0)  # noqa: NPY002
    attack = AutoProjectedGradientDescent(
        art.classifier, eps=EPSILON, eps_step=2 * EPSILON, max_iter=50, nb_random_init=2,
        batch_size=len(digits.x), loss_type="cross_entropy", verbose=False,
    )  # fmt: skip
    found = attack.generate(digits.x[:, None], digits.y)
    theirs = np.sum(art.labels(found) == digits.y)
    ours = right_under("apgd", model, digits, steps=50, losses=["cross-entropy"], restarts=2)
    assert 0 < ours <= theirs + LUCK
    assert theirs < len(digits.y)


def test_square_attack_is_as_strong_as_arts(digits, model, art):
    from art.attacks.evasion import SquareAttack

    np.random.seed(0)  # noqa: NPY002
    attack = SquareAttack(
        art.classifier, eps=EPSILON, max_iter=300, nb_restarts=1, p_init=0.8,
        batch_size=len(digits.x), verbose=False,
    )  # fmt: skip
    found = attack.generate(digits.x[:, None], digits.y)
    theirs = np.sum(art.labels(found) == digits.y)
    ours = right_under("square", model, digits, steps=300)
    assert 0 < ours <= theirs + LUCK
    assert theirs < len(digits.y)


def test_deepfool_goes_as_near_as_foolboxs(digits, model):
    import foolbox

    x, y = model.asarray(digits.x), model.asarray(digits.y)
    attack = foolbox.attacks.L2DeepFoolAttack(steps=50, candidates=None, overshoot=0.02)
    theirs = attack.run(foolbox.PyTorchModel(model.net, bounds=(0, 1)), x, y)
    ours = make_attack("deepfool").search(model, x, y)
    right = np.asarray(model.logits(x).argmax(1) == y)
    wrong = {
        "ours": np.asarray(model.logits(ours).argmax(1) != y)[right],
        "theirs": np.asarray(model.logits(theirs).argmax(1) != y)[right],
    }
    assert wrong["ours"].sum() >= wrong["theirs"].sum() - LUCK
    both = wrong["ours"] & wrong["theirs"]
    lengths = [
        np.asarray(L2().length(model.xp, found - x))[right][both] for found in (ours, theirs)
    ]
    assert np.median(lengths[0]) <= 1.02 * np.median(lengths[1])
