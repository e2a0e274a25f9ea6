"""The length of a step in units of epsilon: its defaults, and what is stored of it."""

import numpy as np
import pytest
from small_models import small_images, small_net

from harness.attacks import make_attack
from harness.attacks.options import options_of
from harness.attacks.pgd import MIM, PGD


@pytest.mark.parametrize(("kind", "size"), [(PGD, 0.25), (MIM, 0.1)])
def test_the_default_of_ten_steps_and_its_value_are_the_same_options_and_images(kind, size):
    x, y = small_images()
    told, said = kind(steps=10), kind(steps=10, rel_stepsize=size)
    assert options_of(told) == options_of(said)
    assert options_of(said)["rel_stepsize"] == size
    model, index = small_net(), np.arange(len(x))
    pair = [next(a.perturb(model, x.astype(float), y, [0.1], index=index)) for a in (told, said)]
    np.testing.assert_array_equal(*pair)


def test_the_presets_say_their_step_size():
    assert options_of(make_attack("fgsm-rs"))["rel_stepsize"] == 1.25
    assert options_of(make_attack("i-fgsm"))["rel_stepsize"] == 0.1


def test_another_number_of_steps_has_another_default():
    assert options_of(PGD(steps=40))["rel_stepsize"] == 2.5 / 40
    assert options_of(MIM(steps=40))["rel_stepsize"] == 1 / 40
