"""What attacks find does not depend on the scale of the logits, nor on a number added to them."""

import numpy as np
import pytest
from backends_at_hand import at_hand
from small_models import attacked, right
from zoo.healthy import scaled
from zoo.networks import BOUNDS, NET, built, images, trained

from harness.attacks import make_attack
from harness.attacks.minimal import along_gradient
from harness.attacks.pgd import MIM, PGD
from harness.maths.objectives import CrossEntropy
from harness.protocol import Network, Wrapping

SCALES = (1e-3, 1e-2, 10, 1e3)
RADII = {"linf": 0.1, "l2": 0.6}
FEWER = {"pgd": {"steps": 20}, "pgd-l2": {"steps": 20}}
CLOSE = 4
"""Of 120 images: random starts, and directions that rounding turns."""
LOST = 15
"""At the smallest scales the plain cross-entropy leaves at least so many more right."""


def few():
    x, y = images()
    return x[:120], y[:120]


def left(attack, model):
    x, y = few()
    (found,) = attacked(attack, model, x, y, [RADII[attack.norm]])
    return right(model, found, y)


def build(factor, shift=0.0, backend="numpy", dtype="float32"):
    """The zoo's network with its logits scaled, and a number added to all of an image."""
    weights = dict(trained())
    for name in ("layers.1.weight", "layers.1.bias"):
        weights[name] = factor * weights[name]
    weights["layers.1.bias"] = weights["layers.1.bias"] + shift
    return at_hand(backend).build(Network(NET, weights), Wrapping(BOUNDS), dtype=dtype)


@pytest.mark.parametrize(
    "name", ["fgsm", "fgsm-rs", "i-fgsm", "mim", "pgd", "fgm-l2", "pgd-l2", "apgd"]
)
def test_the_scale_of_the_logits_is_nothing_to_an_attack(name):
    attack = make_attack(name, options=FEWER.get(name, {"steps": 20} if name == "apgd" else {}))
    ordinary = left(attack, build(1))
    assert 10 < ordinary < 100
    for scale in SCALES:
        now = left(attack, build(scale))
        assert now <= ordinary + CLOSE
        # Of large logits the cross-entropy leads to the nearest class alone: a little further.
        assert now >= ordinary - (CLOSE if scale < 1 else 2 * CLOSE)


@pytest.mark.parametrize(("backend", "dtype"), [("torch", "float32"), ("keras", "float64")])
def test_nor_in_other_backends_and_precisions(backend, dtype):
    for attack in (make_attack("fgsm"), PGD(steps=10)):
        ordinary = left(attack, build(1, backend=backend, dtype=dtype))
        small = left(attack, build(1e-3, backend=backend, dtype=dtype))
        assert small == pytest.approx(ordinary, abs=CLOSE)


@pytest.mark.parametrize("scale", [1e-3, 1])
def test_a_number_added_to_all_logits_changes_nothing(scale):
    for attack in (make_attack("fgsm"), PGD(steps=10)):
        plain, shifted = (left(attack, build(scale, s, dtype="float64")) for s in (0, 5))
        assert shifted == plain


def test_pgd_finds_what_apgd_does_at_every_scale():
    for scale in (*SCALES, 1):
        pgd, apgd = (left(make_attack(name), build(scale)) for name in ("pgd", "apgd"))
        assert pgd <= apgd + CLOSE


def test_the_smallest_epsilon_does_not_depend_on_it_either():
    x, y = few()
    ordinary, small = (np.median(along_gradient(build(s), x, y, 0.5).epsilons) for s in (1, 1e-3))
    assert small == pytest.approx(ordinary, rel=0.05)


# The cross-entropy alone is that of the papers


def test_with_the_cross_entropy_alone_pgd_is_the_papers_at_every_scale():
    """The loop of Madry et al. 2018, with the gradient of the cross-entropy itself."""
    x, y = (values[:60] for values in few())
    for scale in (1e-3, 1):
        model = build(scale, dtype="float64")
        (found,) = attacked(
            PGD(steps=6, start="clean", losses=("cross-entropy",)), model, x, y, [0.05]
        )
        clean, moving = x.astype(np.float64), x.astype(np.float64)
        right = model.logits(moving).argmax(axis=1) == y
        for _ in range(6):
            _, gradient = model.logits_and_gradient(moving, y, CrossEntropy())
            change = moving + 0.05 * 2.5 / 6 * np.sign(gradient) - clean
            moving = np.clip(clean + np.clip(change, -0.05, 0.05), *BOUNDS)
            right &= model.logits(moving).argmax(axis=1) == y
        assert right.sum() > 20
        np.testing.assert_allclose(found[right], moving[right], atol=1e-12)


def test_the_cross_entropy_alone_depends_on_the_scale():
    one = PGD(steps=20, losses=("cross-entropy",))
    assert left(one, build(1e-3)) > left(one, build(1)) + LOST
    assert one.BEFORE == MIM.BEFORE == {"losses": ["cross-entropy"]}


def test_on_ordinary_logits_fgsm_is_the_papers_to_the_last_bit():
    x, y = few()
    model = built()
    _, gradient = model.logits_and_gradient(x, y, CrossEntropy())
    (found,) = attacked(make_attack("fgsm"), model, x, y, [0.1])
    np.testing.assert_array_equal(found, np.clip(x + np.float32(0.1) * np.sign(gradient), 0, 1))


@pytest.mark.parametrize("name", ["fgsm", "fgsm-rs", "pgd"])
def test_an_image_of_small_logits_is_attacked_alike_whatever_batch_it_comes_in(name):
    x, y = (values[:40] for values in few())
    attack, model = make_attack(name, options=FEWER.get(name, {})), build(0.08, dtype="float64")
    (whole,) = attacked(attack, model, x, y, [0.1])
    for rows in (np.arange(7), np.arange(7, 40)):
        (part,) = attacked(attack, model, x[rows], y[rows], [0.1], index=rows)
        np.testing.assert_allclose(part, whole[rows], atol=1e-9)


def test_logits_that_are_all_the_same_are_attacked_too():
    """All logits of a network without an opinion are the same; nothing is divided by zero."""
    model = scaled(0)
    x, y = few()
    for name in ("fgsm", "fgsm-rs", "fgm-l2"):
        (found,) = attacked(make_attack(name), model, x, y, [0.1])
        assert np.isfinite(found).all()
