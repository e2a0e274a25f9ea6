"""Attacks, objectives and saliency maps need no more than the array API standard, on any device."""

from __future__ import annotations

import re

import numpy as np
import pytest
from small_models import small_images, small_net
from strict_model import StrictModel

from harness.attacks import ATTACKS, make_attack
from harness.attacks.fab import FAB
from harness.attacks.iterated import OBJECTIVES
from harness.attacks.minimal import along_gradient, by_search
from harness.attacks.pgd import PGD
from harness.attacks.sweep import sweep
from harness.maths.norms import NORMS
from harness.maths.objectives import ClassLogit, CrossEntropy, Divergence, Towards
from harness.protocol import model as protocol
from harness.protocol import two_classes
from harness.saliency.methods import METHODS, explain

SHORT = {
    "square": {"steps": 30}, "square-l2": {"steps": 30}, "apgd": {"steps": 20},
    "apgd-t": {"steps": 5}, "apgd-l2": {"steps": 20}, "apgd-t-l2": {"steps": 5},
    "strongest": {"members": ["fgsm", "mim", "square"]},
    "hopskipjump": {"queries": 150}, "hopskipjump-l2": {"queries": 150},
    "strongest-l2": {"members": ["fgm-l2", "deepfool"]}, "cw-l2": {"searches": 3, "steps": 20},
} | {name: {"steps": 8} for name in ("fab", "fab-t", "fab-l2", "fab-t-l2")} | {
    name: {"steps": 20} for name in ("ddn", "fmn", "fmn-l2")
}  # fmt: skip
# Ensembles whose members are tried by themselves, and by themselves have many steps.
LONG = ("autoattack", "autoattack-l2")
EVERY = (
    {name: make_attack(name, options=SHORT.get(name, {})) for name in ATTACKS if name not in LONG}
    | {"fab-restarts": FAB(steps=4, restarts=2)}
    | {
        f"pgd-{target}": PGD(steps=8, restarts=2, target=target)
        for target in ("next", "runner-up", "least-likely", "each")
    }
)
MASKED = [*OBJECTIVES.values(), CrossEntropy(), ClassLogit()]


@pytest.fixture
def plain():
    return small_net()


@pytest.fixture
def strict(plain, monkeypatch):
    return StrictModel(plain, monkeypatch)


def radii(attack):
    return [0.0, 0.03, 0.1] if attack.norm == "linf" else [0.0, 0.1, 0.4]


@pytest.mark.parametrize("name", EVERY)
def test_an_attack_finds_the_same_images_there_as_in_numpy(name, plain, strict):
    x, y = small_images()
    attack, everything = EVERY[name], range(len(x))
    for model in (plain, strict):
        found = sweep(model, attack, x, y, radii(attack), keep=everything)
        if model is plain:
            expected = found
    for here, there in zip(expected, found, strict=True):
        np.testing.assert_array_equal(there.predictions.labels, here.predictions.labels)
        np.testing.assert_allclose(there.kept, here.kept, rtol=0, atol=1e-9)


ON_HOST = ("hopskipjump", "hopskipjump-l2", "transfer", "transfer-l2")
"""Attacks that ask about images that they make on the host."""


@pytest.mark.parametrize("name", [name for name in EVERY if name not in ON_HOST])
def test_between_the_steps_only_booleans_leave_the_device(name, strict):
    """Before them what the attack is planned by may be copied, and after them the images."""
    x, y = small_images()
    attack, epsilons = EVERY[name], radii(EVERY[name])
    images, labels = strict.asarray(x), strict.asarray(y)
    found = list(attack.perturb(strict, images, labels, epsilons, index=np.arange(len(x))))
    assert len(found) == len(epsilons)
    planned = {((len(x), 5), "f"): 1, ((len(x),), "i"): 1}  # clean logits and labels
    if "square" in name or name == "strongest":
        planned = {(x.shape, "f"): 1}
    copies = [copy for copy in strict.copies if copy[1] != "b"]
    if name != "strongest":
        assert all(planned.get(copy, 0) >= copies.count(copy) for copy in copies)
    else:  # a member sees those that are left, once for each epsilon
        assert len(copies) <= len(epsilons) - 1
    assert all(
        len(shape) == 1 and shape[0] <= len(x) for shape, kind in strict.copies if kind == "b"
    )


def test_a_step_copies_one_boolean_for_each_image_in_the_batch(strict):
    x, y = small_images(wrong=0)
    attack = PGD(steps=6, losses=("margin",), start="clean")
    images, labels = strict.asarray(x), strict.asarray(y)
    # So small that no image is misclassified: all stay in the batch.
    list(attack.perturb(strict, images, labels, [1e-6], index=np.arange(len(x))))
    # Before the first step, at each of seven points, and of the attempt's result.
    assert strict.copies == [((len(x),), "b")] * 9


@pytest.mark.parametrize("search", ["fgsm", "pgd"])
def test_the_smallest_epsilons_are_the_same(search, plain, strict):
    x, y = small_images(20)
    x = x.astype(float)
    found = [
        along_gradient(model, x, y, 0.5)
        if search == "fgsm"
        else by_search(model, PGD(steps=5), x, y, 0.5)
        for model in (plain, strict)
    ]
    np.testing.assert_allclose(found[1].epsilons, found[0].epsilons, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found[1].images, found[0].images, rtol=0, atol=1e-9)


@pytest.mark.parametrize("objective", MASKED, ids=lambda objective: objective.name)
def test_objectives_are_the_same(objective, strict):
    logits = np.random.default_rng(0).normal(size=(6, 5)) * np.logspace(-2, 2, 6)[:, None]
    true = np.arange(5) == np.arange(6)[:, None] % 5
    there = strict.asarray(logits), strict.asarray(true) > 0
    for ask in ("value", "logit_gradient"):
        expected = getattr(objective, ask)(np, logits, true)
        found = strict.numpy(getattr(objective, ask)(strict.xp, *there))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "objective", [Divergence(), *map(Towards, OBJECTIVES)], ids=lambda objective: objective.name
)
def test_objectives_of_distributions_and_signs_are_the_same(objective, strict):
    random = np.random.default_rng(0)
    logits, given = random.normal(size=(6, 5)), random.dirichlet(np.ones(5), size=6)
    if isinstance(objective, Towards):
        given = np.eye(5)[[0, 1, 2, 3, 4, 0]] - np.eye(5)[[1, 2, 3, 4, 0, 3]]
    there = strict.asarray(logits), strict.asarray(given)
    for ask in ("value", "logit_gradient"):
        expected = getattr(objective, ask)(np, logits, given)
        found = strict.numpy(getattr(objective, ask)(strict.xp, *there))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", NORMS)
def test_norms_are_the_same(name, strict):
    norm, change = NORMS[name], np.random.default_rng(0).normal(size=(4, 2, 3))
    change[0] = 0
    there, radius = strict.asarray(change), np.array([0.1, 0.5, 1.0, 9.0]).reshape(-1, 1, 1)
    asked = {
        "length": ((), ()), "longest": ((), ()), "steepest": ((), ()),
        "within": ((radius,), (strict.asarray(radius),)),
    }  # fmt: skip
    for ask, (here, elsewhere) in asked.items():
        expected = getattr(norm, ask)(np, change, *here)
        found = strict.numpy(getattr(norm, ask)(strict.xp, there, *elsewhere))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("method", METHODS)
def test_saliency_maps_are_the_same(method, plain, strict):
    x, y = small_images(12)
    x = x.astype(float)
    expected, found = (explain(model, x, y, method) for model in (plain, strict))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_the_docstring_lists_the_names_that_are_asked_for(strict):
    x, y = small_images(20)
    for attack in EVERY.values():
        sweep(strict, attack, x, y, radii(attack))
    along_gradient(strict, x.astype(float), y, 0.5)
    for method in METHODS:
        explain(strict, x.astype(float), y, method)
    logits, shares = strict.asarray(np.eye(5)), strict.asarray(np.full((5, 5), 0.2))
    for objective in (*MASKED, Divergence()):
        given = shares if objective.name == "divergence" else logits > 0
        objective.value(strict.xp, logits, given)
        objective.logit_gradient(strict.xp, logits, given)
    two_classes(strict.xp, strict.asarray(np.zeros(5)))
    said = re.search(r"used here:(.*?)with\s+``axis``", protocol.__doc__, re.DOTALL)[1]
    assert set(re.findall(r"``(\w+)``", said)) == strict.xp.names
