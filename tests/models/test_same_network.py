"""One network in PyTorch, Keras and ONNX: the same counts of right answers, clean and attacked."""

from __future__ import annotations

import kinds_boxes
import kinds_keras
import kinds_torch
import numpy as np
import pytest
from backends_at_hand import at_hand
from kinds import MEAN, SIDE, STD, Weights, first, images_drawn

import harness
from harness.attacks.square import Square

COUNT = 300
EPSILONS = (0.0, 1 / 255, 2 / 255, 4 / 255, 8 / 255)
SQUARE = Square(steps=30)


def images():
    """Colour images (n, h, w, c): noise around shades that few of them share, as in photographs."""
    random = np.random.default_rng(3)
    x = images_drawn(COUNT, (SIDE, SIDE, 3), seed=3)
    ramps = np.linspace(-0.2, 0.2, SIDE) * random.choice([-1, 1], (COUNT, 1))
    return np.clip(x + ramps[:, :, None, None], 0, 1).astype(np.float32)


@pytest.fixture(params=[False, True], ids=["plain", "normalised"])
def case(request):
    """Weights, images, labels, and what is said to ``wrap``."""
    weights, x = Weights.drawn(normalised=request.param), images()
    y = weights.scores(x, request.param).argmax(axis=1)
    y[::10] = (y[::10] + 1) % 3
    how = {"preprocessing": {"mean": MEAN, "std": STD}} if request.param else {}
    return weights, x, y, how


def counts(model, x, y, attacks, epsilons):
    run = harness.evaluate(model, x, y, attacks, epsilons)
    assert run.verdict == "measured"
    names = {"clean", *(getattr(attack, "name", attack) for attack in attacks)}
    return {(r.check, r.epsilon): r.correct for r in run.records if r.check in names}


def test_it_has_the_same_counts_in_each_framework(case, tmp_path):
    for backend in ("torch", "keras"):
        at_hand(backend)
    weights, x, y, how = case
    in_torch = harness.wrap(kinds_torch.network(weights), **how)
    in_keras = harness.wrap(kinds_keras.network(weights), **how)
    found = counts(in_torch, first(x), y, ["fgsm"], EPSILONS)
    right = int((weights.scores(x, bool(how)).argmax(axis=1) == y).sum())
    assert found["clean", None] == found["fgsm", 0.0] == right == COUNT - COUNT // 10
    assert len(set(found.values())) >= len(EPSILONS) - 1  # the sweep tells epsilons apart
    assert counts(in_keras, x, y, ["fgsm"], EPSILONS) == found


def test_and_in_onnx_as_a_black_box_and_as_a_network_that_is_read(case, tmp_path):
    for backend in ("torch", "onnx"):
        at_hand(backend)
    weights, x, y, how = case
    path = tmp_path / "net.onnx"
    kinds_boxes.onnx_file(path, weights)
    in_torch = harness.wrap(kinds_torch.network(weights), **how)
    found = counts(in_torch, first(x), y, [SQUARE], EPSILONS)
    assert found["square", EPSILONS[-1]] < found["clean", None]
    as_box = harness.wrap(path, **how, backend="onnx")
    assert counts(as_box, first(x), y, [SQUARE], EPSILONS) == found
    climbed = counts(in_torch, first(x), y, ["fgsm"], EPSILONS)
    for backend in ("torch", "numpy"):
        read = harness.wrap(path, **how, backend=backend)
        assert counts(read, first(x), y, ["fgsm"], EPSILONS) == climbed
