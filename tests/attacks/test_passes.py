"""Forward and backward passes that an attack takes of an image, counted by hand."""

import numpy as np
import pytest
from backends_at_hand import NAMES
from small_models import linear, small_images, small_net

from harness import wrap, wrap_function
from harness.attacks import ATTACKS, make_attack
from harness.attacks.deepfool import DeepFool
from harness.attacks.fgsm import FGSM
from harness.attacks.noise import Noise
from harness.attacks.pgd import PGD
from harness.attacks.square import Square
from harness.attacks.strongest import Strongest
from harness.attacks.sweep import sweep
from harness.errors import BatchTooLarge
from harness.maths.objectives import LogOdds
from harness.protocol import differentiable

X = np.array([[0.1], [0.3], [0.6], [0.9]], np.float32)
Y = np.array([0, 0, 1, 1])


def threshold():
    """Of one pixel p: class 1 above one half."""
    return linear([[-1], [1]], [0.5, -0.5])


def passes(attack, epsilons, model=None, x=X, y=Y, **options):
    found = sweep(threshold() if model is None else model, attack, x, y, epsilons, **options)
    return [(one.forwards, one.backwards) for one in found]


def test_one_gradient_serves_a_whole_sweep_and_counts_where_it_is_taken():
    assert passes(FGSM(), [0.0, 0.1, 0.2]) == [(1, 1), (0, 0), (0, 0)]


def test_noise_takes_a_forward_pass_for_each_draw_and_no_gradient():
    # The clean images at each epsilon, and three draws that cross no boundary.
    assert passes(Noise(draws=3), [0.0, 0.01]) == [(1, 0), (1 + 3, 0)]


def test_images_that_leave_early_are_asked_less():
    # Steps of an eighth: 0.6 is misclassified after the first and leaves when that is seen.
    attack = PGD(start="clean", steps=3, losses=("cross-entropy",))
    # Clean 4; gradients at 4, 4 and 3 more images; where these ended, 3.
    (found,) = passes(attack, [0.15])
    assert found == ((4 + 4 + 4 + 3 + 3) / 4, (4 + 4 + 3) / 4)


def test_each_epsilon_counts_what_was_asked_for_it_alone():
    attack = PGD(start="clean", steps=1, rel_stepsize=1.0, losses=("cross-entropy",))
    # The clean images once; then a gradient and the logits after it, of those still classified
    # correctly: 4, then 3 (0.6 is not), then 2 (nor is 0.3), which fall.
    found = passes(attack, [0.0, 0.15, 0.25, 0.45, 0.46])
    assert found == [(1, 0), (2, 1), (1.5, 0.75), (1, 0.5), (0, 0)]


def test_a_search_for_the_nearest_image_counts_at_the_first_epsilon():
    # Per step: the logits, a gradient by the own class and one for each of the two classes, the
    # logits after it. The boundary of a linear model is reached in one.
    assert passes(DeepFool(), [0.1, 0.3]) == [(1 + 1 + 3 + 1, 3), (0, 0)]


def test_square_takes_as_many_forward_passes_as_it_has_steps():
    # No step succeeds at 0.05; the clean images and the last ones are asked, too.
    assert passes(Square(steps=7), [0.05]) == [(1 + 7 + 1, 0)]


def test_an_ensemble_counts_what_its_members_ask():
    one = Strongest(members=(FGSM(), Noise()))
    # Clean 4, the gradient of 4 and what it led to; of the 3 that are left clean logits, two
    # draws, and what these led to.
    assert passes(one, [0.15]) == [((4 + 4 + 4 + 3 + 6 + 3) / 4, 1)]


def test_images_that_are_misclassified_as_they_are_count_as_the_others():
    attack = PGD(start="clean", steps=1, losses=("cross-entropy",))
    # All four are asked as they are; the three others are attacked.
    assert passes(attack, [0.01], y=np.array([1, 0, 1, 1])) == [((4 + 3 + 3) / 4, 3 / 4)]


class Theirs:
    """Somebody's own: two logits and a gradient for each epsilon, all of it before the first."""

    name, norm, requires = "theirs", "linf", frozenset({"gradient"})

    def perturb(self, model, x, y, epsilons, *, index):
        found = []
        for epsilon in epsilons:
            model.logits(x)
            model.logits(x[:1])
            _, gradient = differentiable(model).logits_and_gradient(x, y, LogOdds())
            found.append((x + epsilon * np.sign(gradient)).clip(0, 1))
        return found


def test_passes_of_an_attack_of_somebody_else_count_where_they_are_taken():
    # In two portions of two images: (2 + 1 + 2) forward passes each, for either epsilon.
    found = passes(Theirs(), [0.1, 0.2], batch_size=2)
    assert found == [(2 * 5 / 2, 2), (0, 0)]


@pytest.mark.parametrize("size", [1, 3, 40])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "apgd", "deepfool", "square", "strongest"])
def test_portions_change_no_count_of_attacks_that_leave_singly(name, size):
    options = {} if name in ("fgsm", "deepfool", "strongest") else {"steps": 5}
    attack = make_attack(name, options=options)
    x, y = small_images(40, wrong=40)  # all misclassified: asked once, at most
    found = passes(attack, [0.1], small_net(dtype="float32"), x, y, batch_size=size)
    assert found == [(1, 1 if name == "fgsm" else 0)]


@pytest.mark.parametrize("backend", NAMES)
def test_the_count_is_that_of_every_backend(backend):
    x, y = small_images(12, wrong=2)
    attack = PGD(start="clean", steps=3, losses=("margin",))
    expected = passes(attack, [0.001], small_net(dtype="float32"), x, y)
    assert passes(attack, [0.001], small_net(backend, "float32"), x, y) == expected
    assert expected == [((12 + 10 * 4) / 12, 10 * 3 / 12)]


def scores(x):
    return np.stack([0.5 - x[:, 0], x[:, 0] - 0.5], axis=1)


def test_images_that_are_not_answered_count_nowhere():
    def ask(x):
        if (x == X[2]).any():
            raise ValueError("cannot read this image")
        return scores(x)

    model = wrap_function(ask, outputs="logits")
    assert passes(Square(steps=3), [0.05, 0.06], model) == [(5, 0), (4, 0)]


def test_calls_that_were_too_large_count_once_they_are_made():
    def ask(x):
        if len(x) > 1:
            raise BatchTooLarge("too many")
        return scores(x)

    model = wrap_function(ask, outputs="logits")
    assert passes(Square(steps=3), [0.05], model) == [(5, 0)]


def test_a_model_behind_others_is_counted_once():
    model = wrap(threshold(), preprocessing={"mean": 0.0, "std": 1.0}, channel_axis=0, batch_size=2)
    assert passes(FGSM(), [0.1], model) == [(1, 1)]


def test_no_attack_of_ours_goes_round_the_count():
    x, y = small_images(6, wrong=1)
    for name in sorted(set(ATTACKS) - {"noise"}):
        ((forwards, backwards),) = passes(
            make_attack(name), [0.01], small_net(dtype="float32"), x, y
        )
        assert forwards >= 1, name
        assert ("gradient" in make_attack(name).requires) <= (backwards > 0), name
