"""An evaluation takes up no more for many images than for few, beyond a label of each."""

import tracemalloc

import numpy as np
import pytest
from small_models import linear

from harness import evaluate
from harness.attacks import make_attack
from harness.maths.images import LazyImages

SHAPE, EPSILONS = (256,), (0.0, 0.05, 0.2)
KEPT = 100
"""Bytes of an image that may stay: labels and confidences at each epsilon, and its position. The
images themselves are of 1,024."""


class Drawn(LazyImages):
    """Random images, which are there while somebody holds them."""

    def __init__(self, count):
        super().__init__((count, *SHAPE), np.float32)

    def read(self, rows):
        random = np.random.default_rng(0)
        return random.random((len(rows), *SHAPE), dtype=np.float32)


def evaluated(attack, count):
    random = np.random.default_rng(0)
    model, x = linear(random.normal(size=(3, *SHAPE)), dtype="float32"), Drawn(count)
    y = model.logits(x[np.arange(count)]).argmax(axis=1)
    evaluate(model, x, y, attack, EPSILONS, batch_size=100, progress=False)


def peak(attack, count):
    """Bytes that an evaluation takes up at most."""
    tracemalloc.start()
    try:
        evaluated(attack, count)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("name", "options"), [("fgsm", {}), ("pgd", {"steps": 1})])
def test_memory_does_not_grow_with_the_images(name, options):
    attack = make_attack(name, options=options)
    evaluated(attack, 100)  # imports
    # The checks look at 500 images.
    few, many = peak(attack, 600), peak(attack, 1_800)
    assert many - few < 1_200 * KEPT, f"{(many - few) / 1_200:.0f} bytes an image"
